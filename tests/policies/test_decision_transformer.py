"""Decision Transformer: its loss in NumPy, what padding and rewards change, and that it earns what it is told to."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.errors import UsageError
from langevin.policies.decision_transformer import (
    DecisionTransformer,
    ReturnContexts,
    predict_actions,
    sample_return_contexts,
)
from langevin.training.algorithms import decision_transformer as algorithm
from tests.policies import by_hand
from tests.policies.toy_episodes import bandit, system_of_log

CONTEXT, BATCH, LENGTH = 4, 3, 3
TINY = DecisionTransformer(context=CONTEXT, layers=2, heads=2, width=8, dropout=0.0, steps=6, warmup_steps=5)


@pytest.fixture(scope="module")
def batch():
    """Three contexts, two of them padded on the left; some steps lie beyond the last embedding."""
    rng = np.random.default_rng(0)
    mask = np.arange(CONTEXT) >= np.array([[0], [1], [3]])
    return ReturnContexts(
        jnp.asarray(rng.normal(size=(BATCH, CONTEXT, 3)), jnp.float32),
        jnp.asarray(rng.uniform(-1, 1, (BATCH, CONTEXT, 2)), jnp.float32),
        jnp.asarray(rng.uniform(0, 50, (BATCH, CONTEXT)), jnp.float32),
        jnp.asarray(rng.integers(0, 9, (BATCH, CONTEXT)), jnp.int32),
        jnp.asarray(mask),
    )


@pytest.fixture(scope="module")
def state(batch):
    """With every weight moved from where it starts, so that nothing is zero or one by chance."""
    data = algorithm.ReturnRows(
        batch.observations[0], batch.actions[0], jnp.array([40.0, 20.0, -80.0, 0.0]), jnp.arange(4)
    )
    fresh = TINY.init(by_hand.make_spec(), data, key=jax.random.key(0))
    leaves, form = jax.tree.flatten(fresh.network)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    leaves = [leaf + 0.3 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    return eqx.tree_at(lambda s: s.network, fresh, jax.tree.unflatten(form, leaves))


def numpy_actions(state, batch, index):
    """One context, in float64: tokens in the order return, observation, action; the action after each observation."""
    network, at = state.network, lambda field: np.asarray(field[index], np.float64)
    place = np.asarray(network.embed_step, np.float64)[np.minimum(np.asarray(batch.steps[index]), 5)]
    scaled = (at(batch.actions) - by_hand.LOW) / (by_hand.HIGH - by_hand.LOW) * 2 - 1
    tokens = []
    for row in range(CONTEXT):
        tokens.append(
            by_hand.linear(network.embed_return, at(batch.returns_to_go)[row : row + 1] / 80) + place[row]
        )
        tokens.append(
            by_hand.linear(network.embed_observation, by_hand.standard(at(batch.observations)[row]))
            + place[row]
        )
        tokens.append(by_hand.linear(network.embed_action, scaled[row]) + place[row])
    readable = np.repeat(np.asarray(batch.mask[index]), 3)
    read = by_hand.transformer(
        network.transformer, by_hand.layer_norm(network.norm, np.stack(tokens)), readable
    )
    return by_hand.squashed(by_hand.linear(network.head, read[1::3]))


def test_the_loss_is_the_squared_error_over_the_real_rows(state, batch):
    """The largest size of a return in the data, 80, is the unit of returns."""
    errors = []
    for index in range(BATCH):
        predicted = numpy_actions(state, batch, index)
        for row in np.flatnonzero(np.asarray(batch.mask[index])):
            errors.append((predicted[row] - np.asarray(batch.actions[index, row])) ** 2)
    loss = TINY.loss(state.network, state, batch, key=None)
    np.testing.assert_allclose(loss, np.mean(errors), rtol=1e-5)


def test_what_stands_in_the_padding_changes_nothing(state, batch):
    spoiled = jax.tree.map(
        lambda leaf: jnp.where(batch.mask.reshape(*batch.mask.shape, *(1,) * (leaf.ndim - 2)), leaf, 3), batch
    )
    spoiled = eqx.tree_at(lambda b: b.mask, spoiled, batch.mask)
    assert not np.array_equal(spoiled.observations, batch.observations)
    np.testing.assert_array_equal(
        TINY.loss(state.network, state, spoiled, key=None), TINY.loss(state.network, state, batch, key=None)
    )


def test_an_action_does_not_see_itself_or_what_comes_after_it(state, batch):
    before = predict_actions(state.network, state, batch)
    changed = eqx.tree_at(lambda b: b.actions, batch, batch.actions.at[:, 2].add(0.3))
    changed = eqx.tree_at(lambda b: b.observations, changed, changed.observations.at[:, 3].add(0.3))
    after = predict_actions(state.network, state, changed)
    np.testing.assert_array_equal(before[:, :3], after[:, :3])
    assert np.abs(before[0, 3] - after[0, 3]).max() > 1e-4


def test_acting_step_by_step_reads_the_last_rows_as_training_does(state):
    """Seven steps with a context of four: the rows that are read are the last four, with what was then left to earn."""
    policy, rng = TINY.policy(state), np.random.default_rng(3)
    observations = jnp.asarray(rng.normal(size=(7, 1, 3)), jnp.float32)
    rewards = rng.uniform(0, 9, 7).astype(np.float32)
    memory, actions = policy.start(1), []
    for observation, reward in zip(observations, rewards, strict=True):
        action, memory = policy.act(observation, memory, key=jax.random.key(0))
        memory = policy.observe(memory, jnp.full(1, reward))
        actions.append(action)
    left = 40.0 - np.concatenate([[0], np.cumsum(rewards)[:-1]])  # 40 is the best episode of the data
    for now in (2, 6):
        rows = np.clip(np.arange(now - CONTEXT + 1, now + 1), 0, None)
        context = ReturnContexts(
            observations[rows, 0][None],
            jnp.stack(actions)[rows, 0][None],
            jnp.asarray(left[rows], jnp.float32)[None],
            jnp.asarray(rows, jnp.int32)[None],
            jnp.asarray(np.arange(now - CONTEXT + 1, now + 1) >= 0)[None],
        )
        expected = predict_actions(state.network, state, context)[:, -1]
        np.testing.assert_allclose(actions[now], expected, rtol=1e-4, atol=1e-5)


def test_observing_takes_the_reward_off_what_is_left_to_earn(state):
    policy = TINY.policy(state)
    _, memory = policy.act(jnp.zeros((2, 3)), policy.start(2), key=jax.random.key(0))
    memory = policy.observe(memory, jnp.array([3.0, -1.0]))
    np.testing.assert_allclose(memory.return_to_go, [37.0, 41.0])
    _, memory = policy.act(jnp.zeros((2, 3)), memory, key=jax.random.key(0))
    np.testing.assert_allclose(memory.contexts.returns_to_go[:, -2:], [[40, 37], [40, 41]])


@pytest.fixture(scope="module")
def learned():
    """Trained on episodes of three actions, each of which earns 1 or nothing."""
    learner = DecisionTransformer(
        context=LENGTH, layers=1, heads=1, width=16, steps=LENGTH, learning_rate=3e-3, warmup_steps=20
    )
    settings = algorithm.DecisionTransformerConfig(steps=600, batch_size=64, learner=learner)
    log = bandit(length=LENGTH)
    stage = algorithm.stages(settings, system_of_log(log))[0]

    @eqx.filter_jit
    def train(data, key):
        def update(state, step):
            return stage.update(state, data, {}, step=step, key=jax.random.fold_in(key, step))

        return jax.lax.scan(update, stage.init(data, {}, key=key), jnp.arange(settings.steps))[0]

    return learner, train(algorithm.prepare(settings, log), jax.random.key(0))


def drive(learner, state, target, paid=None):
    """Actions of one episode with that much to earn; rewards are the bandit's, or `paid`."""
    policy = learner.policy(eqx.tree_at(lambda s: s.target_return, state, jnp.float32(target)))
    memory, rng, actions = policy.start(8), np.random.default_rng(5), []
    for step in range(LENGTH):
        observations = jnp.asarray(rng.normal(size=(8, 2)), jnp.float32)
        action, memory = policy.act(observations, memory, key=jax.random.key(0))
        earned = (action[:, 0] > 0).astype(jnp.float32) if paid is None else jnp.full(8, paid[step])
        memory = policy.observe(memory, earned)
        actions.append(np.asarray(action[:, 0]))
    return np.array(actions)


