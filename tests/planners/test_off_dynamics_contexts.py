"""What the off-dynamics planner is told of a window, against the paper's equations worked out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.sampling import Transitions
from langevin.data.trajectories import Trajectories
from langevin.dynamics.domain_classifier import DomainClassifier
from langevin.dynamics.inverse import InverseModel
from langevin.planners.off_dynamics import logged_system, two_systems
from langevin.planners.off_dynamics_contexts import (
    CONTEXTS,
    ContextScales,
    Evidence,
    Range,
    evidence_of,
    window_contexts,
    window_means,
)
from langevin.planners.off_dynamics_diagnostics import CALIBRATION_BINS, calibration, diagnose, histogram

RNG = np.random.default_rng(0)
LENGTHS, HORIZON, DISCOUNT, EPSILON = (7, 2, 4), 4, 0.9, 1e-3
"""Of the episodes: one of two rows is shorter than a window."""


def log(lengths=LENGTHS, rng=RNG):
    ends = np.cumsum(lengths)
    rows = ends[-1]
    observations = rng.normal(size=(rows, 2)).astype(np.float32)
    following = np.roll(observations, -1, axis=0)
    following[ends - 1] = rng.normal(size=(len(lengths), 2))
    last = np.isin(np.arange(1, rows + 1), ends)
    return Trajectories(
        observations, rng.uniform(-1, 1, (rows, 1)), rng.normal(size=rows), np.zeros(rows, bool), last, following,
        ends, -np.ones(1), np.ones(1),
    )  # fmt: skip


def windows_by_hand(lengths=LENGTHS):
    """The rows of every window: all that stay inside an episode, and a short episode once."""
    found, first = [], 0
    for length in lengths:
        for start in range(max(length - HORIZON + 1, 1)):
            found.append(first + start + np.arange(min(HORIZON, length)))
        first += length
    return found


class ByPosition(DomainClassifier):
    """In place of a trained classifier: the first number of the observation is the log odds."""

    def __init__(self):
        self.network = self.normalizer = None  # pyright: ignore[reportAttributeAccessIssue]
        self.sees_next = True

    def logit(self, transitions):
        return transitions.observations[:, 0]


class NextPosition(InverseModel):
    """In place of a trained inverse model: the action is the first number of the next observation."""

    def __init__(self):
        self.network = self.observation_normalizer = self.difference_normalizer = None  # pyright: ignore
        self.action_low = self.action_high = jnp.zeros(1)

    def predict(self, observations, next_observations):
        return next_observations[:, :1]


def test_every_context_is_its_equation_and_padding_is_in_none_of_them():
    data = log()
    system = logged_system(data, HORIZON, DISCOUNT)
    p = RNG.uniform(0.2, 0.7, data.transitions).astype(np.float32)
    error = RNG.uniform(0.5, 3, data.transitions).astype(np.float32)
    scales = ContextScales(
        Range(jnp.float32(-8.0), jnp.float32(9.0)), Range(jnp.float32(0.1), jnp.float32(0.8)),
        Range(jnp.float32(0.0), jnp.float32(4.0)), EPSILON,
    )  # fmt: skip
    evidence = Evidence(jnp.asarray(p), jnp.asarray(error))
    found = window_contexts(scales, evidence, system.windows, system.returns, 1.0)
    share = (p - 0.1) / 0.7
    kappa = np.log((1 + EPSILON) / EPSILON)
    expected = []
    for rows in windows_by_hand():
        steps = len(rows)
        total = sum(DISCOUNT**t * data.rewards[row] for t, row in enumerate(rows))
        score = sum(np.log(share[row] + EPSILON) - np.log(1 - share[row] + EPSILON) for row in rows)
        inverse = sum(np.log(1 + error[row] / 4) for row in rows)
        expected.append([(total + 8) / 17, score / (kappa * steps), inverse / steps, 1.0])
    assert CONTEXTS == ("return", "dynamics", "inverse", "domain")
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_a_return_may_go_on_to_the_end_of_the_episode():
    data = log()
    found = logged_system(data, HORIZON, DISCOUNT, to_the_end=True).returns
    expected, ends = [], np.cumsum(LENGTHS)
    for rows in windows_by_hand():
        last = ends[np.searchsorted(ends, rows[0], side="right")]
        rest = data.rewards[rows[0] : last]
        expected.append(sum(DISCOUNT**t * reward for t, reward in enumerate(rest)))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_the_score_goes_from_minus_one_to_one_and_is_antisymmetric():
    scales = ContextScales(*[Range(jnp.float32(0), jnp.float32(1))] * 3, EPSILON)
    p = jnp.linspace(0, 1, 101)
    score = np.asarray(scales.dynamics_score(p))
    np.testing.assert_allclose([score[0], score[50], score[100]], [-1, 0, 1], atol=1e-6)
    assert np.all(np.diff(score) > 0)
    np.testing.assert_allclose(score, -score[::-1], atol=1e-5)
    np.testing.assert_allclose(scales.inverse_error(jnp.array([0.0, 1.0])), [0, np.log(2)], atol=1e-6)


def test_a_range_is_of_both_datasets_and_one_value_alone_is_no_range():
    both = Range.of(jnp.array([2.0, 3.0]), jnp.array([-1.0, 0.0]))
    np.testing.assert_allclose(both.share(jnp.array([-1.0, 1.0, 3.0, 9.0])), [0, 0.5, 1, 1])
    np.testing.assert_allclose(Range.of(jnp.full(3, 7.0)).share(jnp.array([7.0])), 0)


def test_every_row_is_looked_at_whatever_the_chunk():
    data = logged_system(log(), HORIZON, DISCOUNT).transitions
    size = data.size
    for chunk in (1, 5, size, 10 * size):
        found = evidence_of(ByPosition(), NextPosition(), data, chunk)
        np.testing.assert_allclose(found.probability, jax.nn.sigmoid(data.observations[:, 0]), rtol=1e-6)
        expected = np.abs(np.asarray(data.next_observations[:, 0] - data.actions[:, 0]))
        np.testing.assert_allclose(found.action_error, expected, rtol=1e-5, atol=1e-6)


def test_a_mean_late_in_a_long_log_has_all_its_digits():
    """A running sum of 300,000 rows of 100 would be off by whole numbers."""
    data = log((300_000,), np.random.default_rng(1))
    windows = logged_system(data, HORIZON, DISCOUNT).windows
    values = (100 + np.random.default_rng(2).uniform(size=300_000)).astype(np.float32)
    found = window_means(jnp.asarray(values), windows)
    np.testing.assert_allclose(found[-1], values[-HORIZON:].mean(), rtol=1e-6)


def test_rows_set_aside_teach_nothing_and_no_row_is_lost():
    source, target = (logged_system(log(lengths), HORIZON, DISCOUNT) for lengths in ((50,), (40,)))
    data = two_systems(source, target)
    first = lambda rows: set(np.asarray(rows.observations[:, 0]).tolist())
    assert first(data.taught) | first(data.held_out[1]) == first(target.transitions)
    assert not first(data.taught) & first(data.held_out[1])
    assert data.held_out[0].size == data.held_out[1].size == 4
    alone = logged_system(log((1,)), HORIZON, DISCOUNT)
    assert two_systems(source, alone).taught.size == 1


def test_calibration_counts_the_targets_rows_in_each_bin():
    p = jnp.array([0.01, 0.05, 0.55, 0.58, 1.0])
    found = calibration(p, jnp.array([0.0, 1.0, 1.0, 1.0, 0.0]))
    expected = np.zeros((3, CALIBRATION_BINS))
    expected[:, 0], expected[:, 5], expected[:, 9] = [0.03, 0.5, 2], [0.565, 1, 2], [1, 0, 1]
    np.testing.assert_allclose([found["predicted"], found["observed"], found["counted"]], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("scores", "saturated"), [(([-1, -0.96, 0.2, 0], [1, 1]), 0.75), (([0.9], [-0.9]), 0)]
)
def test_a_score_at_its_end_is_counted_for_each_dataset_alike(scores, saturated):
    contexts = [jnp.zeros((len(part), 4)).at[:, 1].set(jnp.array(part, jnp.float32)) for part in scores]
    observations, actions = jnp.array([[3.0, 0], [-3, 0]]), jnp.array([[1.0], [-1]])
    rows = Transitions(observations, actions, jnp.zeros(2), jnp.zeros(2), jnp.array([[1.0, 0], [0, 0]]))
    found = diagnose(*contexts, ByPosition(), NextPosition(), (rows, rows))
    assert float(found.saturated) == pytest.approx(saturated)
    assert float(found.accuracy) == pytest.approx(0.5)
    assert float(found.unexplained) == pytest.approx(0.5)  # errors 0 and 1, variance 1
    np.testing.assert_allclose(found.dynamics.sum(axis=1), 1, rtol=1e-6)


def test_a_rounding_error_beyond_the_bounds_is_counted():
    assert float(histogram(jnp.full((3, 4), 1.0000002), "dynamics").sum()) == pytest.approx(1)
