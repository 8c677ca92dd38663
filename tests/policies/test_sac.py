"""SAC: its targets and losses by hand, and that it finds the softly best action."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.normalize import GaussianNormalizer
from langevin.data.sampling import Transitions
from langevin.policies.base import SystemSpec
from langevin.policies.sac import SAC, soft_bellman_loss

SPEC = SystemSpec(
    3,
    2,
    -jnp.ones(2),
    jnp.ones(2),
    GaussianNormalizer(jnp.array([0.5, 0.0, -1.0]), jnp.array([2.0, 1.0, 0.5])),
)
LEARNER = SAC(width=16, depth=1)


@pytest.fixture(scope="module")
def state():
    made = LEARNER.init(SPEC, key=jax.random.key(0))
    return eqx.tree_at(lambda s: s.log_temperature, made, jnp.log(0.3))


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    return Transitions(draw(6, 3), jnp.tanh(draw(6, 2)), draw(6), jnp.array([0, 1, 0, 0, 1, 0.0]), draw(6, 3))


def relu_network(network, inputs: np.ndarray) -> np.ndarray:
    """A network of one hidden layer, in NumPy."""
    first, last = ((np.asarray(layer.weight), np.asarray(layer.bias)) for layer in network.layers)
    return np.maximum(inputs @ first[0] + first[1], 0) @ last[0] + last[1]


def standard(observations):
    return (np.asarray(observations) - [0.5, 0, -1]) / [2, 1, 0.5]


def sample_by_hand(actor, states, key):
    """Squashed Gaussian actions and their log density, from its definition."""
    noise = np.asarray(jax.random.normal(key, (6, 2)))
    mean, log_std = np.split(relu_network(actor.network, states), 2, axis=1)
    actions = np.tanh(mean + np.exp(log_std) * noise)
    density = -(noise**2) / 2 - log_std - np.log(2 * np.pi) / 2 - np.log(1 - actions**2)
    return actions, density.sum(axis=1)


def values_by_hand(critics, states, actions):
    inputs = np.concatenate([states, actions], axis=1)
    return np.stack([relu_network(critics.member(index), inputs)[:, 0] for index in (0, 1)])


def test_targets_equal_a_computation_by_hand(state, batch):
    """r + gamma (1 - terminal) (min Q' - alpha log pi)."""
    key = jax.random.key(3)
    states = standard(batch.next_observations)
    actions, density = sample_by_hand(state.actor, states, key)
    soft = values_by_hand(state.target_critics, states, actions).min(axis=0) - 0.3 * density
    expected = np.asarray(batch.rewards) + 0.99 * (1 - np.asarray(batch.terminations)) * soft
    np.testing.assert_allclose(LEARNER.targets(state, batch, key=key), expected, rtol=1e-5, atol=1e-5)


def test_losses_equal_their_formulas(state, batch):
    observations, states = state.normalizer.normalize(batch.observations), standard(batch.observations)
    loss, _ = soft_bellman_loss(state.critics, batch, observations, jnp.arange(6.0))
    values = values_by_hand(state.critics, states, np.asarray(batch.actions))
    assert float(loss) == pytest.approx(0.5 * ((values - np.arange(6)) ** 2).mean(1).sum(), rel=1e-5)
    key = jax.random.key(4)
    loss, log_prob = LEARNER.actor_loss(
        state.actor, state.critics, state.log_temperature, observations, key=key
    )
    actions, density = sample_by_hand(state.actor, states, key)
    smaller = values_by_hand(state.critics, states, actions).min(axis=0)
    assert float(loss) == pytest.approx((0.3 * density - smaller).mean(), rel=1e-5, abs=1e-6)
    assert float(log_prob) == pytest.approx(density.mean(), rel=1e-5)


@pytest.mark.parametrize(("log_prob", "rises"), [(3.0, True), (1.0, False)])
def test_the_temperature_rises_where_the_policy_is_more_certain_than_asked(log_prob, rises):
    """Two dimensions at -1 nat each: an entropy of -2, a log density of 2."""
    slope = jax.grad(LEARNER.temperature_loss)(jnp.array(0.0), jnp.array(log_prob), 2)
    assert (float(slope) < 0) == rises


def test_a_terminal_state_has_no_value_after_it(state, batch):
    ended = eqx.tree_at(lambda b: b.terminations, batch, jnp.ones(6))
    np.testing.assert_allclose(LEARNER.targets(state, ended, key=jax.random.key(0)), batch.rewards, rtol=1e-6)


def test_it_finds_the_best_action_and_keeps_the_entropy_it_was_told_to():
    """One-step episodes paid -(a - 0.4)^2 * 20 from random actions: the mode goes to 0.4, the entropy to -1 nat."""
    learner = SAC(width=32, depth=1, actor_learning_rate=3e-3, critic_learning_rate=3e-3, target_rate=0.05)
    spec = SystemSpec(1, 1, -jnp.ones(1), jnp.ones(1), GaussianNormalizer(jnp.zeros(1), jnp.ones(1)))

    @eqx.filter_jit
    def learn(state, key):
        arrays, rest = eqx.partition(state, eqx.is_array)

        def one(arrays, key):
            action_key, update_key = jax.random.split(key)
            actions = jax.random.uniform(action_key, (64, 1), minval=-1, maxval=1)
            rows = Transitions(
                jnp.zeros((64, 1)),
                actions,
                -20 * (actions[:, 0] - 0.4) ** 2,
                jnp.ones(64),
                jnp.zeros((64, 1)),
            )
            state, metrics = learner.update(
                eqx.combine(arrays, rest), rows, step=jnp.int32(0), key=update_key
            )
            return eqx.filter(state, eqx.is_array), metrics

        arrays, metrics = jax.lax.scan(one, arrays, jax.random.split(key, 3000))
        return eqx.combine(arrays, rest), jax.tree.map(lambda leaf: leaf[-500:].mean(), metrics)

    state, metrics = learn(learner.init(spec, key=jax.random.key(0)), jax.random.key(1))
    mode = state.actor.mode(jnp.zeros(1))
    assert float(mode[0]) == pytest.approx(0.4, abs=0.08)
    assert float(metrics["actor/entropy"]) == pytest.approx(-1.0, abs=0.15)
