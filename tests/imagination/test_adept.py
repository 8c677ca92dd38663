"""ADEPT's epoch: rollouts that end, a world model that is refitted or left alone, and what the learner is handed."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.sampling import Transitions
from langevin.diffusion.training import DiffusionOptimizer
from langevin.dynamics.step_diffusion import StepDiffusionTraining
from langevin.errors import UsageError
from langevin.imagination.adept import ADEPT, StepDiffusionWorld
from langevin.policies.base import Learner, SystemSpec
from langevin.policies.bc import BC
from tests.known_models import UNIT

SPEC = SystemSpec(1, 1, -jnp.ones(1), jnp.ones(1), UNIT)
WORLD = StepDiffusionTraining(DiffusionOptimizer(warmup_steps=1), width=8, depth=1, diffusion_steps=3)
CLONE = BC(gaussian=True, squashed=False, width=8, depth=1)
LOOP = ADEPT(
    CLONE, WORLD, rollouts=6, rollout_steps=4, capacity=100, batch_size=20, refit_steps=3, refit_batch_size=32
)


def data():
    """s' = s + 0.1 a, paid 1 a step."""
    rng = np.random.default_rng(0)
    before, actions = rng.uniform(0, 1, (50, 1)), rng.uniform(-1, 1, (50, 1))
    rows = before, actions, np.ones(50), np.zeros(50), before + 0.1 * actions
    return Transitions(*(jnp.asarray(row, jnp.float32) for row in rows))


DATA = data()


def first(loop, spec=SPEC):
    world = loop.world.init(DATA, key=jax.random.key(0))
    return loop.init(spec, world, key=jax.random.key(1))


def ends_above(state, limit):
    """The world model with an outcome network that ends an episode where s' > limit: silu(x) - silu(-x) = x."""
    network = state.diffusion.average.outcome
    first, last = jnp.zeros((3, 8)).at[2, :2].set(jnp.array([1.0, -1.0])), jnp.zeros((8, 2))
    steep = last.at[0].set(jnp.array([1.0, 100.0])).at[1].set(jnp.array([-1.0, -100.0]))
    scale = state.scales.observation
    bias = jnp.array([0.0, -100 * ((limit - scale.mean[0]) / scale.std[0])])
    network = eqx.tree_at(
        lambda n: (n.layers[0].weight, n.layers[0].bias, n.layers[1].weight, n.layers[1].bias),
        network, (first, jnp.zeros(8), steep, bias),
    )  # fmt: skip
    return eqx.tree_at(lambda s: s.diffusion.average.outcome, state, network)


def test_a_trajectory_stops_where_an_ending_is_predicted_and_the_ending_is_kept():
    loop = ADEPT(CLONE, WORLD, rollouts=40, rollout_steps=4, capacity=200)
    state = first(loop)
    state = eqx.tree_at(lambda s: s.world, state, ends_above(state.world, 0.8))
    state, metrics = eqx.filter_jit(loop.imagine)(state, DATA, key=jax.random.key(2))
    filled = int(state.buffer.filled)
    rows = jax.tree.map(lambda leaf: np.asarray(leaf)[:filled], state.buffer.rows)
    assert 40 <= filled < 160, "some ended, none before its first step"
    assert float(metrics["imagination/length"]) == pytest.approx(filled / 40)
    np.testing.assert_array_equal(rows.terminations == 1, rows.next_observations[:, 0] > 0.8)
    follows = rows.observations[1:] == rows.next_observations[:-1]
    assert not follows[rows.terminations[:-1] == 1].any(), "nothing follows an ending"
    assert follows[rows.terminations[:-1] == 0].mean() > 0.6


def test_replaying_what_a_policy_did_leads_where_it_led():
    """The same noise, the same actions: the same states, rewards and endings."""
    state = first(LOOP)
    world, policy = StepDiffusionWorld(LOOP.world.model(state.world)), LOOP.policy(state)
    key, starts = jax.random.key(5), DATA.observations[:7]
    imagined = eqx.filter_jit(world.imagine)(policy, starts, 5, key=key)
    replayed = eqx.filter_jit(world.replay)(starts, imagined.actions, key=key)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), replayed, imagined)
    other = eqx.filter_jit(world.replay)(starts, -imagined.actions, key=key)
    assert not np.allclose(other.observations[:, 1:], imagined.observations[:, 1:], atol=1e-3)


def test_rollouts_start_anywhere_in_the_data():
    loop = ADEPT(CLONE, WORLD, rollouts=40, rollout_steps=1, capacity=200)
    state, _ = eqx.filter_jit(loop.imagine)(first(loop), DATA, key=jax.random.key(2))
    starts = np.asarray(state.buffer.rows.observations)[: int(state.buffer.filled), 0]
    assert np.isin(starts, np.asarray(DATA.observations)[:, 0]).all()
    assert len(np.unique(starts)) > 15


