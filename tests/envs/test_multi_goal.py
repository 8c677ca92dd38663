"""Mazes whose goal is drawn each episode and shown."""

import numpy as np
import pytest

from langevin.envs.collect import make_dataset
from langevin.envs.stepping import make_simulator
from langevin.envs.tasks import get_task


@pytest.fixture(scope="module")
def data():
    return make_dataset("pointmaze/multi-umaze-v0", 5000, seed=0)


def test_goals_are_drawn_over_all_free_cells_and_shown():
    task = get_task("pointmaze/multi-medium")
    simulator = make_simulator(task, 2000)
    observations = simulator.reset(np.random.default_rng(0))
    assert observations.shape == (2000, 6)
    cells = task.maze.xy_to_cell(observations[:, 4:])
    found = {tuple(cell) for cell in cells.tolist()}
    assert found == {tuple(int(part) for part in cell) for cell in task.maze.free_cells}
    centres = task.maze.cell_to_xy(cells)
    assert np.abs(observations[:, 4:] - centres).max() <= 0.1 + 1e-6
    again = simulator.step(np.zeros((2000, 2)))[0]
    np.testing.assert_array_equal(again[:, 4:], observations[:, 4:])


def test_the_reward_is_for_the_shown_goal():
    task = get_task("pointmaze/multi-umaze")
    simulator = make_simulator(task, 2)
    goal = task.maze.cell_to_xy(np.array([3, 3]))
    elsewhere = task.maze.cell_to_xy(np.array([1, 1]))
    states = np.array([[*goal, 0, 0, *goal], [*goal, 0, 0, *elsewhere]], np.float32)
    simulator.set_state(states)
    assert simulator.step(np.zeros((2, 2)))[1].tolist() == [1, 0]
    after, rewards = simulator.advance(states, np.zeros((2, 2), np.float32))
    assert rewards.tolist() == [1, 0]
    np.testing.assert_array_equal(after[:, 4:], states[:, 4:])


def test_it_moves_as_the_maze_with_one_goal_does():
    rng = np.random.default_rng(0)
    one, many = (make_simulator(get_task(f"pointmaze/{name}"), 8) for name in ("umaze", "multi-umaze"))
    states = one.reset(rng)
    many.set_state(np.concatenate([states, np.zeros((8, 2), np.float32)], axis=1))
    for _ in range(50):
        actions = rng.uniform(-1, 1, (8, 2))
        np.testing.assert_array_equal(one.step(actions)[0], many.step(actions)[0][:, :4])


def test_a_dataset_is_the_stream_of_the_maze_with_one_goal_cut_where_the_goal_changes(data):
    """The same seed drives the same way; what differs is what is shown, paid and called an episode."""
    plain = make_dataset("pointmaze/umaze-v0", 5000, seed=0)
    np.testing.assert_array_equal(data.observations[:, :4], plain.observations)
    np.testing.assert_array_equal(data.actions, plain.actions)
    goals = data.observations[:, 4:]
    changes = np.flatnonzero((goals[1:] != goals[:-1]).any(axis=1)) + 1
    np.testing.assert_array_equal(data.episode_ends[:-1], changes)
    np.testing.assert_array_equal(data.next_observations[:, 4:], goals)
    assert data.episodes > 30


def test_episodes_of_a_dataset_end_at_their_goal(data):
    last = data.episode_ends[:-1] - 1
    distance = np.linalg.norm(data.next_observations[last, :2] - data.next_observations[last, 4:], axis=1)
    assert np.median(distance) < 0.15
    assert (data.rewards[last] == 1).mean() > 0.95