def test_a_high_command_earns_all_there_is_and_a_low_one_nothing(learned):
    high, low = drive(*learned, 3.0), drive(*learned, 0.0)
    assert (high > 0.2).all()
    assert (low < -0.2).all()
    np.testing.assert_allclose([high.mean(), low.mean()], [0.5, -0.5], atol=0.1)


def test_what_is_done_next_follows_what_was_really_earned(learned):
    """Of a target of 3, all three paid at the first step: from then on there is nothing more to earn."""
    actions = drive(*learned, 3.0, paid=[3.0, 0.0, 0.0])
    assert np.all(actions[0] > 0.2)
    assert np.all(actions[1:] < 0.0)


def test_the_target_is_the_best_episode_and_the_unit_the_largest_return_unless_they_are_set(learned):
    learner, state = learned
    assert float(state.target_return) == 3.0
    assert float(state.return_scale) == 3.0
    set_ones = dataclasses.replace(learner, target_return=7.0, return_scale=10.0)
    data = algorithm.prepare(algorithm.DecisionTransformerConfig(steps=1), bandit())
    spec = dataclasses.replace(by_hand.make_spec(), observation_size=2, action_size=1)
    fresh = set_ones.init(spec, data, key=jax.random.key(0))
    assert (float(fresh.target_return), float(fresh.return_scale)) == (7.0, 10.0)


