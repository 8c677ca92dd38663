"""The best episodes, and rewards on another scale."""

import numpy as np
import pytest

from langevin.data.preparation import RewardScaling, best_episodes
from langevin.data.trajectories import Trajectories
from langevin.errors import UsageError


def apply(scaling, data):
    """By the data's own factor."""
    return scaling.apply(data, scaling.scale(data))


@pytest.fixture
def data():
    """Episodes of 1, 2, 3 and 4 rows that return 4, 1, 3 and 2."""
    lengths, returns = np.array([1, 2, 3, 4]), np.array([4.0, 1.0, 3.0, 2.0])
    ends = np.cumsum(lengths)
    rewards = np.repeat(returns / lengths, lengths)
    observations = np.arange(10.0)[:, None]
    truncations = np.zeros(10, bool)
    truncations[ends - 1] = True
    return Trajectories(
        observations, np.zeros((10, 1)), rewards, np.zeros(10, bool), truncations, observations + 1, ends,
        np.array([-1.0]), np.array([1.0]),
    )  # fmt: skip


def test_the_best_half_of_the_episodes_stay_in_order_and_whole(data):
    best = best_episodes(data, 0.5)
    np.testing.assert_allclose(best.episode_returns(), [4, 3])
    np.testing.assert_array_equal(best.observations[:, 0], [0, 3, 4, 5])
    np.testing.assert_array_equal(best.next_observations[:, 0], [1, 4, 5, 6])
    np.testing.assert_array_equal(best.episode_ends, [1, 4])


def test_one_episode_at_least_stays_and_all_of_them_do_at_one(data):
    np.testing.assert_allclose(best_episodes(data, 0.01).episode_returns(), [4])
    assert best_episodes(data, 1.0) is data


def test_returns_span_the_range_asked_for(data):
    scaled = apply(RewardScaling(return_range=1000.0), data)
    assert np.ptp(scaled.episode_returns()) == pytest.approx(1000)
    np.testing.assert_allclose(scaled.rewards, data.rewards * 1000 / 3, rtol=1e-6)


def test_a_shift_is_added_to_every_reward_after_the_scale(data):
    np.testing.assert_allclose(apply(RewardScaling(shift=-1.0), data).rewards, data.rewards - 1, rtol=1e-6)


def test_episodes_that_all_return_the_same_keep_their_scale(data):
    same = apply(RewardScaling(return_range=1000.0), data.select_episodes(np.array([2])))
    np.testing.assert_array_equal(same.rewards, data.rewards[3:6])


def test_a_negative_range_is_refused():
    with pytest.raises(UsageError, match="return_range must be at least 0, got -1"):
        RewardScaling(return_range=-1.0)
