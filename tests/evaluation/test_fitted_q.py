"""Fitted-Q evaluation on a chain whose values are known, and what it refuses."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.normalize import GaussianNormalizer
from langevin.data.sampling import Transitions
from langevin.errors import UsageError
from langevin.evaluation import fitted_q
from langevin.evaluation.fitted_q import FittedQ, fitted_q_values, init, loss, value_scale
from langevin.policies.base import SystemSpec
from tests.known_models import Constant
from tests.policies import by_hand

SPEC = SystemSpec(1, 1, -jnp.ones(1), jnp.ones(1), GaussianNormalizer(jnp.zeros(1), jnp.ones(1)))


class Remembering(Constant):
    """Keeps a count."""

    def start(self, batch_size):
        return jnp.zeros(batch_size)


def chain():
    """States 0 and 1: any action leads from 0 to 1 and pays the action; from 1 every step pays 0.5 and ends by a
    fall half of the time. The data's actions are random, so the policy's value is not the data's."""
    rng = np.random.default_rng(0)
    rows = 4000
    at_end = rng.random(rows) < 0.5
    actions = rng.uniform(-1, 1, rows)
    falls = at_end & (rng.random(rows) < 0.5)
    column = lambda values: jnp.asarray(values, jnp.float32)
    return Transitions(
        column(at_end)[:, None], column(actions)[:, None], column(np.where(at_end, 0.5, actions)),
        column(falls), jnp.ones((rows, 1)),
    )  # fmt: skip


def test_it_finds_the_value_of_policies_that_are_not_the_datas():
    """V(1) = 0.5 + 0.9 x 0.5 V(1) and V(0) = a + 0.9 V(1)."""
    policies = Constant(jnp.array([[0.8], [-0.8]]))
    settings = FittedQ(
        steps=3000, batch_size=128, discount=0.9, learning_rate=3e-3, target_rate=0.02, width=32
    )
    found = fitted_q_values(
        policies, chain(), jnp.array([[0.0], [1.0]]), SPEC, settings, key=jax.random.key(0)
    )
    end = 0.5 / (1 - 0.45)
    np.testing.assert_allclose(found, [[0.8 + 0.9 * end, end], [-0.8 + 0.9 * end, end]], atol=0.06)


@pytest.mark.parametrize("unit", [0.01, 1.0, 100.0])
def test_the_unit_of_reward_changes_nothing_but_the_unit_of_value(unit):
    """Without the values' scale Adam's steps, all of one size, fall far short of the values at a unit of 100."""
    logs = chain()
    paid = eqx.tree_at(lambda logs: logs.rewards, logs, unit * logs.rewards)
    settings = FittedQ(steps=300, batch_size=64, discount=0.9, target_rate=0.02, width=16)
    policies, starts = Constant(jnp.array([[0.8]])), jnp.array([[0.0], [1.0]])
    expected, found = (
        fitted_q_values(policies, rows, starts, SPEC, settings, key=jax.random.key(0))
        for rows in (logs, paid)
    )
    np.testing.assert_allclose(found, unit * expected, rtol=2e-3)


def test_values_scale_with_the_rewards_and_the_horizon():
    """Rewards of 3 for ever at a discount of 0.99 are worth 300."""
    assert value_scale(jnp.full(5, 3.0), 0.99) == pytest.approx(300, rel=1e-5)
    assert value_scale(jnp.full(5, 3.0), 1.0) == pytest.approx(3000, rel=1e-5)
    assert value_scale(jnp.zeros(5), 0.99) == 1.0


def test_the_loss_is_the_policys_bellman_error():
    settings = FittedQ(width=8, depth=1)
    spec, batch = by_hand.make_spec(), by_hand.make_batch()
    state, other = (init(settings, spec, key=jax.random.key(seed)) for seed in (0, 1))
    action = np.array([0.3, -0.7])

    class Fixed(Constant):
        def act(self, observations, memory, *, key):
            return jnp.broadcast_to(jnp.asarray(action, jnp.float32), (observations.shape[0], 2)), None

    x, y = by_hand.standard(batch.observations), by_hand.standard(batch.next_observations)
    after = by_hand.values(other.critics, y, np.tile(action, (by_hand.ROWS, 1)))
    targets = np.asarray(batch.rewards) + 0.99 * (1 - np.asarray(batch.terminations)) * after
    expected = ((by_hand.values(state.critics, x, np.asarray(batch.actions)) - targets) ** 2).mean(1).sum()
    found = loss(state.critics, other.critics, Fixed(jnp.zeros(1)), spec.observation_normalizer, batch, 0.99,
                 key=jax.random.key(0))  # fmt: skip
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_updates_are_compiled_once_and_not_once_a_chunk(monkeypatch):
    """A Python integer handed to a compiled function is a new program for every value of it."""
    traced, chunk = [], fitted_q._chunk

    def counted(*arguments):
        traced.append(arguments[-1])
        return chunk(*arguments)

    monkeypatch.setattr(fitted_q, "CHUNK", 4)
    monkeypatch.setattr(fitted_q, "_chunk", counted)
    settings = FittedQ(steps=14, batch_size=8, width=4)
    fitted_q_values(
        Constant(jnp.array([[0.8]])), chain(), jnp.zeros((1, 1)), SPEC, settings, key=jax.random.key(0)
    )
    assert traced == [4, 2]


def test_a_policy_with_memory_is_refused():
    with pytest.raises(UsageError, match="without memory"):
        fitted_q_values(
            Remembering(jnp.zeros((2, 1))), chain(), jnp.zeros((1, 1)), SPEC, key=jax.random.key(0)
        )


@pytest.mark.parametrize("bad", [{"steps": 0}, {"discount": 1.5}, {"target_rate": -0.1}])
def test_settings_that_make_no_sense_are_refused(bad):
    with pytest.raises(UsageError, match=next(iter(bad))):
        FittedQ(**bad)


def test_seeds_are_evaluated_independently_of_one_another():
    settings = FittedQ(steps=20, batch_size=16, width=8)
    both = Constant(jnp.array([[0.8], [-0.8]]))
    keys = jax.random.key(3)
    first = fitted_q_values(both, chain(), jnp.zeros((1, 1)), SPEC, settings, key=keys)
    same = fitted_q_values(
        eqx.tree_at(lambda p: p.action, both, jnp.array([[0.8], [0.1]])),
        chain(), jnp.zeros((1, 1)), SPEC, settings, key=keys,
    )  # fmt: skip
    assert first[0] == same[0]
    assert first[1] != same[1]