def test_each_row_leads_where_the_next_one_begins_and_rewards_belong_to_the_state_reached():
    state = ends_above(WORLD.init(DATA, key=jax.random.key(0)), 10.0)
    world = StepDiffusionWorld(WORLD.model(state))
    policy = CLONE.policy(CLONE.init(SPEC, key=jax.random.key(1)))
    found = eqx.filter_jit(world.imagine)(policy, DATA.observations[:5], 4, key=jax.random.key(3))
    assert found.observations.shape == (5, 4, 1)
    assert found.actions.shape == (5, 4, 1)
    np.testing.assert_array_equal(found.observations[:, 0], DATA.observations[:5])
    rewards, _ = world.model.outcomes(found.observations[:, 1], found.actions[:, 1], found.observations[:, 2])
    np.testing.assert_allclose(found.rewards[:, 1], rewards, atol=1e-5)


def weights_of(tree):
    return jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array))


def epoch(loop, state, behaviour, step):
    return eqx.filter_jit(loop.begin_epoch)(
        state, DATA, DATA, behaviour, step=jnp.int32(step), key=jax.random.key(4)
    )


def test_an_epoch_fits_the_world_model_to_weighted_rows():
    state = first(LOOP)
    behaviour = CLONE.policy(CLONE.init(SPEC, key=jax.random.key(9)))
    after, metrics = epoch(LOOP, state, behaviour, 500)
    assert int(after.world.updates) == 3
    assert any((a != b).any() for a, b in zip(weights_of(state.world), weights_of(after.world), strict=True))
    assert 0 < float(metrics["importance/effective_share"]) < 0.999
    assert float(metrics["importance/largest_weight"]) > 1
    even, metrics = epoch(LOOP, state, None, 500)
    assert float(metrics["importance/effective_share"]) == pytest.approx(1)
    assert any((a != b).any() for a, b in zip(weights_of(even.world), weights_of(after.world), strict=True))


def test_before_the_first_update_all_rows_weigh_the_same():
    behaviour = CLONE.policy(CLONE.init(SPEC, key=jax.random.key(9)))
    _, metrics = epoch(LOOP, first(LOOP), behaviour, 0)
    assert float(metrics["importance/effective_share"]) == pytest.approx(1)
    assert float(metrics["importance/largest_weight"]) == pytest.approx(1)


def test_a_world_model_that_is_trained_once_stays_as_it_is():
    loop = ADEPT(CLONE, WORLD, rollouts=6, rollout_steps=4, capacity=100, refit_steps=0)
    state = first(loop)
    after, metrics = epoch(loop, state, None, 500)
    assert eqx.tree_equal(after.world, state.world)
    assert "importance/effective_share" not in metrics
    assert int(after.buffer.filled) > 0


class Told(Learner):
    """Remembers the batch."""

    def init(self, spec, *, key) -> Any:
        return DATA

    def update(self, state, batch, *, step, key):
        return batch, {"told/rows": jnp.float32(batch.size)}

    def policy(self, state):
        return CLONE.policy(CLONE.init(SPEC, key=jax.random.key(0)))


def test_the_learner_sees_half_real_and_half_imagined_rows():
    loop = ADEPT(
        Told(), WORLD, rollouts=6, rollout_steps=4, capacity=100, real_share=0.5, batch_size=50
    )  # fmt: skip
    state = first(loop)
    state = eqx.tree_at(lambda s: s.world.scales.reward.mean, state, jnp.array([7.0]))
    state = eqx.tree_at(
        lambda s: (s.world.scales.reward_low, s.world.scales.reward_high),
        state,
        (jnp.float32(7), jnp.float32(7)),
    )
    state, _ = eqx.filter_jit(loop.imagine)(state, DATA, key=jax.random.key(2))
    after, _ = eqx.filter_jit(loop.update)(state, DATA, step=jnp.int32(0), key=jax.random.key(5))
    rewards = np.asarray(after.learner.rewards)
    np.testing.assert_array_equal(rewards, [1.0] * 25 + [7.0] * 25)
    assert eqx.tree_equal(after.buffer, state.buffer)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rollouts": 0}, "rollouts must be at least 1, got 0"),
        ({"rollout_steps": 0}, "rollout_steps must be at least 1, got 0"),
        ({"refit_steps": -1}, "refit_steps must be at least 0, got -1"),
        ({"refit_batch_size": 0}, "refit_batch_size must be at least 1, got 0"),
        ({"real_share": 1.5}, r"real_share must lie between 0 and 1, got 1\.5"),
        ({"capacity": 999}, "capacity must be at least the 1000 rows that an epoch imagines, got 999"),
        ({"least_weight": 0.0}, "least_weight must be greater than 0"),
        ({"most_weight": 0.5}, "must enclose 1"),
        ({"least_share": 1.5}, "least_share must lie between 0 and 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, words):
    with pytest.raises(UsageError, match=words):
        ADEPT(BC(), **settings)
