"""Which imagined trajectories are kept: the best, or a draw that prefers them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from langevin.imagination.filters import hardmax_filter, softmax_filter

SCORES = jnp.array([0.3, -1.0, 2.0, 0.0, 1.5])


def test_hardmax_keeps_the_best_and_no_others():
    kept = hardmax_filter(SCORES, 3, key=jax.random.key(0))
    assert sorted(np.asarray(kept).tolist()) == [0, 2, 4]


def test_hardmax_ignores_its_key():
    first, second = (hardmax_filter(SCORES, 2, key=jax.random.key(seed)) for seed in (0, 1))
    assert np.array_equal(first, second)


@eqx.filter_jit
def draws(scores, keep, temperature, floor, count):
    one = lambda key: softmax_filter(scores, keep, temperature, floor, key=key)
    return jax.vmap(one)(jax.random.split(jax.random.key(0), count))


def probabilities(scores, temperature, floor):
    """softmax(z / temperature) + floor, normalised, in NumPy."""
    standard = (scores - scores.mean()) / scores.std()
    weights = np.exp(standard / temperature)
    weights = weights / weights.sum() + floor
    return weights / weights.sum()


def test_softmax_draws_each_trajectory_with_the_stated_probability():
    """Hot enough that all occur; 40,000 draws, five standard errors."""
    found = np.asarray(draws(SCORES, 1, 0.8, 1e-6, 40_000))[:, 0]
    expected = probabilities(np.asarray(SCORES), 0.8, 1e-6)
    shares = np.bincount(found, minlength=5) / len(found)
    assert np.all(np.abs(shares - expected) < 5 * np.sqrt(expected * (1 - expected) / len(found)))


def test_softmax_draws_pairs_without_replacement():
    """P(first i, then j) = p_i p_j / (1 - p_i), and never the same one twice."""
    found = np.asarray(draws(SCORES, 2, 1.0, 1e-6, 40_000))
    assert np.all(found[:, 0] != found[:, 1])
    p = probabilities(np.asarray(SCORES), 1.0, 1e-6)
    expected = p[:, None] * p[None] / (1 - p[:, None])
    np.fill_diagonal(expected, 0.0)
    shares = np.zeros((5, 5))
    np.add.at(shares, (found[:, 0], found[:, 1]), 1 / len(found))
    assert np.all(np.abs(shares - expected) < 5 * np.sqrt(expected / len(found)) + 1e-9)


def test_softmax_does_not_care_for_the_unit_of_reward():
    same = [draws(scores, 2, 0.5, 1e-6, 50) for scores in (SCORES, 1000 * SCORES - 7)]
    assert np.array_equal(*same)


def test_the_floor_leaves_no_trajectory_impossible():
    """At temperature 0.05 the softmax alone gives the worst e^-58 of the best; a floor of 0.1 shows."""
    with_floor, without = (np.asarray(draws(SCORES, 1, 0.05, floor, 4000))[:, 0] for floor in (0.1, 1e-12))
    expected = probabilities(np.asarray(SCORES), 0.05, 0.1)[1]
    assert abs((with_floor == 1).mean() - expected) < 5 * np.sqrt(expected / 4000)
    assert not (without == 1).any()


def test_equal_scores_are_all_alike():
    shares = np.bincount(np.asarray(draws(jnp.zeros(4), 1, 0.05, 1e-6, 20_000))[:, 0]) / 20_000
    assert np.all(np.abs(shares - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 20_000))
