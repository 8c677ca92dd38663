"""Windows that begin in any row, each with what its episode still earned from there on."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from langevin.data.contexts import last_rows, returns_to_go
from langevin.data.sampling import Transitions, WindowBatch, Windows, windows_at
from langevin.data.trajectories import Trajectories
from langevin.errors import UsageError, require_between


class ReturnWindows(eqx.Module):
    """Windows, and for every row the discounted return from it to the end of its episode."""

    windows: Windows
    returns: Float[Array, " rows"]


def return_windows(trajectories: Trajectories, horizon: int, discount: float) -> ReturnWindows:
    """A window of `horizon` rows from every row on, padded where the episode ends before, with its return.

    Windows that all fit in an episode would never show how one ends: of `discount` per environment step, R_t is the sum
    to the end of the episode and not of the window alone. Raises UsageError for a discount outside [0, 1].
    """
    require_between(0, 1, discount=discount)
    starts = np.arange(trajectories.transitions)
    lengths = np.minimum(last_rows(trajectories) - starts + 1, horizon)
    windows = Windows(
        observations=jnp.asarray(trajectories.observations),
        actions=jnp.asarray(trajectories.actions),
        rewards=jnp.asarray(trajectories.rewards),
        starts=jnp.asarray(starts, jnp.int32),
        lengths=jnp.asarray(lengths, jnp.int32),
        horizon=horizon,
    )
    return ReturnWindows(windows, jnp.asarray(returns_to_go(trajectories, discount)))


def sample_return_windows(
    data: ReturnWindows, batch_size: int, *, key: Key[Array, ""]
) -> tuple[WindowBatch, Float[Array, " batch"]]:
    """`batch_size` windows, every row equally likely to begin one, with replacement; beside each its return."""
    chosen = jax.random.randint(key, (batch_size,), 0, data.windows.size)
    return windows_at(data.windows, chosen), data.returns[data.windows.starts[chosen]]


def jumps_of(trajectories: Trajectories, steps: int) -> Transitions:
    """Each row with where its episode was `steps` steps later, which for 1 is its successor.

    Its action and reward are the row's own; terminations are those of the last step. Rows whose episode ends before
    are left out. Raises UsageError when all do.
    """
    ahead = np.arange(trajectories.transitions) + steps - 1
    rows = np.flatnonzero(ahead <= last_rows(trajectories))
    if rows.size == 0:
        raise UsageError(
            f"no episode has {steps} transitions, so nothing shows where a system is {steps} steps later; "
            f"the longest has {trajectories.episode_lengths().max()}: set planner.stride to that or less"
        )
    ahead = ahead[rows]
    return Transitions(
        observations=jnp.asarray(trajectories.observations[rows]),
        actions=jnp.asarray(trajectories.actions[rows]),
        rewards=jnp.asarray(trajectories.rewards[rows]),
        terminations=jnp.asarray(trajectories.terminations[ahead], jnp.float32),
        next_observations=jnp.asarray(trajectories.next_observations[ahead]),
    )
