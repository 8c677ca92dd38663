"""The reference behaviours: the good one arrives, the medium one is stopped by walls, the random one wanders."""

import jax
import jax.numpy as jnp
import numpy as np

from langevin.envs.behaviours import along_the_way, next_cells, straight_to, wandering_actions
from langevin.envs.stepping import make_simulator
from langevin.envs.tasks import get_task


def final_distances(task, act, steps=300, copies=60):
    simulator = make_simulator(task, copies)
    observations = simulator.reset(np.random.default_rng(0))
    act = jax.jit(act)
    for _ in range(steps):
        observations = simulator.step(np.asarray(act(jnp.asarray(observations))))[0]
    return np.linalg.norm(observations[:, :2] - task.maze.goal, axis=1)


def test_the_good_behaviour_reaches_the_goal_from_everywhere():
    task = get_task("pointmaze/medium")
    table = next_cells(task.maze)
    assert (final_distances(task, lambda rows: along_the_way(task.maze, table, rows)) < 0.5).all()


def test_driving_straight_arrives_only_where_no_wall_is_in_the_way():
    task = get_task("pointmaze/umaze")
    distances = final_distances(task, lambda rows: straight_to(task.maze.goal, rows))
    assert 0.1 < (distances < 0.5).mean() < 0.9


def test_the_next_cell_is_one_step_nearer_the_goal():
    maze = get_task("pointmaze/large").maze
    table, distances = next_cells(maze), maze.distances(maze.goal_cell)
    for cell in maze.free_cells:
        following = tuple(maze.xy_to_cell(table[cell]).tolist())
        assert distances[following] == max(distances[cell] - 1, 0)


def test_random_actions_wander_with_momentum_within_their_bounds():
    """Each row's correlation with the next is the persistence, but for the clipping at +-1."""
    actions = np.asarray(wandering_actions(500, 100, 2, persistence=0.9, key=jax.random.key(0)))
    assert actions.shape == (500, 100, 2)
    assert np.abs(actions).max() == 1
    small = np.asarray(wandering_actions(500, 100, 2, persistence=0.0, key=jax.random.key(0)))
    for rows, expected in ((actions, 0.9), (small, 0.0)):
        found = np.corrcoef(rows[:, :-1].ravel(), rows[:, 1:].ravel())[0, 1]
        assert abs(found - expected) < 0.05
    assert abs((np.abs(actions) == 1).mean() - 0.3173) < 0.03, "the share of a unit Gaussian beyond +-1"
    assert np.isclose(actions[:, 0].std(), actions[:, -1].std(), rtol=0.1), "stationary from the first row on"
