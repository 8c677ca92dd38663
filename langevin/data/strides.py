"""Transitions of several steps: what a one-step model learns from where a plan's rows are several steps apart."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from langevin.data.contexts import last_rows
from langevin.data.sampling import Transitions, transitions_of
from langevin.data.trajectories import Trajectories
from langevin.errors import UsageError, require_at_least


def strided_transitions(trajectories: Trajectories, stride: int) -> Transitions:
    """(s_t, a_t, r_t + … + r_{t+stride-1}, s_{t+stride}) for every row that has as many steps of its episode ahead.

    The actions in between are not part of it: they are the behaviour's, and what they leave open is noise. At stride 1
    these are all transitions. Raises UsageError where no episode lasts `stride` steps.
    """
    require_at_least(1, stride=stride)
    rows = np.arange(trajectories.transitions)
    rows = rows[rows + stride - 1 <= last_rows(trajectories)]
    if rows.size == 0:
        raise UsageError(f"no episode lasts {stride} steps, which is the stride; choose a smaller one")
    last = rows + stride - 1
    earned = np.concatenate([[0.0], np.cumsum(trajectories.rewards, dtype=np.float64)])
    every = transitions_of(trajectories)
    return dataclasses.replace(
        every,
        observations=every.observations[rows],
        actions=every.actions[rows],
        rewards=jnp.asarray(earned[last + 1] - earned[rows], jnp.float32),
        terminations=every.terminations[last],
        next_observations=every.next_observations[last],
    )
