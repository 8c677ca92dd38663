"""A learner with rewards of its own scale: what it is shown, and what every add-on over IQL hands it."""

import dataclasses
from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.preparation import RewardScaling
from langevin.data.sampling import Transitions
from langevin.envs.tasks import get_task
from langevin.imagination.buffer import empty_buffer
from langevin.imagination.experience import ImaginingState
from langevin.imagination.rewards import RescaledRewards
from langevin.policies.base import Learner
from langevin.policies.td3bc import TD3BC
from langevin.training.algorithms.registry import find_algorithm, load_settings
from langevin.training.algorithms.single_step import policy_stage
from langevin.training.algorithms.synthesis import learning_stage
from langevin.training.algorithms.system import System
from tests.policies import by_hand

ROWS = 8
ADD_ONS = ["dydiff", "single_step", "adept", "synther", "mtdiff", "policy_guided"]


def test_it_learns_as_the_learner_does_from_rescaled_data():
    """One update on r with factor 3 and shift -1 is one of the plain learner on 3 r - 1."""
    learner, batch = TD3BC(width=8, depth=1), by_hand.make_batch()
    state = learner.init(by_hand.make_spec(), key=jax.random.key(0))
    update = eqx.filter_jit(
        lambda learner, batch: learner.update(state, batch, step=jnp.int32(0), key=jax.random.key(1))
    )
    other = eqx.tree_at(lambda rows: rows.rewards, batch, 3 * batch.rewards - 1)
    found, metrics = update(RescaledRewards(learner, jnp.float32(3), -1.0), batch)
    expected, expected_metrics = update(learner, other)
    np.testing.assert_allclose(metrics["critic/loss"], expected_metrics["critic/loss"], rtol=1e-5)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    plain, _ = update(learner, batch)
    moved = zip(jax.tree.leaves(found.critics), jax.tree.leaves(plain.critics), strict=True)
    assert any(not np.allclose(a, b, atol=1e-6) for a, b in moved)


@pytest.mark.parametrize("name", ADD_ONS)
def test_an_add_on_takes_its_bases_scale_of_rewards(name):
    """IQL's in locomotion, none in the mazes and none over TD3+BC."""
    assert find_algorithm(name).takes_base
    assert load_settings(name, "iql", "cpu", "hopper/medium-v0", {}).rewards == RewardScaling(1000.0)
    assert load_settings(name, "iql", "cpu", "pointmaze/umaze-v0", {}).rewards == RewardScaling()
    assert load_settings(name, "td3bc", "cpu", "hopper/medium-v0", {}).rewards == RewardScaling()


@pytest.mark.parametrize("name", ADD_ONS)
@pytest.mark.parametrize("preset", ["cpu", "paper"])
@pytest.mark.parametrize("base", ["td3bc", "cql", "diffusion_ql", "iql"])
def test_an_add_on_makes_as_many_gradient_steps_as_its_base_alone(name, preset, base):
    alone = load_settings(base, None, preset, "hopper/medium-v0", {})
    assert load_settings(name, base, preset, "hopper/medium-v0", {}).steps == alone.steps
    assert load_settings(name, base, preset, "hopper/medium-v0", {"steps": 7}).steps == 7


class Told(Learner):
    """Remembers the rewards it was shown."""

    def init(self, spec, *, key):
        return jnp.zeros(ROWS)

    def update(self, state, batch, *, step, key):
        return batch.rewards, {"told/mean": batch.rewards.mean()}

    def policy(self, state):
        raise NotImplementedError


@pytest.mark.parametrize("name", ["single_step", "mtdiff"])
def test_the_stage_hands_the_learner_rewards_in_its_scale_and_keeps_the_buffers(name):
    """All rewards are 2, real and imagined: factor 5 and shift -1 make them 9, and the buffer's stay 2."""
    config = load_settings(
        name, "td3bc", "cpu", "pointmaze/umaze-v0", {"batch_size": ROWS, "rewards.shift": -1.0}
    )
    config = dataclasses.replace(config, learner=Told())
    rows = Transitions(
        jnp.zeros((9, 4)), jnp.zeros((9, 2)), jnp.full(9, 2.0), jnp.zeros(9), jnp.zeros((9, 4))
    )
    buffer = empty_buffer(9, 4, 2).add(rows, jnp.ones(9, bool))
    data = SimpleNamespace(transitions=rows, reward_factor=jnp.float32(5))
    task = get_task("pointmaze/umaze")
    system = System(task, 4, 2, task.action_low, task.action_high)
    call = {"step": jnp.int32(0), "key": jax.random.key(0)}
    if name == "mtdiff":
        told, _ = learning_stage(config, system).update(jnp.zeros(ROWS), data, {"synthesis": buffer}, **call)
    else:
        state, _ = policy_stage(config, system, lambda data, results: None).update(
            ImaginingState(jnp.zeros(ROWS), buffer), data, {}, **call
        )
        told = state.learner
        np.testing.assert_array_equal(state.buffer.rows.rewards, 2)
    np.testing.assert_array_equal(told, 9)
