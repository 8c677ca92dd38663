"""Behaviour cloning: least squares on the action, in the data's units."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.normalize import GaussianNormalizer
from langevin.data.sampling import Transitions, sample_transitions
from langevin.policies.base import SystemSpec
from langevin.policies.bc import BC

LOW, HIGH = jnp.array([-1.0, 2.0]), jnp.array([1.0, 6.0])
LEARNER = BC(width=32, depth=1, learning_rate=5e-3)


def known_actions(observations):
    """Well inside the bounds, of which the second are far from zero."""
    return jnp.stack(
        [0.7 * jnp.sin(observations[:, 0] / 50), 4 + 1.5 * jnp.tanh(observations[:, 1] * 100)], axis=1
    )


def data(seed, noise=0.0):
    """Observations in units as different as 100 and 0.01, so that nothing is learned without normalisation."""
    key, noise_key = jax.random.split(jax.random.key(seed))
    observations = jax.random.normal(key, (2000, 2)) * jnp.array([100.0, 0.01]) + jnp.array([300.0, 0.0])
    actions = known_actions(observations) + noise * jax.random.normal(noise_key, (2000, 2))
    actions = jnp.clip(actions, LOW, HIGH)
    return Transitions(observations, actions, jnp.zeros(2000), jnp.zeros(2000), observations)


@eqx.filter_jit
def train(transitions, seed, updates=1500):
    spec = SystemSpec(2, 2, LOW, HIGH, GaussianNormalizer.fit(transitions.observations))
    key = jax.random.key(seed)

    def update(state, step):
        batch = sample_transitions(transitions, 128, key=jax.random.fold_in(key, step))
        return LEARNER.update(state, batch, step=step, key=key)

    return jax.lax.scan(update, LEARNER.init(spec, key=key), jnp.arange(updates))


def test_cloning_learns_a_known_mapping_from_noisy_actions():
    state, metrics = train(data(0, noise=0.2), 0)
    fresh = data(1)
    policy = LEARNER.policy(state)
    actions, _ = policy.act(fresh.observations, policy.start(2000), key=jax.random.key(0))
    error = np.square(np.asarray(actions - known_actions(fresh.observations))).mean(axis=0)
    assert np.all(error < 0.05 * np.asarray(fresh.actions).var(axis=0))
    noise_floor = np.asarray(metrics["actor/loss"])[-200:].mean()
    assert 0.7 * 0.04 < noise_floor < 1.2 * 0.04, "the loss ends at the noise's variance"
    assert np.all((actions >= LOW) & (actions <= HIGH))


def test_the_loss_is_the_mean_squared_error_in_action_units():
    transitions = data(2)
    normalizer = GaussianNormalizer.fit(transitions.observations)
    spec = SystemSpec(2, 2, LOW, HIGH, normalizer)
    state = LEARNER.init(spec, key=jax.random.key(0))
    silent = jax.tree.map(jnp.zeros_like, state.actor.network)
    actor = eqx.tree_at(lambda a: a.network, state.actor, silent)
    middle = np.array([0.0, 4.0])
    expected = np.square(middle - np.asarray(transitions.actions)).mean()
    np.testing.assert_allclose(LEARNER.loss(actor, normalizer, transitions), expected, rtol=1e-5)


def test_a_gaussian_clone_acts_as_randomly_as_the_data_did():
    """Actions of spread 0.3 before their tanh: least squares would act by their mean alone."""
    latent = 0.4 + 0.3 * jax.random.normal(jax.random.key(0), (4000, 1))
    rows = Transitions(
        jnp.zeros((4000, 1)), jnp.tanh(latent), jnp.zeros(4000), jnp.zeros(4000), jnp.zeros((4000, 1))
    )
    learner = BC(width=8, depth=1, learning_rate=1e-2, gaussian=True)
    spec = SystemSpec(1, 1, -jnp.ones(1), jnp.ones(1), GaussianNormalizer(jnp.zeros(1), jnp.ones(1)))
    update = lambda state, step: learner.update(state, rows, step=step, key=jax.random.key(0))
    state, _ = jax.lax.scan(update, learner.init(spec, key=jax.random.key(0)), jnp.arange(600))
    policy = learner.policy(state)
    drawn = np.arctanh(np.asarray(policy.act(jnp.zeros((4000, 1)), None, key=jax.random.key(1))[0]))
    np.testing.assert_allclose([drawn.mean(), drawn.std()], [0.4, 0.3], atol=0.02)
    mode, _ = policy.greedy().act(jnp.zeros((1, 1)), None, key=jax.random.key(1))
    np.testing.assert_allclose(np.arctanh(np.asarray(mode)), 0.4, atol=0.02)


def test_a_gaussian_that_is_not_squashed_has_the_spread_of_the_data_and_a_finite_density_at_the_bounds():
    """Half of these actions lie at the upper bound."""
    actions = jnp.minimum(0.8 + 0.3 * jax.random.normal(jax.random.key(0), (4000, 1)), 0.8)
    rows = Transitions(jnp.zeros((4000, 1)), actions, jnp.zeros(4000), jnp.zeros(4000), jnp.zeros((4000, 1)))
    learner = BC(width=8, depth=1, learning_rate=1e-2, gaussian=True, squashed=False)
    spec = SystemSpec(
        1, 1, jnp.array([-0.8]), jnp.array([0.8]), GaussianNormalizer(jnp.zeros(1), jnp.ones(1))
    )
    update = lambda state, step: learner.update(state, rows, step=step, key=jax.random.key(0))
    state, _ = jax.lax.scan(update, learner.init(spec, key=jax.random.key(0)), jnp.arange(600))
    policy = learner.policy(state)
    mean, std = float(actions.mean()), float(actions.std())
    mode, _ = policy.greedy().act(jnp.zeros((1, 1)), None, key=jax.random.key(1))
    np.testing.assert_allclose(mode, mean, atol=0.02)
    at_bound = float(policy.log_prob(jnp.zeros((1, 1)), jnp.array([[0.8]]))[0])
    expected = -0.5 * ((0.8 - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)
    assert at_bound == pytest.approx(expected, abs=0.1)
