"""How a plan becomes an action."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

ControllerName = Literal["waypoint", "inverse", "actions"]

POSITION_GAIN = 10.0
"""Of D4RL's waypoint controller, action per unit of distance; its velocity gain is 1."""


def follow_waypoints(
    observations: Float[Array, "batch observation"],
    planned: Float[Array, "batch horizon observation"],
    row: Int[Array, " batch"],
    goal_row: Int[Array, " batch"],
) -> Float[Array, "batch action"]:
    """D4RL's PD law towards the next planned state: 10 (position* - position) + (velocity* - velocity).

    Observations are [x, y, vx, vy]. From `goal_row` on it holds that row's position at rest. This is a hand-written
    controller that knows the system is a force-driven point: a score reached with it is the planner's and the
    controller's together.
    """
    target = _at(planned, jnp.minimum(row + 1, goal_row))
    at_rest = (row >= goal_row)[:, None].astype(target.dtype)
    velocity = target[:, 2:4] * (1 - at_rest)
    return POSITION_GAIN * (target[:, :2] - observations[:, :2]) + velocity - observations[:, 2:4]


def follow_inverse(
    inverse_action: Callable[[Array, Array], Array],
    observations: Float[Array, "batch observation"],
    planned: Float[Array, "batch horizon observation"],
    row: Int[Array, " batch"],
    goal_row: Int[Array, " batch"],
    stride: int,
) -> Float[Array, "batch action"]:
    """What leads to the state planned for `stride` steps later, or to the goal's once that is nearer.

    inverse_action: (observation, planned observation) -> action, learned from data.
    """
    return jax.vmap(inverse_action)(observations, _at(planned, jnp.minimum(row + stride, goal_row)))


def follow_actions(
    planned_actions: Float[Array, "batch horizon action"], row: Int[Array, " batch"]
) -> Float[Array, "batch action"]:
    """The plan's own action at this row."""
    return _at(planned_actions, row)


def _at(
    plans: Float[Array, "batch horizon channels"], row: Int[Array, " batch"]
) -> Float[Array, "batch channels"]:
    return jnp.take_along_axis(plans, row[:, None, None], axis=1)[:, 0]
