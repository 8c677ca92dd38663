"""Maze pictures: what is legal, what is counted, what is drawn where."""

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex

from langevin.envs.mazes import MEDIUM, UMAZE
from langevin.report.mazes import draw_maze, draw_paths, legal_paths, plans_and_paths, two_panel_rollouts
from langevin.report.style import color, new_figure

# In U-Maze the goal is at (-1, 1), and the cell below it, (-1, 0), is wall.
ALONG_THE_TOP = [[1.0, 1.0], [0.0, 1.0], [-1.0, 1.0]]
THROUGH_THE_WALL = [[-1.0, -1.0], [-1.0, 0.0], [-1.0, 1.0]]


def test_a_path_is_legal_when_none_of_its_states_is_in_a_wall():
    paths = np.array([ALONG_THE_TOP, THROUGH_THE_WALL])
    np.testing.assert_array_equal(legal_paths(UMAZE, paths), [True, False])


def test_states_that_are_not_numbers_only_end_a_path():
    paths = np.array([ALONG_THE_TOP, THROUGH_THE_WALL])
    paths[:, 2] = np.nan
    np.testing.assert_array_equal(legal_paths(UMAZE, paths), [True, False])


@pytest.mark.parametrize("maze", [UMAZE, MEDIUM])
def test_walls_and_goal_are_drawn_where_the_maze_has_them(maze):
    figure = new_figure(3, 3)
    ax = figure.subplots()
    draw_maze(ax, maze)
    image = ax.images[0]
    left, right, bottom, top = image.get_extent()
    rows, columns = maze.shape
    grey = image.cmap(1.0)
    shown = image.cmap(image.norm(image.get_array()))
    for row in range(rows):
        for column in range(columns):
            x, y = maze.cell_to_xy(np.array([row, column]))
            drawn = shown[int((top - y) / (top - bottom) * rows), int((x - left) / (right - left) * columns)]
            assert tuple(drawn) == grey if maze.walls[row, column] else tuple(drawn) != grey
    star = next(line for line in ax.lines if line.get_marker() == "*")
    np.testing.assert_allclose([star.get_xdata()[0], star.get_ydata()[0]], maze.goal)


def test_illegal_paths_have_their_own_colour_and_lie_on_top():
    figure = new_figure(3, 3)
    ax = figure.subplots()
    draw_paths(ax, UMAZE, np.array([ALONG_THE_TOP, THROUGH_THE_WALL, ALONG_THE_TOP]))
    legal, illegal = (part for part in ax.collections if isinstance(part, LineCollection))
    assert (len(legal.get_segments()), len(illegal.get_segments())) == (2, 1)
    assert to_hex(illegal.get_color()[0]) == color("vermillion") != to_hex(legal.get_color()[0])
    assert illegal.get_zorder() > legal.get_zorder()
    np.testing.assert_allclose(illegal.get_segments()[0], THROUGH_THE_WALL)


def test_the_two_panels_count_their_legal_paths():
    left = np.array([THROUGH_THE_WALL] * 3 + [ALONG_THE_TOP])
    figure = two_panel_rollouts(UMAZE, left, np.array([ALONG_THE_TOP] * 5), titles=("Ensemble", "k = 2"))
    titles = [(ax.get_title("left"), ax.get_title("right")) for ax in figure.axes]
    assert titles == [("Ensemble", "1 of 4 paths legal (25%)"), ("k = 2", "5 of 5 paths legal (100%)")]


def test_a_given_mask_is_believed():
    paths = np.array([ALONG_THE_TOP] * 2)
    masks = (np.array([True, False]), np.array([False, False]))
    figure = two_panel_rollouts(UMAZE, paths, paths, legal=masks)
    assert [ax.get_title("right")[:1] for ax in figure.axes] == ["1", "0"]


@pytest.mark.parametrize(("episodes", "panels"), [(1, 1), (4, 4), (9, 6)])
def test_plans_stand_over_the_paths_of_at_most_six_episodes(episodes, panels):
    plans = np.tile(np.array(ALONG_THE_TOP), (episodes, 1, 1))
    executed = np.tile(np.linspace([1.0, 1.0], [-1.0, 1.0], 7), (episodes, 1, 1))
    shown = [ax for ax in plans_and_paths(UMAZE, plans, executed).axes if ax.get_visible()]
    assert len(shown) == panels
    lengths = sorted(len(line.get_xdata()) for line in shown[0].lines)
    assert lengths == [1, 1, 3, 7]
