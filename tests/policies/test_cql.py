"""CQL's penalty and losses against NumPy, and what the penalty is for: an action nobody tried is not believed good."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.policies.cql import CQL
from langevin.policies.sac import SAC
from tests.policies import by_hand

BASE = SAC(width=8, depth=1, entropy_in_targets=False)
LEARNER = CQL(BASE, weight=5.0, samples=4)
KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def batch():
    return by_hand.make_batch()


@pytest.fixture(scope="module")
def state():
    fresh = LEARNER.init(by_hand.make_spec(), key=jax.random.key(0))
    other = LEARNER.init(by_hand.make_spec(), key=jax.random.key(1))
    state = eqx.tree_at(lambda s: s.base.target_critics, fresh, other.base.critics)
    return eqx.tree_at(
        lambda s: (s.base.log_temperature, s.log_multiplier), state, (jnp.log(0.3), jnp.log(2.0))
    )


def penalty_by_hand(state, batch, key):
    proposed, _ = LEARNER.proposals(
        state.base.actor, state.base.normalizer.normalize(batch.observations),
        state.base.normalizer.normalize(batch.next_observations), key=key,
    )  # fmt: skip
    proposed = np.concatenate(np.asarray(proposed, np.float64))
    x, y = by_hand.standard(batch.observations), by_hand.standard(batch.next_observations)
    weights = np.concatenate([
        np.full((4, by_hand.ROWS), 1 / np.prod(by_hand.HIGH - by_hand.LOW)),
        np.exp([by_hand.log_density(state.base.actor, x, actions) for actions in proposed[4:8]]),
        np.exp([by_hand.log_density(state.base.actor, y, actions) for actions in proposed[8:]]),
    ])  # fmt: skip
    values = np.stack([by_hand.values(state.base.critics, x, actions) for actions in proposed], axis=1)
    soft_maximum = np.log((np.exp(values) / weights).sum(axis=1))
    return (soft_maximum - by_hand.values(state.base.critics, x, np.asarray(batch.actions))).mean(axis=1)


def test_the_penalty_equals_its_formula_with_every_proposal_weighted_by_its_density(state, batch):
    x = state.base.normalizer.normalize(batch.observations)
    y = state.base.normalizer.normalize(batch.next_observations)
    found = LEARNER.penalty(state.base.critics, state.base.actor, x, y, batch.actions, key=KEY)
    np.testing.assert_allclose(found, penalty_by_hand(state, batch, KEY), rtol=1e-5)


def test_proposals_are_as_many_as_said_and_their_densities_integrate_to_one(state, batch):
    """E_q[1/q] is the volume of the actions: a check that needs no second formula."""
    learner = CQL(BASE, samples=20_000)
    x = state.base.normalizer.normalize(batch.observations)
    proposed, log_densities = learner.proposals(state.base.actor, x, x, key=KEY)
    assert proposed.shape == (3, 20_000, by_hand.ROWS, 2)
    volume = np.prod(by_hand.HIGH - by_hand.LOW)
    for part in np.exp(-np.asarray(log_densities, np.float64)):
        np.testing.assert_allclose(part.mean(axis=0), volume, rtol=0.15)


def test_the_critic_loss_is_the_squared_error_unhalved_as_its_authors_have_it_and_the_weighted_penalty(
    state, batch
):
    x, targets = by_hand.standard(batch.observations), np.arange(by_hand.ROWS, dtype=np.float32)
    errors = (by_hand.values(state.base.critics, x, np.asarray(batch.actions)) - targets) ** 2
    expected = errors.mean(axis=1).sum() + 2.0 * (5.0 * penalty_by_hand(state, batch, KEY)).sum()
    loss, _ = LEARNER.critic_loss(
        state.base.critics,
        state,
        batch,
        jnp.asarray(x, jnp.float32),
        jnp.asarray(targets),
        LEARNER.penalty,
        key=KEY,
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_targets_have_no_entropy_in_them(state, batch):
    noise = np.asarray(jax.random.normal(KEY, (by_hand.ROWS, 2)))
    y = by_hand.standard(batch.next_observations)
    mean, log_std = np.split(by_hand.forward(state.base.actor.network, y), 2, axis=1)
    actions = by_hand.squashed(mean + np.exp(log_std) * noise)
    smaller = by_hand.values(state.base.target_critics, y, actions).min(axis=0)
    expected = np.asarray(batch.rewards) + 0.99 * (1 - np.asarray(batch.terminations)) * smaller
    np.testing.assert_allclose(BASE.targets(state.base, batch, key=KEY), expected, rtol=1e-5, atol=1e-6)


def test_the_penaltys_gradient_points_down_outside_the_data_and_up_on_it(state, batch):
    """One step against the penalty's gradient narrows the gap between chance's actions and the data's."""
    x = state.base.normalizer.normalize(batch.observations)
    measure = lambda critics: LEARNER.penalty(critics, state.base.actor, x, x, batch.actions, key=KEY).sum()
    slope = eqx.filter_grad(measure)(state.base.critics)
    stepped = jax.tree.map(lambda leaf, down: leaf - 0.01 * down if eqx.is_inexact_array(leaf) else leaf,
                           state.base.critics, slope)  # fmt: skip
    assert measure(stepped) < measure(state.base.critics)