def test_rows_of_a_drawn_context_belong_together():
    data = algorithm.prepare(algorithm.DecisionTransformerConfig(steps=1), bandit())
    batch = sample_return_contexts(data, 3, 50, key=jax.random.key(0))
    earned = (np.asarray(batch.actions[..., 0]) > 0).astype(np.float32)
    both = np.asarray(batch.mask[:, :-1] & batch.mask[:, 1:])
    falls = np.asarray(batch.returns_to_go[:, :-1] - batch.returns_to_go[:, 1:])
    np.testing.assert_allclose(falls[both], earned[:, :-1][both], atol=1e-6)
    np.testing.assert_array_equal(np.diff(np.asarray(batch.steps), axis=1)[both], 1)


def test_the_learning_rate_rises_to_full_in_the_warm_up():
    """With no weight decay Adam's first updates are as large as its rate."""
    learner = dataclasses.replace(TINY, weight_decay=0.0, warmup_steps=4, learning_rate=0.4)
    optimizer = learner.optimizer
    parameters = {"x": jnp.zeros(3)}
    state, sizes = optimizer.init(parameters), []
    for _ in range(6):
        updates, state = optimizer.update({"x": jnp.array([1.0, -2.0, 0.5])}, state, parameters)
        sizes.append(float(jnp.abs(updates["x"]).max()))
    np.testing.assert_allclose(sizes, [0.1, 0.2, 0.3, 0.4, 0.4, 0.4], rtol=1e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"context": 0}, "context must be at least 1"),
        ({"width": 10, "heads": 4}, "heads must divide width"),
        ({"dropout": 1.5}, "dropout must be at least 0 and below 1"),
        ({"return_scale": 0.0}, "return_scale must be at least"),
        ({"warmup_steps": 0}, "warmup_steps must be at least 1"),
    ],
)
def test_bad_settings_are_refused_by_name(settings, message):
    with pytest.raises(UsageError, match=message):
        DecisionTransformer(**settings)
