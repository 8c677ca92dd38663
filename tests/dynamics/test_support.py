"""Where the data say something: distances to known states, and how far they reach."""

import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.normalize import GaussianNormalizer
from langevin.data.sampling import Transitions
from langevin.dynamics.support import Support, fit_support


def transitions(observations):
    observations = jnp.asarray(observations, jnp.float32)
    count = len(observations)
    return Transitions(observations, jnp.zeros((count, 1)), jnp.zeros(count), jnp.zeros(count), observations)


def test_distance_is_to_the_nearest_state_in_standard_deviations():
    rng = np.random.default_rng(0)
    normalizer = GaussianNormalizer(jnp.array([1.0, -2.0]), jnp.array([0.5, 3.0]))
    raw = rng.normal(size=(30, 2)).astype(np.float32)
    support = Support(normalizer.normalize(jnp.asarray(raw)), jnp.float32(1.0), normalizer)
    queries = rng.normal(size=(20, 2)).astype(np.float32) * 4
    apart = (queries[:, None] - raw[None]) / np.array([0.5, 3.0])
    expected = np.linalg.norm(apart, axis=-1).min(axis=1)
    np.testing.assert_allclose(support.distance(jnp.asarray(queries)), expected, atol=1e-3)
    np.testing.assert_array_equal(support.contains(jnp.asarray(queries)), expected <= 1.0)


def test_a_known_state_is_at_no_distance():
    states = jnp.array([[0.0, 0.0], [3.0, 4.0]])
    support = Support(states, jnp.float32(0.0), GaussianNormalizer(jnp.zeros(2), jnp.ones(2)))
    assert np.asarray(support.distance(states)).tolist() == [0.0, 0.0]
    assert np.asarray(support.contains(jnp.array([[3.0, 4.0], [3.0, 4.1]]))).tolist() == [True, False]


def test_what_is_unknown_is_drawn_back_to_the_edge_and_what_is_known_stays():
    """In units of the standard deviations (1 and 10) the reach is 2; (7, 40) is (4, 4) off (3, 0), (3, 10) is 1 off."""
    normalizer = GaussianNormalizer(jnp.zeros(2), jnp.array([1.0, 10.0]))
    support = Support(jnp.array([[0.0, 0.0], [3.0, 0.0]]), jnp.float32(2.0), normalizer)
    kept = np.asarray(support.keep(jnp.array([[7.0, 40.0], [3.0, 10.0], [0.0, 0.0], [-5.0, 0.0]])))
    edge = 2 / np.sqrt(2)
    np.testing.assert_allclose(kept, [[3 + edge, 10 * edge], [3.0, 10.0], [0.0, 0.0], [-2.0, 0.0]], rtol=1e-6)


@pytest.fixture(scope="module")
def ring():
    """States on a circle of radius 10, 1 wide; the second dimension is measured in units a thousand times smaller."""
    rng = np.random.default_rng(1)
    angles, radii = rng.uniform(0, 2 * np.pi, 6000), rng.uniform(9.5, 10.5, 6000)
    return np.stack([radii * np.cos(angles), 1000 * radii * np.sin(angles)], axis=1)


def test_the_support_of_a_ring_is_the_ring_and_not_its_middle(ring):
    support = fit_support(transitions(ring))
    inside = np.asarray(support.contains(jnp.asarray(ring[:1000], jnp.float32)))
    assert inside.mean() > 0.99
    elsewhere = jnp.array([[0.0, 0.0], [5.0, 5000.0], [14.0, 0.0], [10.0, 10_000.0], [0.0, 13_000.0]])
    assert not np.asarray(support.contains(elsewhere)).any()
    assert np.asarray(support.contains(jnp.array([[10.0, 0.0], [0.0, -10_000.0]]))).all()


def test_reach_is_the_margin_times_the_99th_percentile_of_held_out_distances(ring):
    narrow, wide = (fit_support(transitions(ring), margin=margin) for margin in (1.0, 3.0))
    np.testing.assert_allclose(wide.reach, 3 * narrow.reach, rtol=1e-6)
    rng = np.random.default_rng(2)
    angles, radii = rng.uniform(0, 2 * np.pi, 4000), rng.uniform(9.5, 10.5, 4000)
    fresh = np.stack([radii * np.cos(angles), 1000 * radii * np.sin(angles)], axis=1)
    known = np.asarray(narrow.contains(jnp.asarray(fresh, jnp.float32))).mean()
    assert 0.975 < known < 0.999, "of new states of the same kind, one in a hundred lies beyond"


def test_known_and_held_out_states_do_not_overlap():
    """Every row lies 1 from the next: a held-out row measured against itself would be at distance 0."""
    support = fit_support(transitions(np.arange(100.0)[:, None]), sample=50, margin=1.0)
    spacing = 1 / np.arange(100.0).std()
    assert float(support.reach) > 0.99 * spacing
    assert support.states.shape == (50, 1)


def test_one_seed_gives_the_same_support_and_few_rows_are_enough(ring):
    first, second, other = (fit_support(transitions(ring), sample=100, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.states, second.states)
    assert not np.array_equal(first.states, other.states)
    assert fit_support(transitions(ring[:2])).states.shape == (1, 2)
    with pytest.raises(ValueError, match="at least 2 rows, got 1"):
        fit_support(transitions(ring[:1]))
