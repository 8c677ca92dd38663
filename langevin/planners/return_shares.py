"""How much of what could have been earned was: what DMEMM's windows are weighed by (its Eq. 11)."""

from typing import Literal

import numpy as np
from jaxtyping import Float32, Float64

from langevin.data.sampling import Windows
from langevin.data.trajectories import Trajectories

ReturnsOf = Literal["window", "episode"]
"""Whose return weighs a window: its own rows', or that of the whole episode it is from."""


def return_shares(
    trajectories: Trajectories, windows: Windows, of: ReturnsOf
) -> Float32[np.ndarray, " windows"]:
    """sum_t r_t / (T_max r_max) of each window or of its episode, in [0, 1].

    Rewards are shifted so that none is negative, r_max is the largest after that, and T_max the length of a window or
    of the longest episode: what is padded, or was not lived to see, earned nothing. Zero where nothing was ever earned.
    """
    rewards = trajectories.rewards.astype(np.float64)
    rewards += max(0.0, -rewards.min())
    starts, lengths = np.asarray(windows.starts), np.asarray(windows.lengths)
    longest = windows.horizon
    if of == "episode":
        episodes = np.searchsorted(trajectories.episode_starts, starts, side="right") - 1
        starts, all_lengths = trajectories.episode_starts[episodes], trajectories.episode_lengths()
        lengths, longest = all_lengths[episodes], all_lengths.max()
    most = longest * rewards.max()
    return (sums(rewards, starts, lengths) / (most or 1.0)).astype(np.float32)


def sums(
    rewards: Float64[np.ndarray, " rows"], starts: np.ndarray, lengths: np.ndarray
) -> Float64[np.ndarray, " windows"]:
    """Of so many rewards from each start on."""
    before = np.concatenate([[0.0], np.cumsum(rewards)])
    return before[starts + lengths] - before[starts]
