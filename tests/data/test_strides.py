"""Transitions of several steps stay inside one episode and earn what lies between their ends."""

import numpy as np
import pytest

from langevin.data.sampling import transitions_of
from langevin.data.strides import strided_transitions
from langevin.errors import UsageError
from tests.policies.toy_episodes import joined

LENGTH = 7
STATES = np.arange(2 * (LENGTH + 1), dtype=np.float32).reshape(2, LENGTH + 1, 1)
REWARDS = np.arange(1, 15, dtype=np.float32) ** 2
LOG = joined(STATES, np.arange(14, dtype=np.float32)[:, None] / 14, REWARDS)


def test_three_steps_ahead_by_hand():
    """Rows 0 … 4 of each episode of 7 have a state 3 steps on: the last of them is the one after the last row."""
    found = strided_transitions(LOG, 3)
    rows = np.array([0, 1, 2, 3, 4, 7, 8, 9, 10, 11])
    np.testing.assert_allclose(14 * found.actions[:, 0], rows, rtol=1e-6)
    starts = STATES[rows // LENGTH, rows % LENGTH, 0]
    np.testing.assert_array_equal(found.observations[:, 0], starts)
    np.testing.assert_array_equal(found.next_observations[:, 0], starts + 3)
    np.testing.assert_allclose(found.rewards, [REWARDS[row : row + 3].sum() for row in rows], rtol=1e-6)


def test_one_step_is_every_transition():
    found, every = strided_transitions(LOG, 1), transitions_of(LOG)
    for name in ("observations", "actions", "rewards", "terminations", "next_observations"):
        np.testing.assert_allclose(getattr(found, name), getattr(every, name), rtol=1e-6)


def test_a_stride_longer_than_every_episode_is_refused():
    with pytest.raises(UsageError, match="no episode lasts 8 steps"):
        strided_transitions(LOG, 8)
    with pytest.raises(UsageError, match="stride must be at least 1, got 0"):
        strided_transitions(LOG, 0)
