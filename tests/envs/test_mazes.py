import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.envs.mazes import LARGE, MEDIUM, UMAZE, Maze, waypoint_action
from langevin.envs.tasks import get_task
from langevin.errors import UsageError

MAZES = {"umaze": UMAZE, "medium": MEDIUM, "large": LARGE}
EVERY_MAZE = pytest.mark.parametrize("maze", MAZES.values(), ids=MAZES)


def test_walls_and_coordinates_are_gymnasium_robotics(maze_name, make_gymnasium):
    theirs = make_gymnasium(maze_name).unwrapped.maze
    ours = MAZES[maze_name]
    np.testing.assert_array_equal(ours.walls, np.array(theirs.maze_map) == 1)
    for cell in np.ndindex(ours.shape):
        centre = theirs.cell_rowcol_to_xy(np.array(cell))
        np.testing.assert_array_equal(ours.cell_to_xy(np.array(cell)), centre)
        np.testing.assert_array_equal(ours.xy_to_cell(centre), cell)


@pytest.mark.parametrize(
    ("name", "free", "goal"), [("umaze", 7, (1, 1)), ("medium", 26, (6, 6)), ("large", 46, (7, 9))]
)
def test_free_cells_and_goals_are_d4rls(name, free, goal):
    assert len(MAZES[name].free_cells) == free
    assert MAZES[name].goal_cell == goal


@EVERY_MAZE
def test_exactly_the_points_of_free_cells_are_legal(maze):
    rng = np.random.default_rng(0)
    for cell in np.ndindex(maze.shape):
        inside = maze.cell_to_xy(np.array(cell)) + rng.uniform(-0.499, 0.499, (20, 2))
        assert (maze.legal(inside) == (cell in maze.free_cells)).all()


def test_legality_turns_at_the_wall_itself():
    # The first free cell of the U spans x in [-1.5, -0.5]; the wall to its left begins at -1.5.
    assert UMAZE.legal(np.array([-1.499, 1.0]))
    assert not UMAZE.legal(np.array([-1.501, 1.0]))


def test_points_outside_or_not_numbers_are_not_legal():
    points = np.array([[100.0, 0.0], [0.0, -100.0], [-1e30, 1e30], [np.nan, 1.0], [1.0, np.inf]])
    assert not UMAZE.legal(points).any()
    assert not jax.jit(UMAZE.legal)(jnp.asarray(points)).any()


@EVERY_MAZE
def test_legal_inside_jit_equals_numpy_for_any_leading_axes(maze):
    points = np.random.default_rng(1).uniform(-7, 7, (5, 40, 2)).astype(np.float32)
    legal = maze.legal(points)
    assert legal.any()
    assert not legal.all()
    np.testing.assert_array_equal(jax.jit(maze.legal)(jnp.asarray(points)), legal)
    np.testing.assert_array_equal(jax.vmap(maze.legal)(jnp.asarray(points)), legal)


@EVERY_MAZE
def test_shortest_paths_go_through_free_neighbours_and_are_as_long_as_the_distances_say(maze):
    for target in maze.free_cells:
        distances = maze.distances(target)
        for start in maze.free_cells:
            path = maze.shortest_path(start, target)
            assert path[0] == start
            assert path[-1] == target
            assert len(path) == distances[start] + 1
            assert set(path) <= set(maze.free_cells)
            steps = np.abs(np.diff(path, axis=0)).sum(axis=1) if len(path) > 1 else np.ones(0)
            assert (steps == 1).all()


def test_distances_satisfy_the_triangle_between_neighbours():
    distances = LARGE.distances((7, 9))
    assert (distances[LARGE.walls] == -1).all()
    for cell in LARGE.free_cells:
        around = [distances[neighbour] for neighbour in LARGE.neighbours(cell)]
        assert distances[cell] == (0 if cell == (7, 9) else min(around) + 1)


def test_the_u_is_seven_cells_long():
    assert UMAZE.shortest_path((3, 1), (1, 1)) == [(3, 1), (3, 2), (3, 3), (2, 3), (1, 3), (1, 2), (1, 1)]


def test_a_path_from_a_wall_or_to_a_cell_cut_off_is_refused():
    with pytest.raises(UsageError, match=r"cell \(2, 1\) is not free"):
        UMAZE.shortest_path((2, 1), (1, 1))
    with pytest.raises(UsageError, match=r"cell \(9, 9\) is not free"):
        UMAZE.shortest_path((1, 1), (9, 9))
    two_rooms = Maze(("#####", "#.#.#", "#####"), (1, 1))
    assert two_rooms.distances((1, 1))[1, 3] == -1
    with pytest.raises(UsageError, match="no way leads from cell"):
        two_rooms.shortest_path((1, 3), (1, 1))


@pytest.mark.parametrize(
    ("layout", "goal", "message"),
    [
        (("###", "#.#", "####"), (1, 1), "equally long"),
        (("###", "#x#", "###"), (1, 1), "made of '#'"),
        (("###", "#..", "###"), (1, 1), "border must be walls"),
        (("###", "#.#", "###"), (0, 0), r"goal cell \(0, 0\) is not a free cell"),
        (("###", "#.#", "###"), (1, 7), r"goal cell \(1, 7\) is not a free cell"),
    ],
)
def test_a_maze_that_cannot_be_is_refused(layout, goal, message):
    with pytest.raises(UsageError, match=message):
        Maze(layout, goal)


def test_the_waypoint_law_is_proportional_with_damping_inside_its_bounds():
    observation = np.array([1.0, 2.0, 0.3, -0.2])
    waypoint = np.array([1.05, 1.96])
    np.testing.assert_allclose(waypoint_action(observation, waypoint), [10 * 0.05 - 0.3, 10 * -0.04 + 0.2])
    np.testing.assert_array_equal(waypoint_action(observation, np.array([9.0, -9.0])), [1, -1])
    inside_jit = jax.jit(waypoint_action)(jnp.asarray(observation), jnp.asarray(waypoint))
    np.testing.assert_allclose(inside_jit, waypoint_action(observation, waypoint), rtol=1e-4)


def test_a_maze_can_be_a_static_field():
    assert hash(UMAZE) == hash(Maze(UMAZE.layout, UMAZE.goal_cell))
    assert get_task("pointmaze/umaze").maze == UMAZE
