import threading

import numpy as np
import pytest

from langevin.envs.mazes import waypoint_action
from langevin.envs.stepping import make_simulator
from langevin.envs.tasks import get_task
from langevin.errors import UsageError


class Waypoints:
    """Follows the shortest path to the goal by D4RL's law."""

    def __init__(self, maze, observation):
        start = tuple(maze.xy_to_cell(observation[:2]).tolist())
        self.waypoints = list(maze.cell_to_xy(np.array(maze.shortest_path(start, maze.goal_cell))))

    def __call__(self, observation):
        if len(self.waypoints) > 1 and np.linalg.norm(self.waypoints[0] - observation[:2]) < 0.1:
            self.waypoints.pop(0)
        return waypoint_action(observation, self.waypoints[0])


class Pushes:
    """Pushes one way for forty steps at a time, hard into the walls, beyond the bounds of the action."""

    def __init__(self, rng):
        self.rng, self.steps = rng, 0

    def __call__(self, observation):
        if self.steps % 40 == 0:
            self.action = self.rng.choice([-1.5, -1.0, 0.0, 1.0, 1.5], 2)
        self.steps += 1
        return self.action


def test_whole_episodes_equal_gymnasiums_bit_for_bit(maze_name, make_gymnasium):
    """Three copies side by side, each against an environment of its own."""
    task = get_task(f"pointmaze/{maze_name}")
    rng = np.random.default_rng(0)
    environments = [make_gymnasium(maze_name) for _ in range(3)]
    observations = np.stack(
        [environment.reset(seed=seed)[0]["observation"] for seed, environment in enumerate(environments)]
    )
    theirs = environments[0].unwrapped.maze
    goal = theirs.cell_rowcol_to_xy(np.array(task.maze.goal_cell))
    controllers = [
        lambda observation: rng.uniform(-1, 1, 2),
        Waypoints(task.maze, observations[1]),
        Pushes(rng),
    ]
    simulator = make_simulator(task, batch_size=3, threads=2)
    simulator.set_state(observations)
    fastest, rewarded = 0.0, 0.0
    for step in range(task.max_steps):
        actions = np.stack([control(row) for control, row in zip(controllers, observations, strict=True)])
        ours, rewards, terminations = simulator.step(actions)
        results = [
            environment.step(action) for environment, action in zip(environments, actions, strict=True)
        ]
        observations = np.stack([result[0]["observation"] for result in results])
        np.testing.assert_array_equal(ours, observations.astype(np.float32), err_msg=f"step {step}")
        expected = np.linalg.norm(observations[:, :2] - goal, axis=1) <= 0.5
        np.testing.assert_array_equal(rewards, expected.astype(np.float32), err_msg=f"step {step}")
        assert not terminations.any()
        assert not any(terminated for _, _, terminated, _, _ in results)
        ended = [truncated for _, _, _, truncated, _ in results]
        assert ended == [step == task.max_steps - 1] * 3, "the clock of the task is not the environment's"
        fastest, rewarded = max(fastest, np.abs(observations[:, 2:]).max()), rewarded + rewards[1]
    assert fastest > 5, "the speed limit was never tried"
    assert rewarded > 0, "the controller never came near the goal"


def test_advance_equals_gymnasium_from_any_state(maze_name, make_gymnasium):
    task = get_task(f"pointmaze/{maze_name}")
    rng = np.random.default_rng(1)
    count = 200
    centres = task.maze.cell_to_xy(rng.choice(task.maze.free_cells, count))
    states = np.concatenate(
        [centres + rng.uniform(-0.4, 0.4, (count, 2)), rng.uniform(-6, 6, (count, 2))], axis=1
    )
    states, actions = states.astype(np.float32), rng.uniform(-1.2, 1.2, (count, 2)).astype(np.float32)
    point = make_gymnasium(maze_name).unwrapped.point_env
    expected = []
    for state, action in zip(states, actions, strict=True):
        point.set_state(state[:2].astype(np.float64), state[2:].astype(np.float64))
        expected.append(point.step(action.astype(np.float64))[0])
    advanced, rewards = make_simulator(task, batch_size=1).advance(states, actions)
    np.testing.assert_array_equal(rewards, task.reward(states, actions, advanced))
    np.testing.assert_allclose(advanced, expected, rtol=0, atol=2e-6)


