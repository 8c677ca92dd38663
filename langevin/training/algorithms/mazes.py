"""What planners to a goal share: which numbers of an observation are state and place, and the goal itself."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from langevin.data.sampling import Windows, windows_of
from langevin.data.trajectories import Trajectories
from langevin.diffusion.chain_sampler import ChainSampling
from langevin.errors import UsageError
from langevin.training.algorithms.system import System

STATE_SIZE, POSITION_SIZE = 4, 2
"""Of a point in a maze: position and velocity, and the position alone."""


def state_windows(trajectories: Trajectories, steps: int) -> Windows:
    """Windows of so many rows, of states without the goal that an observation may show after them."""
    windows = windows_of(trajectories, steps)
    return eqx.tree_at(lambda w: w.observations, windows, windows.observations[:, :STATE_SIZE])


def goal_of(system: System, goal_size: int, setting: str) -> Float[Array, " goal"] | None:
    """The task's goal; None where every observation shows its own.

    Raises UsageError for a task without one, and for plans held at anything but its position. setting: the name of
    `goal_size`, for the error.
    """
    maze = system.task.maze
    if maze is None:
        raise UsageError(
            f"{setting} is {goal_size}, and task {system.task.id} has no goal; set it to 0, or choose a pointmaze task"
        )
    if goal_size != POSITION_SIZE:
        raise UsageError(
            f"a plan in {system.task.id} is held at its goal's position, got {setting} {goal_size}; "
            f"set it to {POSITION_SIZE}"
        )
    return None if system.task.drawn_goals else jnp.asarray(maze.goal, jnp.float32)


def require_fresh_plans(sampling: ChainSampling) -> None:
    """Raises UsageError for a sampler that renews plans: those to a goal are drawn anew."""
    if sampling.renewed_steps:
        raise UsageError("sampling.renewed_steps must be 0 with a goal: such plans are drawn anew")