@pytest.mark.parametrize(("gap", "rises"), [(-1e3, True), (1e3, False)])
def test_with_a_gap_the_multiplier_rises_while_the_penalty_is_above_it(batch, gap, rises):
    learner = CQL(BASE, samples=4, gap=gap)
    state = learner.init(by_hand.make_spec(), key=jax.random.key(0))
    after, _ = learner.update(state, batch, step=jnp.int32(0), key=KEY)
    assert bool(after.log_multiplier > state.log_multiplier) == rises


def test_the_gap_is_taken_from_the_weighted_penalty_and_the_multiplier_times_what_is_left_is_paid(
    state, batch
):
    """multiplier (weight penalty - gap), Eq. 30; the logged penalty is what it was before."""
    x, targets = state.base.normalizer.normalize(batch.observations), jnp.zeros(by_hand.ROWS)
    losses = [
        CQL(BASE, weight=5.0, samples=4, gap=gap).critic_loss(
            state.base.critics, state, batch, x, targets, LEARNER.penalty, key=KEY
        )
        for gap in (None, 3.0)
    ]
    (free, plain), (held, logged) = losses
    np.testing.assert_allclose(free - held, 2.0 * 2 * 3.0, rtol=1e-4)  # multiplier 2, two critics
    assert plain["critic/penalty"] == logged["critic/penalty"]


def test_without_a_gap_the_multiplier_stays(state, batch):
    after, _ = LEARNER.update(state, batch, step=jnp.int32(0), key=KEY)
    assert after.log_multiplier == state.log_multiplier


def test_it_does_not_believe_in_actions_nobody_tried():
    """One-step episodes, data at actions within 0.2 of 0 and paid a; SAC's critics carry that line on to a = 1 and
    its policy follows, CQL's stays with the data."""
    rng = np.random.default_rng(0)
    actions = jnp.asarray(rng.uniform(-0.2, 0.2, (64, 1)), jnp.float32)
    zeros = jnp.zeros((64, 1))
    batch = by_hand.Transitions(zeros, actions, 5 * actions[:, 0], jnp.ones(64), zeros)
    spec = by_hand.SystemSpec(
        1, 1, -jnp.ones(1), jnp.ones(1), by_hand.GaussianNormalizer(jnp.zeros(1), jnp.ones(1))
    )
    base = SAC(width=32, depth=1, actor_learning_rate=3e-3, critic_learning_rate=3e-3)

    def chosen(learner):
        @eqx.filter_jit
        def learn(state):
            arrays, rest = eqx.partition(state, eqx.is_array)

            def one(arrays, step):
                state, _ = learner.update(
                    eqx.combine(arrays, rest), batch, step=step, key=jax.random.fold_in(KEY, step)
                )
                return eqx.filter(state, eqx.is_array), None

            return eqx.combine(jax.lax.scan(one, arrays, jnp.arange(800))[0], rest)

        policy = learner.policy(learn(learner.init(spec, key=KEY))).greedy()
        return float(policy.act(jnp.zeros((1, 1)), None, key=KEY)[0][0, 0])

    assert chosen(base) > 0.6
    assert abs(chosen(CQL(base, weight=5.0))) < 0.3
