"""What the variants of DyDiff's gain are, and where their states come from."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.normalize import GaussianNormalizer
from langevin.dynamics.reward import RewardModel
from langevin.errors import UsageError
from langevin.experiments.dydiff_gain import DataStates, Gain, reopened
from langevin.nets.mlp import MLP
from langevin.policies.base import Policy
from langevin.policies.iql import IQL
from langevin.training.algorithms.registry import load_settings


def test_dydiff_is_run_once_for_each_strength_and_the_others_once():
    gain = Gain("any", strengths=(0.0, 0.5), variants=("base", "dydiff", "ensemble+halt", "renoised+halt"))
    assert gain.names() == [
        "base",
        "dydiff-0",
        "dydiff-0.5",
        "ensemble+halt",
        "renoised-0+halt",
        "renoised-0.5+halt",
    ]
    with pytest.raises(UsageError, match=r"--variants takes base, oracle, .* got 'simulator'"):
        Gain("any", variants=("base", "simulator")).names()


def test_steps_are_taken_from_refined_states_and_from_the_datas_own():
    variants = ("data+stepped+halt", "stepped+halt", "renoised+stepped+halt")
    assert Gain("any", strengths=(0.5,), variants=variants, halt_margins=(2.5,)).names() == [
        "data+stepped+halt-2.5", "stepped-0.5+halt-2.5", "renoised+stepped-0.5+halt-2.5",
    ]  # fmt: skip


def test_the_learner_and_its_settings_can_be_others():
    gain = Gain("pointmaze/umaze-v0", base="iql", steps=40, set=("learner.width=8", "iterations=2"))
    config = load_settings("dydiff", gain.base, "cpu", gain.dataset, gain.overrides())
    assert (type(config.learner), config.learner.width, config.iterations, config.steps) == (IQL, 8, 2, 40)


def test_what_filled_a_folder_is_found_again(tmp_path):
    gain = Gain("pointmaze/umaze-v0", tmp_path, base="iql", seeds=3, set=("learner.width=8",))
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "summary.json").write_text(json.dumps({"settings": gain.settings()}))
    assert reopened(tmp_path, "base") == gain


class Doubling(Policy):
    """a = 2 s."""

    def start(self, batch_size):
        return None

    def act(self, observations, memory, *, key):
        return 2 * observations, None


def test_without_a_rollout_the_policy_acts_in_states_of_the_data():
    identity = GaussianNormalizer(jnp.zeros(1), jnp.ones(1))
    reward = RewardModel(MLP(2, 1, 4, 1, key=jax.random.key(0)), identity)
    states = jnp.arange(1000, dtype=jnp.float32)[:, None]
    found = DataStates(states, reward).imagine(Doubling(), states[:30], 40, key=jax.random.key(0))
    drawn = np.ravel(found.observations)
    assert found.observations.shape == (30, 40, 1)
    assert np.isin(drawn, states).all()
    assert len(np.unique(drawn)) > 600, "uniform: 1,000 (1 - exp(-1.2)) are met"
    assert abs(drawn.mean() - 499.5) < 4 * 289 / np.sqrt(1200)
    np.testing.assert_array_equal(found.actions, 2 * found.observations)
    expected = reward.predict(found.observations[0, :-1], found.actions[0, :-1])
    np.testing.assert_allclose(found.rewards[0], expected, rtol=1e-6)


def test_a_single_seed_is_refused_before_any_data_are_read():
    with pytest.raises(UsageError, match=r"--seeds must be at least 2, .* got 1"):
        Gain("nowhere-v0", seeds=1).run()


def test_what_is_halted_is_run_once_for_each_margin():
    variants = ("oracle", "ensemble", "ensemble+halt", "dydiff+halt")
    gain = Gain("any", strengths=(0.0, 1.0), variants=variants, halt_margins=(2.5, 5.0))
    assert gain.names() == [
        "oracle", "ensemble", "ensemble+halt-2.5", "ensemble+halt-5",
        "dydiff-0+halt-2.5", "dydiff-0+halt-5", "dydiff-1+halt-2.5", "dydiff-1+halt-5",
    ]  # fmt: skip
