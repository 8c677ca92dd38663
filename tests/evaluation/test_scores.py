"""Scores and their intervals, against closed forms and exhaustive enumeration."""

import itertools
import json

import numpy as np
import pytest

from langevin.envs.tasks import get_task
from langevin.errors import LangevinError
from langevin.evaluation.scores import (
    aggregate_summary,
    bootstrap_interval,
    interquartile_mean,
    mean,
    score_summary,
)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([7.0], 7.0),
        ([1.0, 2.0, 6.0], 3.0),
        ([100.0, 0.0, 1.0, 3.0], 2.0),
        ([3.0, 0.0, 100.0, 1.0, 2.0], 2.0),
        ([8.0, 1.0, 7.0, 2.0, 6.0, 3.0, 5.0, 4.0], 4.5),
    ],
)
def test_interquartile_mean_of_known_values(values, expected):
    assert interquartile_mean(np.array(values)) == expected


def test_interquartile_mean_works_along_the_last_axis():
    values = np.random.default_rng(0).normal(size=(3, 4, 12))
    by_hand = [[np.mean(sorted(row)[3:9]) for row in block] for block in values]
    np.testing.assert_allclose(interquartile_mean(values), by_hand)


def test_a_single_outlier_does_not_move_the_interquartile_mean():
    scores = np.array([10.0, 11.0, 12.0, 13.0])
    assert interquartile_mean(np.append(scores, 14.0)) == interquartile_mean(np.append(scores, 1e9))


@pytest.mark.parametrize("statistic", [mean, interquartile_mean])
def test_interval_equals_the_enumeration_of_all_resamples(statistic):
    runs = np.array([3.0, 10.0, 11.0, 25.0])
    every = np.array([statistic(np.array(drawn)) for drawn in itertools.product(runs, repeat=4)])
    low, high = bootstrap_interval([runs], statistic)
    np.testing.assert_allclose([low, high], np.quantile(every, [0.025, 0.975]), atol=0.6)


def test_with_three_seeds_the_interval_is_their_range():
    # One resample in 27 draws the lowest seed three times: more than 2.5 in 100.
    assert bootstrap_interval([np.array([4.0, -2.0, 9.0])]) == (-2.0, 9.0)


def test_interval_of_many_normal_runs_holds_the_truth_nearly_95_times_in_100():
    rng = np.random.default_rng(7)
    held = 0
    for _ in range(500):
        low, high = bootstrap_interval([rng.normal(3.0, 2.0, size=20)], resamples=1000)
        held += low <= 3.0 <= high
    assert 0.90 <= held / 500 <= 0.97


def test_interval_narrows_with_the_square_root_of_the_number_of_seeds():
    rng = np.random.default_rng(3)
    few, many = rng.normal(size=25), rng.normal(size=2500)
    width_few, width_many = (np.subtract(*bootstrap_interval([runs], mean)[::-1]) for runs in (few, many))
    assert width_few / width_many == pytest.approx(10.0, rel=0.3)
    assert width_many == pytest.approx(2 * 1.96 / 50, rel=0.1)


def test_seeds_are_resampled_within_their_task():
    # Two tasks without any spread: resampling across them would give anything from 0 to 100.
    assert bootstrap_interval([np.zeros(3), np.full(3, 100.0)], mean) == (50.0, 50.0)
    summary = aggregate_summary({"easy": [100.0, 100.0], "hard": [0.0, 0.0]})
    assert summary["mean"] == 50.0
    assert summary["ci95"] == [50.0, 50.0]
    assert summary["per_seed"] == [100.0, 100.0, 0.0, 0.0]


def test_the_same_scores_give_the_same_interval():
    runs = [np.random.default_rng(1).normal(size=5)]
    assert bootstrap_interval(runs) == bootstrap_interval(runs)


def test_one_seed_has_no_interval_and_the_summary_is_json():
    task = get_task("pointmaze/umaze")
    summary = score_summary(np.array([[30.0, 50.0]]), task)
    assert summary["return"] == {"mean": 40.0, "iqm": 40.0, "ci95": [None, None], "per_seed": [40.0]}
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert bootstrap_interval([np.arange(3.0), np.array([1.0])]) is None


def test_references_score_0_and_100():
    task = get_task("pointmaze/umaze")
    returns = np.array([[task.random_score] * 2, [task.expert_score] * 2])
    assert score_summary(returns, task)["normalized_score"]["per_seed"] == pytest.approx([0.0, 100.0])


def test_a_summary_has_the_fields_of_the_contract():
    summary = score_summary(np.ones((3, 4)), get_task("pointmaze/medium"))
    assert set(summary) == {"normalized_score", "return"}
    for block in summary.values():
        assert set(block) == {"mean", "iqm", "ci95", "per_seed"}


def test_spread_is_not_shifted_by_the_random_score():
    task = get_task("pointmaze/umaze")
    returns = np.random.default_rng(0).normal(100.0, 20.0, size=(6, 10))
    summary = score_summary(returns, task)
    (low, high), (raw_low, raw_high) = summary["normalized_score"]["ci95"], summary["return"]["ci95"]
    assert high - low == pytest.approx(100 * (raw_high - raw_low) / (task.expert_score - task.random_score))
    assert low == pytest.approx(task.normalized_score(raw_low))


def test_episodes_of_a_seed_do_not_widen_the_interval():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(4, 50))
    noise -= noise.mean(axis=1, keepdims=True)
    level = np.array([[50.0], [60.0], [70.0], [80.0]])
    task = get_task("pointmaze/umaze")
    quiet, loud = (score_summary(level + scale * noise, task)["return"]["ci95"] for scale in (0.0, 40.0))
    np.testing.assert_allclose(quiet, loud)


def test_a_return_that_is_not_a_number_names_its_seed_and_episode():
    returns = np.ones((2, 3))
    returns[1, 2] = np.nan
    with pytest.raises(LangevinError, match=r"seed 1, episode 2 .* nan"):
        score_summary(returns, get_task("pointmaze/umaze"))


def test_no_episodes_is_an_error():
    with pytest.raises(LangevinError, match="no episode was evaluated"):
        score_summary(np.ones((2, 0)), get_task("pointmaze/umaze"))
    with pytest.raises(ValueError, match="at least one value"):
        interquartile_mean(np.ones((3, 0)))
