"""The two measures of an ensemble's doubt against NumPy, and MOReL's largest one over a dataset."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.normalize import GaussianNormalizer
from langevin.data.sampling import Transitions
from langevin.dynamics.ensemble import DynamicsModel, GaussianNetwork
from langevin.dynamics.split import Scales
from langevin.dynamics.uncertainty import disagreement, largest_disagreement, largest_std
from langevin.nets.ensemble import Ensemble

MEMBERS, ROWS = 3, 40
MEAN, STD = np.array([1.0, -2.0]), np.array([3.0, 0.5])
CHANGE = np.array([0.2, 5.0])
"""Standard deviations of the change: units so different that forgetting them would show."""


@pytest.fixture(scope="module")
def model() -> DynamicsModel:
    members = Ensemble(lambda key: GaussianNetwork(3, 2, 8, 1, key=key), MEMBERS, key=jax.random.key(0))
    wide = jnp.full(2, 1e3)
    scales = Scales(
        observation=GaussianNormalizer(jnp.asarray(MEAN, jnp.float32), jnp.asarray(STD, jnp.float32)),
        action=GaussianNormalizer(jnp.zeros(1), jnp.full(1, 2.0)),
        change=GaussianNormalizer(jnp.array([0.1, 0.3]), jnp.asarray(CHANGE, jnp.float32)),
        observation_low=-wide, observation_high=wide, action_low=-wide[:1], action_high=wide[:1],
    )  # fmt: skip
    return DynamicsModel(members, jnp.array([1], jnp.int32), scales)


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    return rng.normal(size=(ROWS, 2)).astype(np.float32), rng.normal(size=(ROWS, 1)).astype(np.float32)


def by_hand(model, observations, actions):
    """Means and standard deviations of the next observation by every member, elite or not, in NumPy."""
    x = np.concatenate([(observations - MEAN) / STD, actions / 2], axis=1).astype(np.float64)
    means, stds = [], []
    for member in range(MEMBERS):
        network = model.members.member(member).network
        (w1, b1), (w2, b2) = (
            (np.asarray(layer.weight, np.float64), np.asarray(layer.bias, np.float64))
            for layer in network.layers
        )
        hidden = x @ w1 + b1
        mean, log_variance = np.split((hidden / (1 + np.exp(-hidden))) @ w2 + b2, 2, axis=1)
        log_variance = 0.5 - np.log1p(np.exp(0.5 - log_variance))
        log_variance = -10 + np.log1p(np.exp(log_variance + 10))
        means.append(observations + np.array([0.1, 0.3]) + CHANGE * mean)
        stds.append(CHANGE * np.exp(log_variance / 2))
    return np.stack(means), np.stack(stds)


def test_mopos_doubt_is_the_norm_of_the_largest_std_in_raw_units(model, rows):
    _, stds = by_hand(model, *rows)
    expected = np.max([np.sqrt((std**2).sum(axis=1)) for std in stds], axis=0)
    np.testing.assert_allclose(largest_std(model, *map(jnp.asarray, rows)), expected, rtol=1e-5)


def test_morels_disagreement_is_the_largest_distance_between_two_members(model, rows):
    means, _ = by_hand(model, *rows)
    expected = [
        max(np.sqrt(((a - b) ** 2).sum()) for a in means[:, row] for b in means[:, row])
        for row in range(ROWS)
    ]
    np.testing.assert_allclose(disagreement(model, *map(jnp.asarray, rows)), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("chunk", "most", "spacing"), [(7, 1_000, 1), (40, 1_000, 1), (64, 1_000, 1), (4, 8, 5)]
)
def test_the_largest_disagreement_is_over_every_row_or_over_evenly_spaced_ones(
    model, rows, chunk, most, spacing
):
    observations, actions = map(jnp.asarray, rows)
    data = Transitions(observations, actions, jnp.zeros(ROWS), jnp.zeros(ROWS), observations)
    every = np.asarray(disagreement(model, observations, actions))
    measured = every[::spacing]
    assert spacing == 1 or measured.max() < every.max(), "the spaced rows miss the largest one"
    np.testing.assert_allclose(
        eqx.filter_jit(largest_disagreement)(model, data, most, chunk), measured.max(), rtol=1e-5
    )
