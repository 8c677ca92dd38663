"""The share of the oracle's gain that a world model gets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.normalize import GaussianNormalizer
from langevin.dynamics.reward import RewardModel
from langevin.errors import UsageError
from langevin.experiments.dydiff_gain import DataStates, Gain, oracle_shares
from langevin.nets.mlp import MLP
from langevin.policies.base import Policy


def results(**per_seed):
    return {name: {"normalized_score": {"per_seed": scores}} for name, scores in per_seed.items()}


def test_a_share_is_the_gain_over_the_base_in_units_of_the_oracles():
    """(60 - 10) / (110 - 10); scores that do not vary have an interval of no width."""
    shares = oracle_shares(results(base=[10.0, 10], oracle=[110.0, 110], ensemble=[60.0, 60]))
    assert shares == {"ensemble": {"share": 0.5, "ci95": (0.5, 0.5)}}


def test_shares_are_of_means_also_when_variants_have_different_numbers_of_seeds():
    found = oracle_shares(results(base=[0.0, 20], oracle=[100.0, 120, 110], worse=[-40.0, -40, -40, -40]))
    assert found["worse"]["share"] == pytest.approx((-40 - 10) / (110 - 10))
    low, high = found["worse"]["ci95"]
    assert low < -0.5 < high


def test_the_interval_covers_the_spread_of_all_three():
    """Of 100 gains drawn with a known spread, about 95 intervals of 10 seeds hold the true share of 0.5."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(40):
        drawn = {
            name: rng.normal(mean, 5, 10).tolist()
            for name, mean in (("base", 0), ("oracle", 100), ("own", 50))
        }
        low, high = oracle_shares(results(**drawn))["own"]["ci95"]
        held += low <= 0.5 <= high
    assert held >= 33


def test_without_base_or_oracle_there_is_no_share():
    assert oracle_shares(results(base=[1.0, 2], ensemble=[3.0, 4])) == {}
    assert oracle_shares(results(oracle=[1.0, 2], ensemble=[3.0, 4])) == {}
    assert oracle_shares(results(base=[1.0, 2], oracle=[3.0, 4])) == {}


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
