"""DMEMM's return weights by hand, in both readings of its Eq. 11."""

import numpy as np
import pytest

from langevin.data.sampling import windows_of
from langevin.data.trajectories import Trajectories
from langevin.planners.dmemm import DMEMMTraining
from langevin.planners.return_shares import return_shares


def trajectories_earning(*episodes: list[float]) -> Trajectories:
    rows, ends = sum(map(len, episodes)), np.cumsum([len(rewards) for rewards in episodes])
    truncations = np.zeros(rows, bool)
    truncations[ends - 1] = True
    return Trajectories(
        observations=np.zeros((rows, 1), np.float32),
        next_observations=np.zeros((rows, 1), np.float32),
        actions=np.zeros((rows, 1), np.float32),
        rewards=np.concatenate(episodes).astype(np.float32),
        terminations=np.zeros(rows, bool),
        truncations=truncations,
        episode_ends=ends,
        action_low=np.full(1, -1, np.float32),
        action_high=np.full(1, 1, np.float32),
    )


def shares_of(*episodes: list[float], horizon: int, of: str) -> list[float]:
    trajectories = trajectories_earning(*episodes)
    return return_shares(trajectories, windows_of(trajectories, horizon), of).tolist()


def test_of_windows_rewards_are_shifted_and_what_is_padded_earned_nothing():
    """From -1 to 3, so shifted by 1: three rows can earn 12. The second episode is one row short."""
    shares = shares_of([-1, -1, -1, 3, 3, 3], [3, 0], horizon=3, of="window")
    assert shares == pytest.approx([0, 4 / 12, 8 / 12, 12 / 12, (4 + 1) / 12])


def test_of_episodes_every_window_has_its_episodes_share_of_the_longest():
    """Five steps at 4 each can earn 20; the windows of an episode differ in what they earn, not in their share."""
    shares = shares_of([-1, 3, 3, 3, 0], [3, 0, -1], horizon=3, of="episode")
    assert shares == pytest.approx([13 / 20, 13 / 20, 13 / 20, 5 / 20])


def test_short_windows_of_a_good_and_a_bad_episode_are_told_apart_by_the_episode_alone():
    """Two systems that earn 1 a step, one of which falls after 5 of 100: what DMEMM's weights are for."""
    stands, falls = [1.0] * 100, [1.0] * 5
    assert set(shares_of(stands, falls, horizon=5, of="window")) == {1.0}
    shares = shares_of(stands, falls, horizon=5, of="episode")
    assert (shares[0], shares[-1]) == pytest.approx((1, 0.05))


def test_rewards_that_are_never_negative_are_not_shifted():
    assert shares_of([1, 1, 4, 2], horizon=2, of="window") == pytest.approx([2 / 8, 5 / 8, 6 / 8])


@pytest.mark.parametrize("of", ["window", "episode"])
def test_where_nothing_was_earned_shares_are_zero(of):
    assert shares_of([0, 0, 0], horizon=2, of=of) == [0, 0]


def test_a_million_rows_lose_nothing_to_rounding():
    """By its end a running sum in single precision would be about a hundredth of a window off."""
    rewards = np.random.default_rng(0).uniform(0, 1, 1_000_000).round(3).astype(np.float32)
    shares = shares_of(rewards.tolist(), horizon=8, of="window")
    last = rewards[-8:].astype(np.float64).sum() / (8 * float(rewards.max()))
    assert shares[-1] == pytest.approx(last, rel=1e-6)


def test_weights_are_shares_with_a_floor_as_they_are_or_in_proportion_to_their_mean():
    """Two windows that earned 1 and 0.02 of what they could have; one of the episodes is half as long."""
    trajectories = trajectories_earning([1.0, 1.0], [0.02, 0.02], [1.0])
    windows = windows_of(trajectories, 2)

    def weights(**settings) -> list[float]:
        return DMEMMTraining(**settings).weights(trajectories, windows).tolist()

    assert weights() == pytest.approx([1, 0.05, 0.5])
    assert weights(least_weight=0.0) == pytest.approx([1, 0.02, 0.5])
    assert weights(return_weights=False) == [1, 1, 1]
    assert weights(returns_of="episode") == pytest.approx([1, 0.05, 0.5])
    mean = (1 + 0.05 + 0.5) / 3
    for of in ("window", "episode"):
        relative = weights(returns_of=of, relative_weights=True)
        assert relative == pytest.approx([1 / mean, 0.05 / mean, 0.5 / mean])


def test_however_little_all_episodes_earn_their_relative_weights_have_a_mean_of_one():
    """Nineteen that fall in their first steps beside one that stands: shares of 0.08 on average."""
    trajectories = trajectories_earning([1.0] * 100, *[[1.0] * 4] * 19)
    windows = windows_of(trajectories, 2)
    training = DMEMMTraining(returns_of="episode", least_weight=0.0, relative_weights=True)
    weights = training.weights(trajectories, windows)
    assert weights.mean() == pytest.approx(1)
    assert weights[0] / weights[-1] == pytest.approx(25)


def test_where_nothing_was_earned_and_there_is_no_floor_no_window_counts():
    trajectories = trajectories_earning([0.0] * 3)
    training = DMEMMTraining(returns_of="episode", least_weight=0.0, relative_weights=True)
    assert training.weights(trajectories, windows_of(trajectories, 2)).tolist() == [0, 0]
