"""What a plan is told before it is drawn: where it begins, and in a maze where it must be and when."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from langevin.diffusion.constraints import Constraint


def first_state(
    start: Float[Array, " observation"], horizon: int, channels: int
) -> tuple[Constraint, Float[Array, "horizon conditions"]]:
    """The first observation as held entries, and repeated at every row as the condition beside them.

    So every part of a convolutional network knows where the plan begins. Rows are [observation, …].
    """
    held = jnp.zeros((horizon, channels), bool).at[0, : start.size].set(True)
    values = jnp.zeros((horizon, channels)).at[0, : start.size].set(start)
    return Constraint(held, values), jnp.broadcast_to(start, (horizon, start.size))


def endpoints(
    start: Float[Array, " observation"],
    goal: Float[Array, " goal"],
    goal_row: Int[Array, ""],
    horizon: int,
    channels: int,
) -> tuple[Constraint, Float[Array, "horizon conditions"]]:
    """First observation and position at `goal_row`, as held entries and as the condition beside them.

    The condition repeats both at every row, with one channel that marks `goal_row` and one that says how much of
    the way to it each row has behind it, so that every part of a convolutional network knows where it stands.
    """
    rows = jnp.arange(horizon)
    first, told_start = first_state(start, horizon, channels)
    is_goal = (rows == goal_row)[:, None] & (jnp.arange(channels) < goal.size)[None]
    values = jnp.where(is_goal, jnp.zeros(channels).at[: goal.size].set(goal), first.values)
    clock = jnp.clip(rows / jnp.maximum(goal_row, 1), 0.0, 1.0)
    condition = jnp.concatenate(
        [
            told_start,
            jnp.broadcast_to(goal, (horizon, goal.size)),
            (rows == goal_row).astype(jnp.float32)[:, None],
            clock[:, None],
        ],
        axis=-1,
    )
    return Constraint(first.held | is_goal, values), condition
