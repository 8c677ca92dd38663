"""BCQ's targets and losses against NumPy; that it picks the best of what the data do and nothing else."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.policies.action_vae import latents
from langevin.policies.bcq import BCQ
from langevin.policies.critics import bellman_loss, best_of, soft_clipped_minimum
from tests.policies import by_hand

LEARNER = BCQ(width=8, depth=1, vae_width=8, candidates=3)
KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def batch():
    return by_hand.make_batch()


@pytest.fixture(scope="module")
def state():
    fresh = LEARNER.init(by_hand.make_spec(), key=jax.random.key(0))
    other = LEARNER.init(by_hand.make_spec(), key=jax.random.key(1))
    return eqx.tree_at(
        lambda s: (s.target_critics, s.target_perturbation), fresh, (other.critics, other.perturbation)
    )


def proposals(state, perturbation, x, key):
    drawn = np.asarray(latents(state.vae, x.shape[:1], key=key), np.float64)
    actions = by_hand.squashed(by_hand.forward(state.vae.decoder, np.concatenate([x, drawn], axis=1)))
    shift = np.tanh(by_hand.forward(perturbation.network, np.concatenate([x, actions], axis=1)))
    half = (by_hand.HIGH - by_hand.LOW) / 2
    return np.clip(actions + 0.05 * half * shift, by_hand.LOW, by_hand.HIGH)


def test_targets_are_the_best_of_the_soft_clipped_minima(state, batch):
    y = np.repeat(by_hand.standard(batch.next_observations), 3, axis=0)
    values = by_hand.values(state.target_critics, y, proposals(state, state.target_perturbation, y, KEY))
    best = (0.75 * values.min(0) + 0.25 * values.max(0)).reshape(by_hand.ROWS, 3).max(axis=1)
    expected = np.asarray(batch.rewards) + 0.99 * (1 - np.asarray(batch.terminations)) * best
    np.testing.assert_allclose(LEARNER.targets(state, batch, key=KEY), expected, rtol=1e-5, atol=1e-6)


def test_critic_and_perturbation_losses_equal_their_formulas(state, batch):
    x, targets = by_hand.standard(batch.observations), np.arange(by_hand.ROWS, dtype=np.float32)
    observations = jnp.asarray(x, jnp.float32)
    expected = ((by_hand.values(state.critics, x, np.asarray(batch.actions)) - targets) ** 2).mean(1).sum()
    loss, _ = bellman_loss(state.critics, batch, observations, jnp.asarray(targets))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    actions = proposals(state, state.perturbation, x, KEY)
    loss = LEARNER.perturbation_loss(state.perturbation, state.vae, state.critics, observations, key=KEY)
    np.testing.assert_allclose(
        loss, -by_hand.values(state.critics, x, actions)[0].mean(), rtol=1e-5, atol=1e-7
    )


def test_the_autoencoders_loss_equals_its_formula(state, batch):
    x = by_hand.standard(batch.observations)
    scaled = 2 * (np.asarray(batch.actions, np.float64) - by_hand.LOW) / (by_hand.HIGH - by_hand.LOW) - 1
    mean, log_std = np.split(by_hand.forward(state.vae.encoder, np.concatenate([x, scaled], 1)), 2, axis=1)
    latent = mean + np.exp(log_std) * np.asarray(jax.random.normal(KEY, mean.shape))
    decoded = np.tanh(by_hand.forward(state.vae.decoder, np.concatenate([x, latent], axis=1)))
    divergence = -0.5 * (1 + 2 * log_std - mean**2 - np.exp(2 * log_std)).mean()
    expected = ((decoded - scaled) ** 2).mean() + 0.5 * divergence
    loss = state.vae.loss(jnp.asarray(x, jnp.float32), batch.actions, key=KEY)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_a_perturbation_is_small_and_stays_inside_the_bounds(state):
    actions = jnp.asarray(np.random.default_rng(0).uniform(by_hand.LOW, by_hand.HIGH, (100, 2)), jnp.float32)
    moved = jax.vmap(state.perturbation)(jnp.zeros((100, 3)), actions)
    assert np.all(np.abs(moved - actions) <= 0.05 * (by_hand.HIGH - by_hand.LOW) / 2 + 1e-6)
    assert np.all((moved >= by_hand.LOW) & (moved <= by_hand.HIGH))


def test_soft_clipping_weighs_the_smaller_value():
    assert float(soft_clipped_minimum(jnp.array([1.0, 3.0]), 0.75)) == pytest.approx(1.5)


def test_the_best_candidate_of_each_row_is_taken():
    actions = jnp.arange(12.0).reshape(6, 2)
    found = best_of(actions, jnp.array([0.0, 2.0, 1.0, 5.0, 2.0, 1.0]), 3)
    np.testing.assert_array_equal(found, [[2, 3], [6, 7]])


def test_it_takes_the_better_of_two_habits_and_not_their_mean():
    """The data act at -0.8 and at 0.8, paid 0 and 1; their mean, 0, is what cloning would do."""
    rng = np.random.default_rng(0)
    actions = np.repeat([-0.8, 0.8], 32)[:, None] + rng.normal(scale=0.02, size=(64, 1))
    zeros = jnp.zeros((64, 1))
    batch = by_hand.Transitions(
        zeros, jnp.asarray(actions, jnp.float32), jnp.repeat(jnp.array([0.0, 1.0]), 32), jnp.ones(64), zeros
    )
    spec = by_hand.SystemSpec(
        1, 1, -jnp.ones(1), jnp.ones(1), by_hand.GaussianNormalizer(jnp.zeros(1), jnp.ones(1))
    )
    learner = BCQ(width=32, depth=1, vae_width=32, learning_rate=3e-3)

    @eqx.filter_jit
    def learn(state):
        arrays, rest = eqx.partition(state, eqx.is_array)

        def one(arrays, step):
            key = jax.random.fold_in(KEY, step)
            state, _ = learner.update(eqx.combine(arrays, rest), batch, step=step, key=key)
            return eqx.filter(state, eqx.is_array), None

        return eqx.combine(jax.lax.scan(one, arrays, jnp.arange(1500))[0], rest)

    policy = learner.policy(learn(learner.init(spec, key=KEY)))
    chosen, _ = policy.act(jnp.zeros((20, 1)), None, key=KEY)
    assert np.all(np.abs(np.asarray(chosen) - 0.8) < 0.2), chosen