@pytest.fixture
def simulator():
    return make_simulator(get_task("pointmaze/medium"), batch_size=4)


def test_advance_is_a_pure_function_of_each_row(simulator):
    rng = np.random.default_rng(2)
    states = simulator.reset(rng)
    actions = rng.uniform(-1, 1, (4, 2)).astype(np.float32)
    first, _ = simulator.advance(states, actions)
    np.testing.assert_array_equal(simulator.advance(states[::-1], actions[::-1])[0][::-1], first)
    np.testing.assert_array_equal(simulator.advance(states[2:3], actions[2:3])[0], first[2:3])
    np.testing.assert_array_equal(simulator.step(actions)[0], first)


def test_advance_leaves_the_simulators_own_state_alone(simulator):
    rng = np.random.default_rng(3)
    start = simulator.reset(rng)
    actions = np.ones((4, 2), np.float32)
    expected = simulator.step(actions)[0]
    simulator.set_state(start)
    simulator.advance(start, -actions)
    np.testing.assert_array_equal(simulator.step(actions)[0], expected)


def test_many_threads_may_call_advance_at_once(simulator):
    rng = np.random.default_rng(4)
    states = np.repeat(simulator.reset(rng), 100, axis=0)
    actions = rng.uniform(-1, 1, (400, 2)).astype(np.float32)
    expected, results = simulator.advance(states, actions)[0], []
    threads = [
        threading.Thread(target=lambda: results.append(simulator.advance(states, actions)[0]))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert all(np.array_equal(result, expected) for result in results)


def test_the_number_of_threads_does_not_change_the_numbers():
    task = get_task("pointmaze/large")
    actions = np.random.default_rng(5).uniform(-1, 1, (50, 16, 2))
    runs = []
    for threads in (1, 3):
        simulator = make_simulator(task, 16, threads=threads)
        simulator.reset(np.random.default_rng(6))
        runs.append([simulator.step(action)[0] for action in actions])
    np.testing.assert_array_equal(*runs)


def test_episodes_start_at_rest_near_the_centre_of_every_free_cell_alike(maze_name):
    task = get_task(f"pointmaze/{maze_name}")
    count = 200 * len(task.maze.free_cells)
    start = make_simulator(task, count).reset(np.random.default_rng(7))
    assert (start[:, 2:] == 0).all()
    cells = task.maze.xy_to_cell(start[:, :2])
    offsets = start[:, :2] - task.maze.cell_to_xy(cells)
    assert 0.099 < np.abs(offsets).max() < 0.1001
    np.testing.assert_allclose(offsets.std(axis=0), 0.1 / np.sqrt(3), rtol=0.1)
    seen, counts = np.unique(cells, axis=0, return_counts=True)
    assert [tuple(cell) for cell in seen.tolist()] == list(task.maze.free_cells)
    assert ((counts - 200) ** 2 / 200).sum() < len(counts) + 5 * np.sqrt(2 * len(counts))


def test_the_same_generator_gives_the_same_starts(simulator):
    first = simulator.reset(np.random.default_rng(8))
    np.testing.assert_array_equal(simulator.reset(np.random.default_rng(8)), first)
    assert (simulator.reset(np.random.default_rng(9)) != first).any()


def test_wrong_shapes_and_empty_batches_are_refused(simulator):
    task = get_task("pointmaze/medium")
    with pytest.raises(UsageError, match=r"actions of shape \(4, 2\), got \(3, 2\)"):
        simulator.step(np.zeros((3, 2)))
    with pytest.raises(UsageError, match=r"states of shape \(4, 4\), got \(5, 4\)"):
        simulator.set_state(np.zeros((5, 4)))
    with pytest.raises(UsageError, match="at least one environment, got batch_size 0"):
        make_simulator(task, 0)
    with pytest.raises(UsageError, match="at least one thread, got -1"):
        make_simulator(task, 1, threads=-1)


def test_actions_that_are_not_numbers_are_refused(simulator):
    with pytest.raises(UsageError, match="actions must be finite"):
        simulator.step(np.full((4, 2), np.nan))
