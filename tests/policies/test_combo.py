"""COMBO's loss against NumPy on a batch of real and imagined rows, and where it pushes."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.errors import UsageError
from langevin.policies.combo import COMBO
from langevin.policies.cql import CQL
from langevin.policies.sac import SAC
from tests.policies import by_hand

BASE = CQL(SAC(width=8, depth=1, entropy_in_targets=False), weight=3.0, samples=4)
REAL = 2
KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def batch():
    return by_hand.make_batch()


@pytest.fixture(scope="module")
def state():
    return BASE.init(by_hand.make_spec(), key=jax.random.key(0))


@eqx.filter_jit
def loss(penalty, state, batch, targets):
    x = state.base.normalizer.normalize(batch.observations)
    loss, _ = BASE.critic_loss(state.base.critics, state, batch, x, jnp.asarray(targets), penalty, key=KEY)
    return loss


def soft_maximum(state, batch, rows):
    """log of the sum over proposals of exp Q / density, (2, rows), in NumPy."""
    now, after = (
        state.base.normalizer.normalize(leaf[rows]) for leaf in (batch.observations, batch.next_observations)
    )
    proposed = np.concatenate(
        np.asarray(BASE.proposals(state.base.actor, now, after, key=KEY)[0], np.float64)
    )
    x, y = (by_hand.standard(leaf)[rows] for leaf in (batch.observations, batch.next_observations))
    actor = state.base.actor
    densities = np.concatenate([
        np.full((4, len(x)), 1 / np.prod(by_hand.HIGH - by_hand.LOW)),
        np.exp([by_hand.log_density(actor, x, actions) for actions in proposed[4:8]]),
        np.exp([by_hand.log_density(actor, y, actions) for actions in proposed[8:]]),
    ])  # fmt: skip
    values = np.stack([by_hand.values(state.base.critics, x, actions) for actions in proposed], axis=1)
    return np.log((np.exp(values) / densities).sum(axis=1))


@pytest.mark.parametrize(("pushed_states", "pushed"), [("model", slice(REAL, None)), ("mixed", slice(None))])
def test_values_are_pushed_down_in_the_models_states_and_up_on_the_datas_actions(
    state, batch, pushed_states, pushed
):
    learner = COMBO(BASE, REAL, pushed_states)
    targets = np.arange(by_hand.ROWS, dtype=np.float32)
    values = by_hand.values(
        state.base.critics, by_hand.standard(batch.observations), np.asarray(batch.actions)
    )
    bellman = ((values - targets) ** 2).mean(axis=1)
    down, up = soft_maximum(state, batch, pushed).mean(axis=1), values[:, :REAL].mean(axis=1)
    expected = (bellman + 3.0 * (down - up)).sum()
    np.testing.assert_allclose(loss(learner.penalty, state, batch, targets), expected, rtol=1e-5)


def test_on_real_rows_alone_it_is_cql(state, batch):
    targets = np.arange(by_hand.ROWS, dtype=np.float32)
    on_real_rows = COMBO(BASE, by_hand.ROWS).penalty
    expected = loss(BASE.penalty, state, batch, targets)
    np.testing.assert_allclose(loss(on_real_rows, state, batch, targets), expected, rtol=1e-6)


def test_an_imagined_action_is_not_pushed_up(state, batch):
    """The penalty does not know which actions the imagined rows took; it does for the real ones."""
    measure = lambda learner, actions: learner.penalty(
        state.base.critics, state.base.actor, batch.observations, batch.next_observations, actions, key=KEY
    )
    learner = COMBO(BASE, REAL, "model")
    same = measure(learner, batch.actions)
    np.testing.assert_array_equal(measure(learner, batch.actions.at[REAL:].set(0.9)), same)
    assert not np.allclose(measure(learner, batch.actions.at[:REAL].set(0.9)), same)


def test_an_update_moves_the_critics_by_its_own_loss_and_not_by_cqls(state, batch):
    update = eqx.filter_jit(lambda learner: learner.update(state, batch, step=jnp.int32(0), key=KEY))
    (after, metrics), (cql, cql_metrics) = update(COMBO(BASE, REAL)), update(BASE)
    moved = lambda new: jax.tree.leaves(eqx.filter(new.base.critics, eqx.is_array))
    assert any(not np.allclose(a, b) for a, b in zip(moved(after), moved(cql), strict=True))
    assert not np.isclose(metrics["critic/penalty"], cql_metrics["critic/penalty"])
    np.testing.assert_allclose(metrics["critic/loss"], cql_metrics["critic/loss"], rtol=1e-6)


def test_it_does_not_believe_what_only_the_model_says():
    """One-step episodes. In the data a = 0 pays 0; in the model's rows a = 1 pays 1. SAC follows the model, COMBO
    with a large beta stays with the data's action."""
    rows, real = 64, 32
    actions = jnp.where(jnp.arange(rows) < real, 0.0, 1.0)[:, None]
    zeros = jnp.zeros((rows, 1))
    batch = by_hand.Transitions(zeros, actions, actions[:, 0], jnp.ones(rows), zeros)
    spec = by_hand.SystemSpec(
        1, 1, -jnp.ones(1), jnp.ones(1), by_hand.GaussianNormalizer(jnp.zeros(1), jnp.ones(1))
    )
    base = SAC(width=16, depth=1, actor_learning_rate=3e-3, critic_learning_rate=3e-3)

    def chosen(learner):
        @eqx.filter_jit
        def run():
            first = learner.init(spec, key=jax.random.key(0))
            update = lambda state, key: learner.update(state, batch, step=jnp.int32(0), key=key)
            last, _ = jax.lax.scan(update, first, jax.random.split(jax.random.key(1), 600))
            policy = learner.policy(last).greedy()
            return policy.act(jnp.zeros((1, 1)), policy.start(1), key=KEY)[0][0, 0]

        return float(run())

    assert chosen(base) > 0.7
    assert abs(chosen(COMBO(CQL(base, weight=5.0, samples=4), real))) < 0.3


def test_a_batch_without_real_rows_is_refused():
    with pytest.raises(UsageError, match="real_rows must be at least 1, got 0"):
        dataclasses.replace(COMBO(BASE), real_rows=0)
