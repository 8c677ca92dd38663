"""Stretches of an episode that end in any of its rows, and what was still to be earned from each row on."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float32, Int, Int64, Key

from langevin.data.trajectories import Trajectories


def steps_before(trajectories: Trajectories) -> Int64[np.ndarray, " transitions"]:
    """How many rows of the same episode stand before each row."""
    starts = np.repeat(trajectories.episode_starts, trajectories.episode_lengths())
    return np.arange(trajectories.transitions) - starts


def last_rows(trajectories: Trajectories) -> Int64[np.ndarray, " transitions"]:
    """Number of the row that ends each row's episode."""
    return np.repeat(trajectories.episode_ends - 1, trajectories.episode_lengths())


def returns_to_go(trajectories: Trajectories, discount: float = 1.0) -> Float32[np.ndarray, " transitions"]:
    """R_t = sum over t' >= t of discount^(t' - t) r_t', to the end of the episode, its last reward included."""
    ends, lengths = trajectories.episode_ends, trajectories.episode_lengths()
    rewards = trajectories.rewards.astype(np.float64)
    result, following = np.zeros_like(rewards), np.zeros(len(ends))
    for back in range(1, lengths.max() + 1):
        longer = lengths >= back
        rows = ends[longer] - back
        following[longer] = rewards[rows] + discount * following[longer]
        result[rows] = following[longer]
    return result.astype(np.float32)


def average_rewards_to_go(trajectories: Trajectories) -> Float32[np.ndarray, " transitions"]:
    """Return-to-go by remaining step: of what was logged, or after a termination of the longest episode logged.

    A terminated episode earns nothing in the steps it did not live to see (Emmons et al. 2022, whose code divides by
    the longest episode's steps); of one that was cut off by the clock or the log, nobody knows.
    """
    longest = trajectories.episode_lengths().max()
    terminated = trajectories.terminations[last_rows(trajectories)]
    steps = steps_before(trajectories)
    logged = np.repeat(trajectories.episode_lengths(), trajectories.episode_lengths())
    remaining = np.where(terminated, longest, logged) - steps
    return (returns_to_go(trajectories) / remaining).astype(np.float32)


def sample_contexts(
    steps: Int[Array, " rows"], length: int, batch_size: int, *, key: Key[Array, ""]
) -> tuple[Int[Array, "batch length"], Bool[Array, "batch length"]]:
    """Row numbers of `batch_size` contexts of up to `length` rows of one episode, and which of them are real.

    `steps` are the rows' places in their episodes. Every row is equally likely to be a context's last. One that begins
    with its episode is padded on the left, where its first row is repeated and the mask is False.
    """
    last = jax.random.randint(key, (batch_size, 1), 0, steps.size)
    back = jnp.arange(length - 1, -1, -1)
    return last - jnp.minimum(back, steps[last]), back <= steps[last]
