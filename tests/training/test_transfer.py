"""Learning from two systems: what is drawn, whose rewards are charged, and where fine-tuning goes on from."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.preparation import RewardScaling
from langevin.data.sampling import Transitions
from langevin.dynamics.dara import DARA
from langevin.dynamics.domain_classifier import DomainTraining
from langevin.envs.tasks import get_task
from langevin.errors import UsageError
from langevin.evaluation.workloads import noise
from langevin.policies.bc import BC
from langevin.policies.diffusion_ql import DiffusionQL
from langevin.policies.iql import IQL
from langevin.training.algorithms import offline, transfer
from langevin.training.algorithms.system import system_of

TASK = get_task("pointmaze/umaze")


def rows(value, count):
    column = lambda size: jnp.full((count, size), value, jnp.float32)
    return Transitions(column(4), column(2), jnp.full(count, value), jnp.zeros(count), column(4))


def test_every_row_of_both_is_equally_likely_and_only_the_sources_rewards_are_charged():
    data = transfer.TransferData(rows(1.0, 300), rows(2.0, 100))
    dara = DARA(classifiers=DomainTraining(width=4, depth=1))
    state = dara.init(data.source, data.target, key=jax.random.key(0))
    state = eqx.tree_at(  # certain of the source by 50 nats beyond what the actions tell: the charge is at its limit
        lambda s: (s.full.classifier.network.layers[-1].bias, s.partial.classifier.network.layers[-1].bias),
        state, (jnp.array([-50.0]), jnp.array([0.0])),
    )  # fmt: skip
    batch = transfer.augmented_batch(data, dara, state, 4000, key=jax.random.key(1))
    of_target = np.asarray(batch.observations[:, 0] == 2)
    assert of_target.mean() == pytest.approx(0.25, abs=0.03)
    np.testing.assert_array_equal(of_target, np.asarray(batch.actions[:, 1] == 2), "rows stay whole")
    np.testing.assert_array_equal(batch.rewards[of_target], 2.0)
    np.testing.assert_allclose(batch.rewards[~of_target], 1.0 - 0.1 * 10, atol=1e-6)


def test_fine_tuning_goes_on_from_where_the_source_ended_with_the_sources_scales():
    settings = transfer.with_transfer(
        offline.with_learner(offline.OfflineConfig, BC), transfer.FineTuneConfig
    )
    config = settings(steps=3, batch_size=8, finetune_steps=2, learner=BC(width=4, depth=1))
    source, target = noise(4, 2, rows=1000), noise(4, 2, rows=500)
    first, second = transfer.finetune_stages(config, system_of(TASK, source, target))
    data = transfer.prepare(config, source, target)
    state = first.init(data, {}, key=jax.random.key(0))
    begun = second.init(data, {"source": state}, key=jax.random.key(9))
    assert eqx.tree_equal(begun, state)
    after, _ = second.update(begun, data, {}, step=jnp.int32(0), key=jax.random.key(1))
    assert eqx.tree_equal(after.normalizer, state.normalizer)
    assert not eqx.tree_equal(after.actor.network, state.actor.network)


@pytest.mark.parametrize(
    "learner", [IQL(width=4, depth=1), DiffusionQL(width=4, depth=1)], ids=["iql", "diffusion_ql"]
)
def test_a_falling_learning_rate_falls_over_both_and_not_to_nothing_before_the_target(learner):
    """The actor's step at the middle of the second stage is half the first's, not 0."""
    settings = transfer.with_transfer(
        offline.with_learner(offline.OfflineConfig, type(learner)), transfer.FineTuneConfig
    )
    config = settings(steps=4, batch_size=8, finetune_steps=4, learner=learner)
    source, target = noise(4, 2, rows=1000), noise(4, 2, rows=500)
    first, second = transfer.finetune_stages(config, system_of(TASK, source, target))
    data = transfer.prepare(config, source, target)
    state = first.init(data, {}, key=jax.random.key(0))
    for step in range(4):
        state, _ = eqx.filter_jit(first.update)(
            state, data, {}, step=jnp.int32(step), key=jax.random.key(step)
        )
    after, _ = eqx.filter_jit(second.update)(state, data, {}, step=jnp.int32(0), key=jax.random.key(9))
    moved = jax.tree.map(
        lambda new, old: jnp.abs(new - old).max(),
        *(eqx.filter(s.actor, eqx.is_inexact_array) for s in (after, state)),
    )
    assert max(jax.tree.leaves(moved)) > 0.1 * 3e-4


def test_rewards_of_both_systems_are_scaled_by_the_sources_factor():
    """IQL's range of 1,000 is the source's; a target that returns a tenth as much stays a tenth as good."""
    settings = transfer.with_transfer(
        offline.with_learner(offline.OfflineConfig, BC), transfer.FineTuneConfig
    )
    paid = lambda data, unit: dataclasses.replace(data, rewards=unit * np.abs(data.observations[:, 0]))
    source, target = paid(noise(4, 2, rows=2000), 1.0), paid(noise(4, 2, rows=1000), 0.1)
    config = settings(steps=1, learner=BC(width=4), rewards=RewardScaling(return_range=1000.0))
    data = transfer.prepare(config, source, target)
    factor = config.rewards.scale(source)
    assert factor != pytest.approx(config.rewards.scale(target), rel=0.5)
    np.testing.assert_allclose(data.source.rewards, factor * source.rewards, rtol=1e-5)
    np.testing.assert_allclose(data.target.rewards, factor * target.rewards, rtol=1e-5)


def test_fine_tuning_learns_from_the_target_alone():
    """The same update whatever the source holds."""
    settings = transfer.with_transfer(
        offline.with_learner(offline.OfflineConfig, BC), transfer.FineTuneConfig
    )
    config = settings(steps=3, batch_size=8, finetune_steps=2, learner=BC(width=4, depth=1))
    source, target = noise(4, 2, rows=1000), noise(4, 2, rows=500)
    _, second = transfer.finetune_stages(config, system_of(TASK, source, target))
    data = transfer.prepare(config, source, target)
    other = eqx.tree_at(lambda d: d.source.actions, data, -data.source.actions)
    state = config.learner.init(system_of(TASK, source).spec(data.source), key=jax.random.key(0))
    found = [second.update(state, d, {}, step=jnp.int32(0), key=jax.random.key(1))[0] for d in (data, other)]
    assert eqx.tree_equal(*found)


def test_a_source_that_reaches_further_widens_the_actions_and_another_robot_is_refused():
    narrow = noise(4, 2, rows=500)
    wide = dataclasses.replace(narrow, action_low=2 * narrow.action_low, action_high=3 * narrow.action_high)
    system = system_of(TASK, wide, narrow)
    np.testing.assert_allclose(system.action_low, 2 * narrow.action_low)
    np.testing.assert_allclose(system.action_high, 3 * narrow.action_high)
    with pytest.raises(UsageError, match="the source has 4 observation dimensions and the target 5"):
        system_of(TASK, narrow, noise(5, 2, rows=500))
