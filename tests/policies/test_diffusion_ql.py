"""Diffusion-QL's losses against NumPy; that its policy keeps both habits of the data, and prefers the paid one."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.policies.critics import bellman_loss
from langevin.policies.diffusion_ql import TIME_SIZE, DiffusionQL, sample_chain
from tests.policies import by_hand

LEARNER = DiffusionQL(width=8, depth=2)
KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def batch():
    return by_hand.make_batch()


@pytest.fixture(scope="module")
def state():
    fresh = LEARNER.init(by_hand.make_spec(), key=jax.random.key(0))
    other = LEARNER.init(by_hand.make_spec(), key=jax.random.key(1))
    return eqx.tree_at(lambda s: (s.target_critics, s.average_actor), fresh, (other.critics, other.actor))


def kept_by_hand():
    """alpha_bar of the variance-preserving process in five steps, from its integral."""
    edges = np.arange(6) / 5
    integral = 0.1 * edges + 0.5 * (10 - 0.1) * edges**2
    return np.exp(-integral[1:])


def noise_by_hand(actor, noisy, step, x):
    frequencies = np.geomspace(1e-4, 1.0, TIME_SIZE // 2)
    time = np.concatenate([np.sin(step * frequencies), np.cos(step * frequencies)])
    time = by_hand.forward(actor.time_network, time, by_hand.mish)
    return by_hand.forward(actor.network, np.concatenate([noisy, time, x]), by_hand.mish)


def chain_by_hand(actor, x, key):
    """Five steps of the reverse process for every row (Ho et al. 2020, Eq. 7), each clean action clipped to bounds."""
    kept, before = kept_by_hand(), np.concatenate([[1.0], kept_by_hand()[:-1]])
    actions = []
    for row, row_key in zip(x, jax.random.split(key, len(x)), strict=True):
        start_key, *step_keys = jax.random.split(row_key, 6)
        draw = lambda key: np.asarray(jax.random.normal(key, (2,)), np.float64)
        noisy = draw(start_key)
        for step, step_key in zip(reversed(range(5)), step_keys, strict=True):
            beta, gone = 1 - kept[step] / before[step], 1 - kept[step]
            predicted = noise_by_hand(actor, noisy, step, row)
            clean = np.clip((noisy - np.sqrt(gone) * predicted) / np.sqrt(kept[step]), -1, 1)
            mean = np.sqrt(before[step]) * beta / gone * clean + (
                np.sqrt(kept[step] / before[step]) * (1 - before[step]) / gone * noisy
            )
            noisy = mean + np.sqrt(beta * (1 - before[step]) / gone) * draw(step_key)
        actions.append(by_hand.LOW + (by_hand.HIGH - by_hand.LOW) * (np.clip(noisy, -1, 1) + 1) / 2)
    return np.stack(actions)


def test_an_action_is_drawn_by_the_whole_chain(state, batch):
    x = by_hand.standard(batch.observations)
    found = sample_chain(state.actor, jnp.asarray(x, jnp.float32), key=KEY)
    np.testing.assert_allclose(found, chain_by_hand(state.actor, x, KEY), rtol=1e-5, atol=1e-5)


def test_the_schedule_is_the_variance_preserving_process_at_five_times(state):
    np.testing.assert_allclose(state.actor.schedule.kept, kept_by_hand(), rtol=1e-5)


@pytest.mark.parametrize("chain", ["full", "one_step"])
def test_the_actor_loss_equals_its_formula(state, batch, chain):
    learner = DiffusionQL(width=8, depth=2, chain=chain, q_weight=0.7)
    x, actions = by_hand.standard(batch.observations), np.asarray(batch.actions, np.float64)
    step_key, noise_key, sample_key, critic_key = jax.random.split(KEY, 4)
    steps = np.asarray(jax.random.randint(step_key, (by_hand.ROWS,), 0, 5))
    noise = np.asarray(jax.random.normal(noise_key, actions.shape), np.float64)
    kept = kept_by_hand()[steps][:, None]
    scaled = 2 * (actions - by_hand.LOW) / (by_hand.HIGH - by_hand.LOW) - 1
    noisy = np.sqrt(kept) * scaled + np.sqrt(1 - kept) * noise
    predicted = np.stack([noise_by_hand(state.actor, *row) for row in zip(noisy, steps, x, strict=True)])
    cloning = ((predicted - noise) ** 2).mean()
    if chain == "full":
        sampled = chain_by_hand(state.actor, x, sample_key)
    else:
        clean = np.clip((noisy - np.sqrt(1 - kept) * predicted) / np.sqrt(kept), -1, 1)
        sampled = by_hand.LOW + (by_hand.HIGH - by_hand.LOW) * (clean + 1) / 2
    values = by_hand.values(state.critics, x, sampled, by_hand.mish)
    chosen = int(jax.random.bernoulli(critic_key))
    expected = cloning - 0.7 * values[chosen].mean() / np.abs(values[1 - chosen]).mean()
    loss, _ = learner.actor_loss(
        state.actor, state.critics, jnp.asarray(x, jnp.float32), batch.actions, key=KEY
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_the_critic_loss_and_its_targets_equal_their_formulas(state, batch):
    x, y = by_hand.standard(batch.observations), by_hand.standard(batch.next_observations)
    next_actions = chain_by_hand(state.average_actor, y, KEY)
    smaller = by_hand.values(state.target_critics, y, next_actions, by_hand.mish).min(axis=0)
    targets = np.asarray(batch.rewards) + 0.99 * (1 - np.asarray(batch.terminations)) * smaller
    np.testing.assert_allclose(LEARNER.targets(state, batch, key=KEY), targets, rtol=1e-5, atol=1e-5)
    values = by_hand.values(state.critics, x, np.asarray(batch.actions), by_hand.mish)
    loss, _ = bellman_loss(
        state.critics, batch, jnp.asarray(x, jnp.float32), jnp.asarray(targets, jnp.float32)
    )
    np.testing.assert_allclose(loss, ((values - targets) ** 2).mean(axis=1).sum(), rtol=1e-5)


def test_the_gradient_runs_through_every_step_of_the_chain_or_through_one(state, batch):
    """With nothing to clone, the full chain's gradient is the samples', the other's the denoised actions'."""
    x = state.normalizer.normalize(batch.observations)

    def slope(chain):
        learner = DiffusionQL(width=8, depth=2, chain=chain, q_weight=1e6)
        gradient = eqx.filter_grad(lambda actor: learner.actor_loss(
            actor, state.critics, x, batch.actions, key=KEY
        )[0])(state.actor)  # fmt: skip
        return np.asarray(gradient.network.layers[0].weight)

    full, one = slope("full"), slope("one_step")
    assert np.abs(full).max() > 0
    assert np.abs(one).max() > 0
    assert not np.allclose(full, one, rtol=0.1)


def test_the_averaged_actor_waits_and_then_follows_every_few_steps(state, batch):
    learner = DiffusionQL(width=8, depth=2, average_from=4, average_every=2, average_rate=0.5)
    moved = []
    for step in (2, 3, 4, 5, 6):
        after, _ = learner.update(state, batch, step=jnp.int32(step), key=KEY)
        moved.append(not eqx.tree_equal(after.average_actor, state.average_actor))
    assert moved == [False, False, True, False, True]


def test_it_keeps_both_habits_of_the_data_when_it_clones_and_takes_the_paid_one_when_it_learns():
    """Actions at -0.9 and 0.9, paid 0 and 1: a Gaussian policy would act between them."""
    actions = jnp.repeat(jnp.array([-0.9, 0.9]), 32)[:, None]
    zeros = jnp.zeros((64, 1))
    batch = by_hand.Transitions(zeros, actions, (actions[:, 0] > 0).astype(jnp.float32), jnp.ones(64), zeros)
    spec = by_hand.SystemSpec(
        1, 1, -jnp.ones(1), jnp.ones(1), by_hand.GaussianNormalizer(jnp.zeros(1), jnp.ones(1))
    )

    def samples(q_weight):
        learner = DiffusionQL(width=32, depth=2, learning_rate=3e-3, q_weight=q_weight)

        @eqx.filter_jit
        def learn(state):
            arrays, rest = eqx.partition(state, eqx.is_array)

            def one(arrays, step):
                key = jax.random.fold_in(KEY, step)
                state, _ = learner.update(eqx.combine(arrays, rest), batch, step=step, key=key)
                return eqx.filter(state, eqx.is_array), None

            return eqx.combine(jax.lax.scan(one, arrays, jnp.arange(2000))[0], rest)

        state = learn(learner.init(spec, key=KEY))
        return np.asarray(sample_chain(state.actor, jnp.zeros((200, 1)), key=KEY))[:, 0]

    cloned, learned = samples(0.0), samples(1.0)
    near = lambda found, place: np.mean(np.abs(found - place) < 0.3)
    assert 0.25 < near(cloned, 0.9) < 0.75
    assert 0.25 < near(cloned, -0.9) < 0.75
    assert near(learned, -0.9) < 0.1
