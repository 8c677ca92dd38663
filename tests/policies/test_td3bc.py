"""TD3+BC's targets, losses and gradients against numbers worked out in NumPy; its schedule of updates."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.normalize import GaussianNormalizer
from langevin.data.sampling import Transitions
from langevin.policies.base import SystemSpec
from langevin.policies.critics import bellman_loss
from langevin.policies.td3bc import TD3BC

LEARNER = TD3BC(width=8, depth=1)
ROWS = 5


@pytest.fixture(scope="module")
def spec():
    normalizer = GaussianNormalizer(jnp.array([0.5, -1.0, 2.0]), jnp.array([2.0, 0.5, 1.5]))
    return SystemSpec(3, 2, jnp.array([-1.0, -2.0]), jnp.array([1.0, 2.0]), normalizer)


@pytest.fixture(scope="module")
def state(spec):
    fresh = LEARNER.init(spec, key=jax.random.key(0))
    other = LEARNER.init(spec, key=jax.random.key(1))  # targets that differ, so a mix-up is seen
    return eqx.tree_at(lambda s: (s.target_actor, s.target_critics), fresh, (other.actor, other.critics))


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    return Transitions(
        observations=jnp.asarray(rng.normal(size=(ROWS, 3)), jnp.float32),
        actions=jnp.asarray(rng.uniform(-1, 1, size=(ROWS, 2)), jnp.float32),
        rewards=jnp.asarray(rng.normal(size=ROWS), jnp.float32),
        terminations=jnp.array([0.0, 1.0, 0.0, 0.0, 1.0]),
        next_observations=jnp.asarray(rng.normal(size=(ROWS, 3)), jnp.float32),
    )


def by_hand(layers, x):
    """A one-hidden-layer ReLU network in NumPy."""
    first, last = layers
    hidden = np.maximum(x @ np.asarray(first[0]) + np.asarray(first[1]), 0)
    return hidden @ np.asarray(last[0]) + np.asarray(last[1])


def weights(mlp, member=None):
    """(weight as (in, out), bias) of each layer."""
    pick = (lambda leaf: np.asarray(leaf)[member]) if member is not None else np.asarray
    layers = []
    for layer in mlp.layers:
        weight, bias = pick(layer.weight), pick(layer.bias)
        layers.append((weight if weight.shape[1] == bias.shape[0] else weight.T, bias))
    return layers


def actor_by_hand(actor, x):
    low, high = np.asarray(actor.action_low), np.asarray(actor.action_high)
    return low + (high - low) * (np.tanh(by_hand(weights(actor.network), x)) + 1) / 2


def critics_by_hand(critics, x, actions):
    inputs = np.concatenate([x, actions], axis=1)
    return np.stack([by_hand(weights(critics.networks, member), inputs)[:, 0] for member in range(2)])


def standard(state, observations):
    return (np.asarray(observations) - np.asarray(state.normalizer.mean)) / np.asarray(state.normalizer.std)


def targets_by_hand(state, batch, key):
    noise = np.clip(0.2 * np.asarray(jax.random.normal(key, (ROWS, 2))), -0.5, 0.5) * np.array([1.0, 2.0])
    x = standard(state, batch.next_observations)
    actions = np.clip(actor_by_hand(state.target_actor, x) + noise, [-1, -2], [1, 2])
    values = critics_by_hand(state.target_critics, x, actions).min(axis=0)
    return np.asarray(batch.rewards) + 0.99 * (1 - np.asarray(batch.terminations)) * values


def test_targets_equal_the_hand_computed_case(state, batch):
    key = jax.random.key(3)
    targets = np.asarray(LEARNER.targets(state, batch, key=key))
    assert np.allclose(targets, targets_by_hand(state, batch, key), atol=1e-5)
    terminal = np.asarray(batch.terminations) == 1
    assert np.allclose(targets[terminal], np.asarray(batch.rewards)[terminal]), "a terminal has no future"


def test_critic_loss_equals_the_equation(state, batch):
    x, targets = standard(state, batch.observations), targets_by_hand(state, batch, jax.random.key(3))
    expected = ((critics_by_hand(state.critics, x, np.asarray(batch.actions)) - targets) ** 2).mean(1).sum()
    loss, _ = bellman_loss(state.critics, batch, jnp.asarray(x), jnp.asarray(targets, jnp.float32))
    assert np.allclose(loss, expected, rtol=1e-5)


def test_actor_loss_equals_the_equation(state, batch):
    x = standard(state, batch.observations)
    actions = actor_by_hand(state.actor, x)
    values = critics_by_hand(state.critics, x, actions)[0]
    expected = (
        -2.5 / np.abs(values).mean() * values.mean() + ((actions - np.asarray(batch.actions)) ** 2).mean()
    )
    loss, _ = LEARNER.actor_loss(state.actor, state.critics, batch, jnp.asarray(x))
    assert np.allclose(loss, expected, rtol=1e-5)


def test_actor_gradient_matches_finite_differences_with_the_weight_held_fixed(state, batch):
    """lambda carries no gradient: differentiate -lambda0 Q + cloning with lambda0 a number."""
    x = standard(state, batch.observations)
    weight = 2.5 / np.abs(critics_by_hand(state.critics, x, actor_by_hand(state.actor, x))[0]).mean()

    def loss_at(bias_shift):
        actor = eqx.tree_at(
            lambda a: a.network.layers[-1].bias, state.actor, replace_fn=lambda b: b + bias_shift
        )
        actions = actor_by_hand(actor, x)
        values = critics_by_hand(state.critics, x, actions)[0]
        return -weight * values.mean() + ((actions - np.asarray(batch.actions)) ** 2).mean()

    gradient, _ = eqx.filter_grad(LEARNER.actor_loss, has_aux=True)(
        state.actor, state.critics, batch, jnp.asarray(x)
    )
    step = 1e-3
    for index in range(2):
        shift = step * np.eye(2)[index]
        slope = (loss_at(shift) - loss_at(-shift)) / (2 * step)
        assert np.allclose(gradient.network.layers[-1].bias[index], slope, atol=2e-3)


def moved(before, after):
    pairs = zip(jax.tree.leaves(eqx.filter(before, eqx.is_array)), jax.tree.leaves(eqx.filter(after, eqx.is_array)),
                strict=True)  # fmt: skip
    return [not np.array_equal(old, new) for old, new in pairs]


def test_actor_and_targets_move_only_at_every_second_update(state, batch):
    update = eqx.filter_jit(LEARNER.update)
    first, _ = update(state, batch, step=jnp.int32(0), key=jax.random.key(0))
    assert not any(moved(state.actor, first.actor) + moved(state.target_critics, first.target_critics))
    assert all(moved(state.critics.networks.layers, first.critics.networks.layers))
    second, _ = update(first, batch, step=jnp.int32(1), key=jax.random.key(1))
    assert all(moved(first.actor.network.layers, second.actor.network.layers))
    online, old = second.critics.networks.layers[0].weight, first.target_critics.networks.layers[0].weight
    target = second.target_critics.networks.layers[0].weight
    assert np.allclose(target, 0.995 * old + 0.005 * online, atol=1e-6)


def test_action_bounds_are_never_trained(state, batch):
    new, _ = eqx.filter_jit(LEARNER.update)(state, batch, step=jnp.int32(1), key=jax.random.key(0))
    assert np.array_equal(new.actor.action_low, state.actor.action_low)
    assert np.array_equal(new.actor.action_high, state.actor.action_high)
