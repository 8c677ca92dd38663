"""Trajectory Transformer: what its loss counts, what its model may read, the cache, and plans that earn."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.errors import UsageError
from langevin.planners.beam_search import BeamSearch
from langevin.planners.token_model import TokenModel
from langevin.planners.trajectory_transformer import TrajectoryTransformer, decaying
from langevin.training.algorithms import trajectory_transformer as algorithm
from tests.policies.toy_episodes import bandit, system_of_log

KINDS, BINS, CONTEXT, BATCH = 5, 6, 4, 3


@pytest.fixture(scope="module")
def model():
    """Weights moved from where they start, so that every part matters."""
    fresh = TokenModel(KINDS, BINS, CONTEXT, 8, 2, 2, 0.0, key=jax.random.key(0))
    leaves, form = jax.tree.flatten(fresh)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    return jax.tree.unflatten(
        form,
        [leaf + 0.4 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)],
    )


@pytest.fixture(scope="module")
def tokens():
    return jax.random.randint(jax.random.key(2), (BATCH, CONTEXT, KINDS), 0, BINS)


MASK = jnp.arange(CONTEXT) >= jnp.array([[0], [1], [3]])


def test_the_loss_is_the_mean_cross_entropy_of_the_tokens_that_follow_real_ones(model, tokens):
    losses = []
    for row, mask in zip(tokens, MASK, strict=True):
        logits = np.asarray(model(row, mask), np.float64).reshape(-1, BINS)
        flat, real = np.asarray(row).reshape(-1), np.repeat(np.asarray(mask), KINDS)
        for at in range(len(flat) - 1):
            if real[at] and real[at + 1]:
                losses.append(np.log(np.exp(logits[at]).sum()) - logits[at, flat[at + 1]])
    assert len(losses) == 19 + 14 + 4
    loss = TrajectoryTransformer().loss(model, tokens, MASK, key=None)
    np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-5)


def test_what_stands_in_the_padding_changes_nothing(model, tokens):
    spoiled = jnp.where(MASK[..., None], tokens, (tokens + 1) % BINS)
    training = TrajectoryTransformer()
    np.testing.assert_array_equal(
        training.loss(model, spoiled, MASK, key=None), training.loss(model, tokens, MASK, key=None)
    )


def test_a_token_changes_only_what_comes_after_it_and_a_return_to_go_only_what_comes_next(model, tokens):
    """At its own place a return-to-go is read; nothing after it looks back at it."""
    row, mask = tokens[0], MASK[0]
    before = np.asarray(model(row, mask))
    reward = np.asarray(model(row.at[1, 3].set((row[1, 3] + 1) % BINS), mask)) != before
    assert not reward[:1].any()
    assert not reward[1, :3].any()
    assert reward[1, 3:].any(axis=-1).all()
    assert reward[2:].any(axis=-1).all()
    of_return = np.asarray(model(row.at[1, 4].set((row[1, 4] + 1) % BINS), mask)) != before
    assert of_return[1, 4].any()
    of_return[1, 4] = False
    assert not of_return.any()


def test_token_by_token_with_the_cache_gives_the_logits_of_the_whole_pass(model, tokens):
    """Two transitions at once, of which the first is padding, and then one pass a token."""
    row, mask = tokens[0], jnp.array([False, True, True, True])
    whole = model(row, mask).reshape(-1, BINS)
    reading = model.read(row[:2], mask[:2])
    for slot in range(2 * KINDS, CONTEXT * KINDS):
        kind = jnp.int32(slot % KINDS)
        np.testing.assert_allclose(model.logits(reading, kind), whole[slot - 1], rtol=1e-4, atol=1e-5)
        reading = model.extend(reading, row.reshape(-1)[slot], kind, jnp.int32(slot))


def test_matrices_decay_and_embeddings_biases_and_norms_do_not(model):
    decays = decaying(model)
    assert decays.heads
    assert decays.transformer.blocks[0].widen.weight
    assert not decays.transformer.blocks[0].widen.bias
    assert not decays.transformer.norm.scale
    assert not decays.embeddings
    assert not decays.places


SETTINGS = algorithm.TrajectoryTransformerConfig(
    steps=400, bins=4, history=1, replan_every=2,
    model=TrajectoryTransformer(
        context=3, layers=1, heads=1, width=16, dropout=0.0, batch_size=64, learning_rate=1e-2, warmup_steps=20
    ),
    search=BeamSearch(horizon=2, width=8, expand=2, top_actions=4),
)  # fmt: skip


@pytest.fixture(scope="module")
def learned():
    """Trained on episodes whose actions earn 1 or nothing."""
    log = bandit(length=4)
    stage = algorithm.stages(SETTINGS, system_of_log(log))[0]

    @eqx.filter_jit
    def train(data, key):
        def update(state, step):
            return stage.update(state, data, {}, step=step, key=jax.random.fold_in(key, step))

        return jax.lax.scan(update, stage.init(data, {}, key=key), jnp.arange(SETTINGS.steps))

    state, metrics = train(algorithm.prepare(SETTINGS, log), jax.random.key(0))
    return stage.policy(state, {}), metrics["world_model/loss"]


@eqx.filter_jit
def act(policy, observations, memory, key):
    return policy.act(observations, memory, key=key)


def test_the_model_learns_what_can_be_known_of_the_log(learned):
    """Of a transition's six tokens two states are noise in 4 bins, the action a coin, the reward known from it."""
    _, losses = learned
    assert float(losses[:5].mean()) == pytest.approx(np.log(4), abs=0.1)
    assert float(losses[-50:].mean()) < 0.75 * np.log(4)


def test_plans_take_the_actions_that_earn(learned):
    policy, _ = learned
    memory, rng = policy.start(6), np.random.default_rng(1)
    for step in range(4):
        observations = jnp.asarray(rng.normal(size=(6, 2)), jnp.float32)
        actions, memory = act(policy, observations, memory, jax.random.key(step))
        np.testing.assert_allclose(actions, 0.5)
        memory = policy.observe(memory, jnp.ones(6))


def test_the_past_holds_what_was_seen_done_and_earned(learned):
    policy, _ = learned
    observations = jnp.array([[-2.0, 0.1], [1.5, 0.4]])
    actions, memory = act(policy, observations, policy.start(2), jax.random.key(0))
    memory = policy.observe(memory, jnp.array([0.0, 1.0]))
    told = policy.discretizer.decode(memory.past[:, -1])
    both = jnp.concatenate([observations, actions], axis=1)
    np.testing.assert_array_equal(told[:, :3], policy.discretizer.of(slice(0, 3)).decode(
        policy.discretizer.of(slice(0, 3)).encode(both)
    ))  # fmt: skip
    np.testing.assert_allclose(told[:, 3], [0, 1])


def test_between_two_plans_the_first_is_followed(learned):
    policy, _ = learned
    observations = jnp.zeros((2, 2))
    _, first = act(policy, observations, policy.start(2), jax.random.key(0))
    _, second = act(policy, observations + 1, first, jax.random.key(1))
    np.testing.assert_array_equal(first.planned, second.planned)
    np.testing.assert_array_equal(second.past[:, -1, 2], first.planned[:, 1, 2])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"history": 2}, "must fit the model's context together, got 2 \\+ 2 > 3"),
        ({"history": 0}, "history must be at least 1"),
        ({"replan_every": 3}, "replan_every must be at most search.horizon"),
        ({"bins": 1}, "bins must be at least 2"),
    ],
)
def test_bad_settings_are_refused_by_name(settings, message):
    with pytest.raises(UsageError, match=message):
        dataclasses.replace(SETTINGS, **settings)
