"""Batches drawn on the device, inside jit: single transitions and windows of consecutive rows."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from langevin.data.trajectories import Trajectories
from langevin.errors import UsageError


class Transitions(eqx.Module):
    """Transitions on the leading axis, in raw units."""

    observations: Float[Array, "*rows observation"]
    actions: Float[Array, "*rows action"]
    rewards: Float[Array, "*rows"]
    terminations: Float[Array, "*rows"]
    """1 where the environment ended the episode; a truncation is 0, for its value goes on."""
    next_observations: Float[Array, "*rows observation"]

    @property
    def size(self) -> int:
        return self.rewards.shape[0]


def transitions_of(trajectories: Trajectories) -> Transitions:
    """All transitions, on the device."""
    return Transitions(
        observations=jnp.asarray(trajectories.observations),
        actions=jnp.asarray(trajectories.actions),
        rewards=jnp.asarray(trajectories.rewards),
        terminations=jnp.asarray(trajectories.terminations, jnp.float32),
        next_observations=jnp.asarray(trajectories.next_observations),
    )


def sample_transitions(transitions: Transitions, batch_size: int, *, key: Key[Array, ""]) -> Transitions:
    """`batch_size` rows, uniform with replacement."""
    rows = jax.random.randint(key, (batch_size,), 0, transitions.size)
    return jax.tree.map(lambda array: array[rows], transitions)


class Windows(eqx.Module):
    """Flat rows and the starts of every window of `horizon` rows that stays inside one episode."""

    observations: Float[Array, "rows observation"]
    actions: Float[Array, "rows action"]
    rewards: Float[Array, " rows"]
    starts: Int[Array, " windows"]
    lengths: Int[Array, " windows"]
    """Rows of the window that are real: `horizon`, or fewer for an episode shorter than that."""
    horizon: int = eqx.field(static=True)

    @property
    def size(self) -> int:
        """Number of windows."""
        return self.starts.shape[0]


class WindowBatch(eqx.Module):
    """Windows on the leading axis; where the mask is False the episode's last row is repeated."""

    observations: Float[Array, "batch horizon observation"]
    actions: Float[Array, "batch horizon action"]
    rewards: Float[Array, "batch horizon"]
    mask: Bool[Array, "batch horizon"]


def windows_of(trajectories: Trajectories, horizon: int) -> Windows:
    """Every window of `horizon` rows at stride 1; an episode shorter than that gives one padded window."""
    if horizon < 1:
        raise UsageError(f"horizon must be at least 1 row, got {horizon}")
    episode_lengths = trajectories.episode_lengths()
    counts = np.maximum(episode_lengths - horizon + 1, 1)
    first_windows = np.cumsum(counts) - counts
    offsets = np.arange(counts.sum()) - np.repeat(first_windows, counts)
    starts = np.repeat(trajectories.episode_starts, counts) + offsets
    lengths = np.repeat(np.minimum(episode_lengths, horizon), counts)
    return Windows(
        observations=jnp.asarray(trajectories.observations),
        actions=jnp.asarray(trajectories.actions),
        rewards=jnp.asarray(trajectories.rewards),
        starts=jnp.asarray(starts, jnp.int32),
        lengths=jnp.asarray(lengths, jnp.int32),
        horizon=horizon,
    )


def sample_windows(windows: Windows, batch_size: int, *, key: Key[Array, ""]) -> WindowBatch:
    """`batch_size` windows, every start equally likely, with replacement."""
    return windows_at(windows, jax.random.randint(key, (batch_size,), 0, windows.size))


def windows_at(windows: Windows, chosen: Int[Array, " batch"]) -> WindowBatch:
    """The windows of these numbers."""
    steps = jnp.arange(windows.horizon)
    lengths = windows.lengths[chosen][:, None]
    rows = windows.starts[chosen][:, None] + jnp.minimum(steps, lengths - 1)
    return WindowBatch(
        observations=windows.observations[rows],
        actions=windows.actions[rows],
        rewards=windows.rewards[rows],
        mask=steps < lengths,
    )
