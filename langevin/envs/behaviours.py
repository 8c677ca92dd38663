"""Reference behaviours in the point mazes, from good to hopeless, usable inside jit.

They stand in for policies of different quality when a world model is examined: what it says of actions the data
holds, of actions no one would take, and of a policy that wants to go through walls.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from langevin.envs.mazes import Maze, waypoint_action


def straight_to(goal: Any, observations: Float[Array, "batch 4"]) -> Float[Array, "batch 2"]:
    """Drive straight at the goal, walls or not: right where the way is clear, through walls elsewhere."""
    return waypoint_action(
        observations, jnp.broadcast_to(jnp.asarray(goal, jnp.float32), (len(observations), 2))
    )


def next_cells(maze: Maze) -> Float[np.ndarray, "rows columns 2"]:
    """For every free cell, the centre of the next cell on the shortest way to the goal's (its own for the goal)."""
    rows, columns = maze.shape
    table = np.zeros((rows, columns, 2), np.float32)
    for cell in maze.free_cells:
        path = maze.shortest_path(cell, maze.goal_cell)
        following = path[1] if len(path) > 1 else path[0]
        table[cell] = maze.cell_to_xy(np.asarray(following))
    return table


def along_the_way(
    maze: Maze, table: Float[np.ndarray, "rows columns 2"], observations: Float[Array, "batch 4"]
) -> Float[Array, "batch 2"]:
    """Drive to the goal around the walls, cell by cell: the data's controller, always with the task's goal."""
    cells = maze.xy_to_cell(observations[:, :2])
    return waypoint_action(observations, jnp.asarray(table)[cells[..., 0], cells[..., 1]])


def wandering_actions(
    rollouts: int, horizon: int, action_size: int, *, persistence: float = 0.95, key: PRNGKeyArray
) -> Float[Array, "rollouts horizon action"]:
    """Ornstein-Uhlenbeck noise of unit variance, clipped to [-1, 1]: random but with momentum."""

    def advance(value: Array, noise: Array) -> tuple[Array, Array]:
        value = persistence * value + jnp.sqrt(1 - persistence**2) * noise
        return value, value

    first_key, key = jax.random.split(key)
    noise = jax.random.normal(key, (horizon, rollouts, action_size))
    _, values = jax.lax.scan(advance, jax.random.normal(first_key, (rollouts, action_size)), noise)
    return jnp.clip(jnp.moveaxis(values, 0, 1), -1.0, 1.0)
