"""MOPO's and MOReL's worlds in ensembles that can be worked out by hand, and what pessimism is for."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.sampling import Transitions
from langevin.imagination.branched import BranchedRollouts
from langevin.imagination.pessimism import HaltingWorld, PenalisedWorld, Unknown, fit_unknown
from langevin.policies.base import SystemSpec
from langevin.policies.sac import SAC
from tests.known_models import UNIT, linear_ensemble, linear_reward, never

REWARD = linear_reward(1.0, 0.0)
STARTS = jnp.array([[1.0], [0.1], [-0.4]])


@eqx.filter_jit
def imagine(world, policy, starts, horizon, seed):
    return world.imagine(policy, starts, horizon, key=jax.random.key(seed))


def test_next_states_are_drawn_from_the_gaussian_of_a_random_elite(feedback):
    """One member says 0.3 +- 0.2, the other 2 +- 0.5: half of the next states look like either."""
    dynamics = linear_ensemble(((0, 0, 0.3), (0, 0, 2 * np.log(0.2))), ((0, 0, 2.0), (0, 0, 2 * np.log(0.5))))
    found = imagine(
        PenalisedWorld(dynamics, REWARD, never, None), feedback(0.0), jnp.zeros((20_000, 1)), 2, 0
    )
    after = np.asarray(found.observations)[:, 1, 0]
    np.testing.assert_allclose(after.mean(), (0.3 + 2.0) / 2, atol=0.03)
    np.testing.assert_allclose(after.var(), (0.2**2 + 0.5**2) / 2 + ((2.0 - 0.3) / 2) ** 2, rtol=0.03)
    np.testing.assert_allclose((after < 0.3).mean(), 0.25, atol=0.02)
    np.testing.assert_allclose((after > 2.0).mean(), 0.25, atol=0.02)


def test_the_penalty_is_lambda_times_the_largest_std_of_where_each_transition_began(feedback):
    """log variances -2 + s and -3 + 2 a, under a = s / 2: std exp((s - 2) / 2) or exp((s - 3) / 2)."""
    dynamics = linear_ensemble(((0, 0.1, 0), (1, 0, -2)), ((0, 0.1, 0), (0, 4, -3)))
    found = imagine(PenalisedWorld(dynamics, REWARD, never, 0.7), feedback(0.5), STARTS, 4, 0)
    states = np.asarray(found.observations)[:, :-1, 0].astype(np.float64)
    doubt = np.maximum(np.exp((states - 2) / 2), np.exp((4 * states / 2 - 3) / 2))
    np.testing.assert_allclose(found.rewards, states - 0.7 * doubt, rtol=1e-5, atol=1e-6)
    free = imagine(PenalisedWorld(dynamics, REWARD, never, None), feedback(0.5), STARTS, 4, 0)
    np.testing.assert_allclose(free.rewards, states, rtol=1e-6)
    np.testing.assert_array_equal(free.observations, found.observations)


@pytest.fixture(scope="module")
def quarrel():
    """Two members that differ by s: 0.1 a more, or s + 0.1 a more. They agree near 0 alone. The first is the elite."""
    model = linear_ensemble(((0, 0.1, 0), (0, 0, -20)), ((1, 0.1, 0), (0, 0, -20)))
    return eqx.tree_at(lambda m: m.elites, model, jnp.array([0], jnp.int32))


def test_a_rollout_that_leaves_the_known_ends_with_the_penalty(quarrel, feedback):
    """Under a = 5 s the elite's state grows by half a step: from 1 it is 1, 1.5, 2.25; from 0.1 it stays known."""
    unknown = Unknown(jnp.float32(1.4), jnp.float32(-7.0))
    found = imagine(HaltingWorld(quarrel, REWARD, unknown, never), feedback(5.0), STARTS, 5, 0)
    states = np.asarray(STARTS)[:, 0, None] * 1.5 ** np.arange(4)
    leaves = np.abs(states) > 1.4
    assert leaves.astype(int).tolist() == [[0, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(found.terminations, leaves)
    np.testing.assert_allclose(found.rewards, np.where(leaves, -7.0, states), rtol=1e-5)
    assert np.asarray(found.valid)[0].tolist() == [True, True, False, False]
    np.testing.assert_allclose(found.scores[0], 1.0 - 7.0, rtol=1e-6)


def test_a_terminal_of_the_task_in_the_known_keeps_its_reward(quarrel, feedback):
    above = lambda before, actions, after: after[..., 0] > 2.0
    unknown = Unknown(jnp.float32(100.0), jnp.float32(-7.0))
    found = imagine(HaltingWorld(quarrel, REWARD, unknown, above), feedback(5.0), STARTS[:1], 4, 0)
    assert np.asarray(found.terminations)[0].tolist() == [False, True, True]
    np.testing.assert_allclose(np.asarray(found.rewards)[0, 1], 1.5, rtol=1e-6)


def test_the_threshold_is_a_share_of_the_largest_disagreement_and_halting_pays_less_than_any_row(quarrel):
    states = jnp.linspace(-3.0, 1.0, 50)[:, None]
    data = Transitions(states, states, jnp.linspace(-2.0, 5.0, 50), jnp.zeros(50), states)
    unknown = eqx.filter_jit(fit_unknown)(quarrel, data, 2.0, 30.0)
    np.testing.assert_allclose(unknown.threshold, 3.0 / 2, rtol=1e-6)
    np.testing.assert_allclose(unknown.reward, -32.0, rtol=1e-6)


def true_reward(actions):
    """What the model does not know: beyond 0.3 there is a cliff."""
    return np.where(np.abs(actions) <= 0.3, actions, -1.0)


def learn(branched, world, data, spec):
    """Ten epochs of fifty updates; the action of the policy's mode at the data's only state."""
    first = branched.init(spec, key=jax.random.key(0))

    def epoch(state, key):
        epoch_key, update_key = jax.random.split(key)
        state, _ = branched.begin_epoch(state, data, world, key=epoch_key)
        update = lambda state, key: branched.update(state, data, step=jnp.int32(0), key=key)
        state, _ = jax.lax.scan(update, state, jax.random.split(update_key, 50))
        return state, None

    last, _ = jax.lax.scan(epoch, first, jax.random.split(jax.random.key(1), 10))
    policy = branched.policy(last).greedy()
    return policy.act(jnp.zeros((1, 1)), policy.start(1), key=jax.random.key(0))[0][0, 0]


def test_a_large_penalty_keeps_the_policy_in_the_data_where_none_exploits_the_model():
    """Data: actions within 0.2, paid a. The reward model carries that line on, over the cliff; the ensemble's std,
    exp(-4 + 4 a), says that it does not know. With lambda 5 the best penalised reward is at 1 - ln(20) / 4 = 0.25."""
    rng = np.random.default_rng(0)
    actions = jnp.asarray(rng.uniform(-0.2, 0.2, (64, 1)), jnp.float32)
    zeros = jnp.zeros((64, 1))
    data = Transitions(zeros, actions, actions[:, 0], jnp.zeros(64), zeros)
    spec = SystemSpec(1, 1, -jnp.ones(1), jnp.ones(1), UNIT)
    learner = SAC(discount=0.0, width=16, depth=1, actor_learning_rate=5e-3, critic_learning_rate=5e-3)
    branched = BranchedRollouts(learner, rollouts=64, rollout_steps=1, epochs_kept=2, batch_size=64)
    dynamics = linear_ensemble(((0, 0, 0), (0, 8, -8)))
    reward = linear_reward(0.0, 1.0)

    @eqx.filter_jit
    def chosen(penalties):
        return jax.lax.map(
            lambda penalty: learn(branched, PenalisedWorld(dynamics, reward, never, penalty), data, spec),
            penalties,
        )

    free, careful = np.asarray(chosen(jnp.array([0.0, 5.0])))
    assert free > 0.8
    assert true_reward(free) == -1
    assert 0.1 < careful < 0.3
    assert true_reward(careful) > 0
