"""Windows with the returns that began with them, and where an episode was some steps later."""

import jax
import numpy as np
import pytest

from langevin.data.return_windows import jumps_of, return_windows, sample_return_windows
from langevin.errors import UsageError
from tests.policies.toy_episodes import joined

EPISODES, LENGTH = 3, 5
STATES = 100 * np.arange(EPISODES)[:, None, None] + np.arange(LENGTH + 1)[None, :, None]
"""Row t of episode e is at 100 e + t; its action is t / 10, its reward 1."""


def log():
    actions = np.tile(np.arange(LENGTH) / 10, EPISODES)[:, None]
    return joined(STATES.astype(float), actions, np.ones(EPISODES * LENGTH))


def test_every_row_begins_a_window_of_its_own_episode_with_the_discounted_return_to_its_end():
    """From t of 5 rows of reward 1: 1 + 0.5 + ... with 5 - t terms, however short the window."""
    batch, returns = sample_return_windows(return_windows(log(), 3, 0.5), 2000, key=jax.random.key(0))
    first = np.asarray(batch.observations)[:, 0, 0]
    step = first % 100
    assert set(first) == set(STATES[:, :-1].ravel())
    np.testing.assert_allclose(returns, 2 * (1 - 0.5 ** (LENGTH - step)), rtol=1e-6)
    np.testing.assert_array_equal(batch.mask.sum(axis=1), np.minimum(LENGTH - step, 3))
    later = np.minimum(step[:, None] + np.arange(3), LENGTH - 1)
    np.testing.assert_array_equal(
        np.asarray(batch.observations)[:, :, 0], first[:, None] - step[:, None] + later
    )


@pytest.mark.parametrize("steps", [1, 3, 5])
def test_a_jump_ends_where_the_episode_was_so_many_steps_later_and_never_in_another(steps):
    jumps = jumps_of(log(), steps)
    here, there = np.asarray(jumps.observations)[:, 0], np.asarray(jumps.next_observations)[:, 0]
    np.testing.assert_array_equal(there - here, steps)
    assert len(here) == EPISODES * (LENGTH + 1 - steps), "the last jump ends in the episode's last state"
    np.testing.assert_allclose(np.asarray(jumps.actions)[:, 0], here % 100 / 10, rtol=1e-6)


def test_jumps_longer_than_any_episode_are_refused():
    with pytest.raises(
        UsageError, match=r"no episode has 6 transitions.*the longest has 5: set planner\.stride"
    ):
        jumps_of(log(), 6)


def test_a_discount_above_one_is_refused():
    with pytest.raises(UsageError, match=r"discount must lie between 0 and 1, got 1\.5"):
        return_windows(log(), 3, 1.5)
