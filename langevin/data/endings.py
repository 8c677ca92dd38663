"""Whether episodes end as they say: falls that were time limits, successors that were resets."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Int64

from langevin.data.checks import Finding
from langevin.data.trajectories import Trajectories

FEWEST_STARTS = 10
"""Episodes below which the range of their first observations says nothing."""
FEWEST_AT_CLOCK = 3
"""Terminated episodes of the greatest length above which that length looks like an unknown time limit."""


def find_suspicious_ends(
    data: Trajectories, max_steps: int | None = None, can_terminate: bool | None = None
) -> Iterator[Finding]:
    """Findings about the last rows of episodes.

    `max_steps` is the task's time limit and `can_terminate` whether it has terminal states, None where unknown.
    """
    last = data.episode_ends - 1
    terminated = data.terminations[last]
    if can_terminate and not terminated.any():
        yield Finding(
            "warning",
            "terminations",
            "no episode terminates, though the task has terminal states: were they logged as time limits?",
        )
    clock = at_time_limit(data, max_steps)
    if clock.any():
        limit = "the task's time limit" if max_steps else "the greatest length"
        yield Finding(
            "warning",
            "terminations",
            f"{clock.sum()} episodes terminate after {data.episode_lengths()[clock][0]} steps, {limit}: if the clock "
            "ended them, mark them truncated, for value goes on there",
        )
    still = terminated & (data.next_observations[last] == data.observations[last]).all(axis=1)
    if still.any():
        yield Finding(
            "warning",
            "next_observations",
            f"{still.sum()} terminal rows, the first {last[still][0]}, repeat their observation: the successor was not "
            "logged, and a world model would learn that the system stands still there",
        )
    resets = rows_into_resets(data)
    if resets.size:
        yield Finding(
            "warning",
            "next_observations",
            f"{resets.size} ends of episodes, the first row {resets[0]}, leap to where episodes begin: a state after "
            "the reset was logged as the successor",
        )


def at_time_limit(data: Trajectories, max_steps: int | None = None) -> Bool[np.ndarray, " episodes"]:
    """Terminated episodes as long as the time limit; where that is unknown, as the longest, if several are."""
    lengths = data.episode_lengths()
    terminated = data.terminations[data.episode_ends - 1]
    found = terminated & (lengths == (max_steps or lengths.max()))
    enough = max_steps or (found.sum() >= FEWEST_AT_CLOCK and lengths.min() < lengths.max())
    return found if enough else np.zeros_like(found)


def rows_into_resets(data: Trajectories) -> Int64[np.ndarray, " rows"]:
    """Last rows of episodes whose next observation looks like an episode's first.

    It does when it lies further from its observation than any step inside an episode leads (in standard deviations,
    the largest dimension counts), and either is the next episode's first observation or lies within the range of all
    first observations.
    """
    last = data.episode_ends - 1
    inside = np.ones(data.transitions, bool)
    inside[last] = False
    if not inside.any():
        return np.zeros(0, np.int64)
    spread = data.observations.std(axis=0)
    moving = spread > 0
    leaps = np.abs(data.next_observations - data.observations)[:, moving] / spread[moving]
    size = leaps.max(axis=1, initial=0)
    starts = data.observations[data.episode_starts]
    ends = data.next_observations[last]
    like_start = np.append((ends[:-1] == starts[1:]).all(axis=1), False)
    if data.episodes >= FEWEST_STARTS:
        like_start |= ((ends >= starts.min(axis=0)) & (ends <= starts.max(axis=0))).all(axis=1)
    return last[like_start & (size[last] > size[inside].max())]
