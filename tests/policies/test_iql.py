"""IQL's three losses against NumPy; that the expectile moves from the mean towards the best of the data."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.policies.critics import action_values, bellman_loss
from langevin.policies.iql import IQL
from tests.policies import by_hand

LEARNER = IQL(width=8, depth=1)


@pytest.fixture(scope="module")
def batch():
    return by_hand.make_batch()


@pytest.fixture(scope="module")
def state():
    fresh = LEARNER.init(by_hand.make_spec(), key=jax.random.key(0))
    other = LEARNER.init(by_hand.make_spec(), key=jax.random.key(1))
    state = eqx.tree_at(lambda s: s.target_critics, fresh, other.critics)
    return eqx.tree_at(lambda s: s.actor.log_std, state, jnp.array([-0.5, 0.3]))


def test_the_value_loss_is_the_expectiles(state, batch):
    x = by_hand.standard(batch.observations)
    target = by_hand.values(state.target_critics, x, np.asarray(batch.actions)).min(axis=0)
    difference = target - by_hand.forward(state.value, x)[:, 0]
    assert (difference < 0).any() or (difference > 0).any()
    expected = (np.abs(0.7 - (difference < 0)) * difference**2).mean()
    loss, _ = LEARNER.value_loss(state.value, jnp.asarray(x, jnp.float32), jnp.asarray(target, jnp.float32))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_the_critic_loss_bootstraps_from_the_value_and_not_past_a_terminal(state, batch):
    x, y = by_hand.standard(batch.observations), by_hand.standard(batch.next_observations)
    targets = np.asarray(batch.rewards) + 0.99 * (1 - np.asarray(batch.terminations)) * by_hand.forward(
        state.value, y
    )[:, 0]  # fmt: skip
    expected = ((by_hand.values(state.critics, x, np.asarray(batch.actions)) - targets) ** 2).mean(1).sum()
    found = LEARNER.targets(state.value, state.normalizer, batch)
    np.testing.assert_allclose(found, targets, rtol=1e-5, atol=1e-6)
    loss, _ = bellman_loss(state.critics, batch, jnp.asarray(x, jnp.float32), found)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_the_value_moves_by_its_own_loss_alone(state, batch):
    after, _ = LEARNER.update(state, batch, step=jnp.int32(0), key=jax.random.key(0))
    x = by_hand.standard(batch.observations)
    target = by_hand.values(state.target_critics, x, np.asarray(batch.actions)).min(axis=0)
    gradient, _ = eqx.filter_grad(LEARNER.value_loss, has_aux=True)(
        state.value, jnp.asarray(x, jnp.float32), jnp.asarray(target, jnp.float32)
    )
    for old, new, down in zip(*map(jax.tree.leaves, (state.value, after.value, gradient)), strict=True):
        moved = np.asarray(new - old)
        large = np.abs(np.asarray(down)) > 1e-4
        np.testing.assert_allclose(moved[large], -3e-4 * np.sign(np.asarray(down))[large], rtol=1e-2)


def test_the_actor_loss_weighs_the_log_density_by_the_clipped_exponential_of_the_advantage(state, batch):
    x, actions = by_hand.standard(batch.observations), np.asarray(batch.actions, np.float64)
    advantages = np.array([-1.0, 0.0, 0.5, 1.0, 3.0])  # exp(9) is beyond the largest weight
    weights = np.minimum(np.exp(3 * advantages), 100)
    std = np.exp([-0.5, 0.3]) * (by_hand.HIGH - by_hand.LOW) / 2
    error = (actions - by_hand.squashed(by_hand.forward(state.actor.network, x))) / std
    log_prob = (-0.5 * error**2 - np.log(std) - 0.5 * np.log(2 * np.pi)).sum(axis=1)
    loss, _ = LEARNER.actor_loss(
        state.actor, jnp.asarray(x, jnp.float32), batch.actions, jnp.asarray(advantages, jnp.float32)
    )
    np.testing.assert_allclose(loss, -(weights * log_prob).mean(), rtol=1e-5)


def test_an_action_at_its_bound_has_a_finite_density_and_gradient(state):
    """Where a squashed Gaussian's would be infinite."""
    observation, action = jnp.zeros(3), jnp.array([1.0, -2.0])
    value, slope = eqx.filter_value_and_grad(lambda actor: actor.log_prob(observation, action))(state.actor)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))


def test_the_actors_learning_rate_falls_to_nothing(state, batch):
    learner = IQL(width=8, depth=1, decay_steps=3)
    current = learner.init(by_hand.make_spec(), key=jax.random.key(0))
    sizes = []
    for step in range(5):
        after, _ = learner.update(current, batch, step=jnp.int32(step), key=jax.random.key(0))
        moved = after.actor.network.layers[0].weight - current.actor.network.layers[0].weight
        sizes.append(float(jnp.abs(moved).max()))
        current = after
    assert sizes[0] > sizes[1] > sizes[2] > 0
    assert sizes[3:] == [0, 0]


@pytest.mark.parametrize("expectile", [0.5, 0.7, 0.9])
def test_the_value_becomes_the_expectile_of_the_actions_values(expectile):
    """Returns 0 and 1, equally often, in one state: the expectile of a fair coin is the expectile itself."""
    learner = IQL(width=8, depth=1, expectile=expectile, learning_rate=1e-2)
    state = learner.init(by_hand.make_spec(), key=jax.random.key(0))
    targets, observations = jnp.array([0.0, 1.0]), jnp.zeros((2, 3))

    @jax.jit
    def learn(value):
        def one(value, _):
            slope = jax.grad(lambda v: learner.value_loss(with_bias(v), observations, targets)[0])(value)
            return value - 0.5 * slope, None

        return jax.lax.scan(one, value, None, length=300)[0]

    def with_bias(bias):
        zero = jax.tree.map(lambda leaf: 0 * leaf if eqx.is_inexact_array(leaf) else leaf, state.value)
        return eqx.tree_at(lambda v: v.layers[-1].bias, zero, bias[None])

    assert float(learn(jnp.array(0.2))) == pytest.approx(expectile, abs=1e-3)


def test_normalised_layers_bound_the_value_of_states_that_nobody_saw(batch):
    """A million deviations away the values are no larger than the last layer allows."""
    learner = IQL(width=8, depth=1, layer_norm=True)
    state = learner.init(by_hand.make_spec(), key=jax.random.key(0))
    state, _ = learner.update(state, batch, step=jnp.int32(0), key=jax.random.key(1))
    far = 1e6 * jnp.ones((1, batch.observations.shape[1]))
    last = state.value.layers[-1]
    bound = jnp.linalg.norm(last.weight) * 2 * 8**0.5 + jnp.abs(last.bias)[0]
    assert jnp.abs(jax.vmap(state.value)(far)).max() <= bound
    values = action_values(state.critics, far, batch.actions[:1])
    assert values.shape == (2, 1)
    assert jnp.abs(values).max() < 100
