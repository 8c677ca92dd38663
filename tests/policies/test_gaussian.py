"""The squashed Gaussian: its density integrates to one, belongs to its samples, and is finite at the bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.normalize import GaussianNormalizer
from langevin.nets.mlp import MLP
from langevin.policies.gaussian import GaussianPolicy, SquashedGaussianActor, sample_actions

LOW, HIGH = -1.0, 3.0


def actor(action_size: int = 1) -> SquashedGaussianActor:
    network = MLP(2, 2 * action_size, 8, 1, key=jax.random.key(0))
    return SquashedGaussianActor(network, jnp.full(action_size, LOW), jnp.full(action_size, HIGH))


OBSERVATION = jnp.array([0.3, -1.2])


def test_the_density_integrates_to_one_over_the_actions():
    grid = np.linspace(LOW, HIGH, 20_001)
    middles = jnp.asarray((grid[1:] + grid[:-1]) / 2)[:, None]
    density = jnp.exp(jax.vmap(lambda action: actor().log_prob(OBSERVATION, action))(middles))
    assert float(density.sum() * (HIGH - LOW) / 20_000) == pytest.approx(1.0, abs=1e-4)


def test_a_samples_density_is_the_densitys_at_the_sample():
    actions, log_probs = sample_actions(actor(3), jnp.tile(OBSERVATION, (50, 1)), key=jax.random.key(1))
    found = jax.vmap(lambda action: actor(3).log_prob(OBSERVATION, action))(actions)
    np.testing.assert_allclose(found, log_probs, atol=2e-3)
    assert ((actions >= LOW) & (actions <= HIGH)).all()


def test_samples_have_the_distribution_of_the_density():
    """Histogram against the integral of the density over each bin, five standard errors."""
    actions, _ = sample_actions(actor(), jnp.tile(OBSERVATION, (20_000, 1)), key=jax.random.key(2))
    edges = np.linspace(LOW, HIGH, 11)
    counts = np.histogram(actions, edges)[0]
    fine = np.linspace(LOW, HIGH, 2_001)
    middles = jnp.asarray((fine[1:] + fine[:-1]) / 2)[:, None]
    density = jnp.exp(jax.vmap(lambda action: actor().log_prob(OBSERVATION, action))(middles))
    expected = np.asarray(density).reshape(10, 200).mean(axis=1) * (HIGH - LOW) / 10 * 20_000
    assert (np.abs(counts - expected) < 5 * np.sqrt(expected) + 5).all()


def test_the_mode_is_where_zero_noise_leads():
    action, _ = actor().sample(OBSERVATION, jnp.zeros(1))
    np.testing.assert_allclose(actor().mode(OBSERVATION), action)


def test_the_density_and_its_gradient_are_finite_at_the_bounds():
    for action in (LOW, HIGH):
        value, gradient = jax.value_and_grad(
            lambda a, action=action: a.log_prob(OBSERVATION, jnp.array([action]))
        )(actor())
        assert np.isfinite(value)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_far_out_the_density_of_a_sample_stays_a_number():
    """log(1 - tanh^2) by its definition is minus infinity from a latent of about 9 on."""
    _, log_prob = actor().sample(OBSERVATION, jnp.array([60.0]))
    assert np.isfinite(log_prob)


def test_a_policy_acts_by_samples_or_by_its_mode_on_normalised_observations():
    normalizer = GaussianNormalizer(jnp.array([1.0, 2.0]), jnp.array([2.0, 0.5]))
    rows = normalizer.denormalize(jnp.tile(OBSERVATION, (4, 1)))
    mode, _ = GaussianPolicy(actor(), normalizer, True).act(rows, None, key=jax.random.key(0))
    np.testing.assert_allclose(mode, jnp.tile(actor().mode(OBSERVATION), (4, 1)), rtol=1e-5)
    drawn, _ = GaussianPolicy(actor(), normalizer).act(rows, None, key=jax.random.key(0))
    assert len(np.unique(drawn)) == 4
    found = GaussianPolicy(actor(), normalizer).log_prob(rows, drawn)
    expected = jax.vmap(lambda action: actor().log_prob(OBSERVATION, action))(drawn)
    np.testing.assert_allclose(found, expected, atol=1e-4)
