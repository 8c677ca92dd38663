"""Importance weights against NumPy, where ratios of densities would overflow, and their effective sample size."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.normalize import GaussianNormalizer
from langevin.imagination.importance import effective_share, importance_weights, log_ratios, tempering
from langevin.policies.base import SystemSpec, has_density
from langevin.policies.bc import BC
from langevin.policies.td3bc import TD3BC

SPEC = SystemSpec(
    2, 2, jnp.array([-1.0, -2.0]), jnp.array([1.0, 4.0]),
    GaussianNormalizer(jnp.array([0.5, -1.0]), jnp.array([2.0, 0.5])),
)  # fmt: skip
OBSERVATIONS = jnp.asarray(np.random.default_rng(0).normal(size=(6, 2)), jnp.float32)
ACTIONS = jnp.asarray(np.random.default_rng(1).uniform([-1, -2], [1, 4], (6, 2)), jnp.float32)


def policy_of(learner, seed):
    return learner.policy(learner.init(SPEC, key=jax.random.key(seed)))


def test_weights_are_clipped_ratios_over_their_mean():
    ratios = np.array([-7.0, -1.0, 0.0, 0.4, 3.0, 9.0])
    expected = np.clip(np.exp(ratios), 0.01, 100)
    weights = importance_weights(jnp.asarray(ratios, jnp.float32), 0.01, 100.0)
    np.testing.assert_allclose(weights, expected / expected.mean(), rtol=1e-5)
    assert float(weights.mean()) == pytest.approx(1, rel=1e-6)


def test_log_ratios_whose_exponentials_overflow_give_finite_weights():
    """exp(1e4) is infinite in any float; the gradient of what is weighted must not see it either."""
    ratios = jnp.array([1e4, -1e4, 3e38, -3e38, 0.0])
    weights = importance_weights(ratios, 0.01, 100.0)
    expected = np.array([100, 0.01, 100, 0.01, 1])
    np.testing.assert_allclose(weights, expected / expected.mean(), rtol=1e-5)
    gradient = jax.grad(lambda ratios: importance_weights(ratios, 0.01, 100.0)[0])(ratios)
    assert np.isfinite(gradient).all()


def test_weights_that_collapse_are_evened_out_as_far_as_asked_and_others_are_left():
    """Of four rows one has nearly all the weight, 100 to 0.01: a share of a quarter. Their order stays."""
    ratios = jnp.array([5.0, -5.0, -5.0, -5.0])
    assert float(effective_share(importance_weights(ratios, 0.01, 100.0))) == pytest.approx(0.25, abs=1e-3)
    for asked in (0.3, 0.5, 0.9):
        weights = importance_weights(ratios, 0.01, 100.0, asked)
        assert float(effective_share(weights)) == pytest.approx(asked, abs=1e-4)
        assert float(weights.mean()) == pytest.approx(1, rel=1e-6)
        assert weights[0] > weights[1] == weights[2]
    np.testing.assert_allclose(importance_weights(ratios, 0.01, 100.0, 1.0), np.ones(4), atol=1e-3)
    mild = jnp.array([0.1, -0.1, 0.0, 0.2])
    np.testing.assert_array_equal(
        importance_weights(mild, 0.01, 100.0, 0.5), importance_weights(mild, 0.01, 100.0)
    )


def test_two_rows_are_evened_out_by_a_power_that_can_be_worked_out():
    """A ratio of 100: at power p the share is (1 + 100^p)^2 / 2 (1 + 100^2p), 0.8 where 100^p is 3."""
    ratios = jnp.log(jnp.array([10.0, 0.1]))
    weights = importance_weights(ratios, 0.01, 100.0, 0.8)
    np.testing.assert_allclose(weights, [1.5, 0.5], rtol=1e-4)
    assert float(tempering(ratios, 0.8)) == pytest.approx(np.log(3) / np.log(100), abs=1e-5)


@pytest.mark.parametrize(
    ("weights", "share"),
    [([2.0, 2, 2, 2], 1.0), ([0, 0, 0, 5.0], 0.25), ([1.0, 1, 0, 0], 0.5), ([3.0, 1], 0.8)],
)
def test_the_effective_share_of_known_weights(weights, share):
    assert float(effective_share(jnp.array(weights))) == pytest.approx(share, rel=1e-6)


def normal_log(x, mean, std):
    return (-0.5 * ((x - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)).sum(axis=-1)


def test_the_ratio_is_a_difference_of_log_densities():
    """Two Gaussians with bounded means, whose densities are written out."""
    learner = BC(gaussian=True, squashed=False, width=8, depth=1)
    policy, behaviour = policy_of(learner, 0), policy_of(learner, 1)
    policy = eqx.tree_at(lambda p: p.actor.log_std, policy, jnp.array([-1.0, 0.3]))
    found = log_ratios(policy, behaviour, OBSERVATIONS, ACTIONS, key=jax.random.key(0))
    densities = [
        normal_log(np.asarray(ACTIONS), np.asarray(of.greedy().act(OBSERVATIONS, None, key=jax.random.key(0))[0]),
                   np.exp(log_std) * np.array([1.0, 3.0]))
        for of, log_std in ((policy, np.array([-1.0, 0.3])), (behaviour, np.zeros(2)))
    ]  # fmt: skip
    np.testing.assert_allclose(found, densities[0] - densities[1], rtol=1e-4, atol=1e-5)


def test_what_squashing_does_to_a_density_at_the_bounds_cancels():
    """Of two squashed Gaussians that differ by a shift of their latent mean, at the bounds as between them."""
    learner = BC(gaussian=True, width=8, depth=1)
    behaviour = policy_of(learner, 0)
    silent = jax.tree.map(jnp.zeros_like, behaviour.actor.network)
    behaviour = eqx.tree_at(lambda p: p.actor.network, behaviour, silent)
    bias = jnp.array([0.1, 0.0, 0.0, 0.0])
    policy = eqx.tree_at(lambda p: p.actor.network.layers[-1].bias, behaviour, bias)
    actions = jnp.array([[-1.0, 1.0], [0.0, 1.0], [1.0, 4.0]])
    found = log_ratios(policy, behaviour, jnp.zeros((3, 2)), actions, key=jax.random.key(0))
    latent = np.arctanh(np.clip([-1.0, 0, 1], -1 + 1e-6, 1 - 1e-6))
    np.testing.assert_allclose(found, 0.1 * latent - 0.005, rtol=0.02, atol=1e-3)


def test_a_policy_without_a_density_is_a_gaussian_about_its_action():
    learner = TD3BC(width=8, depth=1)
    policy, behaviour = (
        policy_of(learner, 0),
        policy_of(BC(gaussian=True, squashed=False, width=8, depth=1), 1),
    )
    assert not has_density(policy)
    assert has_density(behaviour)
    found = log_ratios(policy, behaviour, OBSERVATIONS, ACTIONS, key=jax.random.key(0))
    chosen, _ = policy.act(OBSERVATIONS, None, key=jax.random.key(0))
    own = normal_log(np.asarray(ACTIONS), np.asarray(chosen), 0.2 * np.array([1.0, 3.0]))
    np.testing.assert_allclose(found + behaviour.log_prob(OBSERVATIONS, ACTIONS), own, rtol=1e-4, atol=1e-4)
