"""DyDiff's outer loop around a learner and a world whose answers are known."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.normalize import GaussianNormalizer
from langevin.data.sampling import Transitions
from langevin.errors import UsageError
from langevin.imagination.dydiff import DyDiff, as_transitions, mean_reward
from langevin.imagination.worlds import Imagined, World
from langevin.policies.base import Policy, SystemSpec
from langevin.policies.bc import BC

SPEC = SystemSpec(1, 1, -jnp.ones(1), jnp.ones(1), GaussianNormalizer(jnp.zeros(1), jnp.ones(1)))
LEARNER = BC(width=8, depth=1, learning_rate=1e-2)
DYDIFF = DyDiff(LEARNER, rollouts=10, horizon=4, keep_share=0.6, capacity=100, batch_size=20)
REAL = Transitions(
    observations=jnp.linspace(0, 1, 50)[:, None],
    actions=jnp.full((50, 1), 0.5),
    rewards=jnp.zeros(50),
    terminations=jnp.zeros(50),
    next_observations=jnp.linspace(0, 1, 50)[:, None],
)


class Counting(World):
    """Each rollout walks up by 10 a step, is paid its start each time, and never ends; actions are -0.5."""

    ends: bool = False

    def imagine(self, policy, starts, horizon, *, key):
        observations = starts[:, None] + 10 * jnp.arange(horizon)[None, :, None]
        rewards = jnp.broadcast_to(starts, (len(starts), horizon - 1))
        ends = jnp.zeros(rewards.shape, bool).at[:, 1].set(self.ends)
        return Imagined(observations, jnp.full((len(starts), horizon, 1), -0.5), rewards, ends)


begin_epoch = eqx.filter_jit(DyDiff.begin_epoch)
update = eqx.filter_jit(DyDiff.update)


@pytest.fixture(scope="module")
def fresh():
    return DYDIFF.init(SPEC, key=jax.random.key(0))


@pytest.fixture(scope="module")
def after(fresh):
    return begin_epoch(DYDIFF, fresh, REAL, Counting(), key=jax.random.key(1))


def test_an_epoch_stores_the_best_rollouts_of_starts_in_the_data(fresh, after):
    state, metrics = after
    rows = jax.tree.map(lambda leaf: np.asarray(leaf)[: int(state.buffer.filled)], state.buffer.rows)
    assert len(rows.rewards) == 6 * 3, "six of ten rollouts, three transitions each"
    starts = rows.observations[::3, 0]
    assert np.isin(starts, np.asarray(REAL.observations)[:, 0]).all()
    np.testing.assert_allclose(
        rows.observations.reshape(6, 3) - starts[:, None], [[0, 10, 20]] * 6, atol=1e-5
    )
    np.testing.assert_allclose(rows.next_observations, rows.observations + 10, atol=1e-5)
    np.testing.assert_allclose(rows.rewards, np.repeat(starts, 3))
    assert (rows.actions == -0.5).all()
    assert (rows.terminations == 0).all()
    assert float(metrics["imagination/buffer_rows"]) == 18
    assert float(metrics["imagination/kept_reward"]) > float(metrics["imagination/reward"])
    np.testing.assert_allclose(metrics["imagination/kept_reward"], starts.mean(), rtol=1e-5)
    assert eqx.tree_equal(state.learner, fresh.learner), "imagining is not learning"


class Noisy(Policy):
    """Acts by noise, its mode by 0."""

    spread: float = 1.0

    def start(self, batch_size):
        return None

    def act(self, observations, memory, *, key):
        return self.spread * jax.random.normal(key, (observations.shape[0], 1)), None

    def greedy(self):
        return Noisy(0.0)


class Chance(BC):
    """A learner whose policy is `Noisy`."""

    def policy(self, state):
        return Noisy()


class Asking(World):
    """Trajectories that stand still, with the actions that the policy takes."""

    def imagine(self, policy, starts, horizon, *, key):
        observations = jnp.repeat(starts[:, None], horizon, axis=1)
        actions = jnp.stack([
            policy.act(starts, None, key=each)[0] for each in jax.random.split(key, horizon)
        ], axis=1)  # fmt: skip
        quiet = jnp.zeros((len(starts), horizon - 1))
        return Imagined(observations, actions, quiet, quiet > 0)


@pytest.mark.parametrize(("stochastic", "spread"), [(False, 0.0), (True, 1.0)])
def test_the_policy_acts_by_its_mode_in_imagination_unless_asked_for_samples(stochastic, spread):
    dydiff = DyDiff(Chance(width=4, depth=1), 100, 11, 1.0, capacity=1000, stochastic=stochastic)
    first = dydiff.init(SPEC, key=jax.random.key(0))
    state, _ = begin_epoch(dydiff, first, REAL, Asking(), key=jax.random.key(1))
    assert float(jnp.std(state.buffer.rows.actions)) == pytest.approx(spread, abs=0.1)


def test_starts_are_drawn_anew_each_epoch(after):
    state, _ = after
    again, metrics = begin_epoch(DYDIFF, state, REAL, Counting(), key=jax.random.key(2))
    assert float(metrics["imagination/buffer_rows"]) == 36
    first, second = np.asarray(again.buffer.rows.observations)[:36, 0].reshape(2, 18)
    assert not np.isclose(first, second).all()


def test_transitions_after_a_terminal_are_not_stored(fresh):
    state, metrics = begin_epoch(DYDIFF, fresh, REAL, Counting(ends=True), key=jax.random.key(1))
    rows = jax.tree.map(lambda leaf: np.asarray(leaf)[: int(state.buffer.filled)], state.buffer.rows)
    assert rows.terminations.tolist() == [0.0, 1.0] * 6
    assert rows.observations.max() < 12, "the third transition begins at 20"
    assert float(metrics["imagination/buffer_rows"]) == 12


def test_an_update_learns_from_real_and_imagined_rows_in_their_shares(after):
    """Cloned actions are 0.5 in the data and -0.5 in the world: the loss says how many of each there were."""
    state, _ = after
    for share in (0.6, 1.0):
        dydiff = DyDiff(LEARNER, 10, 4, 0.6, real_share=share, capacity=100, batch_size=20)
        quiet = eqx.tree_at(lambda s: s.learner.actor.network, state,
                            replace_fn=lambda n: jax.tree.map(jnp.zeros_like, n))  # fmt: skip
        new, metrics = update(dydiff, quiet, REAL, step=jnp.int32(0), key=jax.random.key(3))
        np.testing.assert_allclose(metrics["actor/loss"], 0.25)
        # Adam's first step is learning_rate times the sign of the gradient, the mean of the actions.
        bias = float(new.learner.actor.network.layers[-1].bias[0])
        assert np.isclose(bias, 1e-2, rtol=1e-3), "0.6 real outweighs 0.4 imagined"
        assert eqx.tree_equal(new.buffer, state.buffer)


def test_mostly_imagined_batches_pull_the_other_way(after):
    state, _ = after
    dydiff = DyDiff(LEARNER, 10, 4, 0.6, real_share=0.4, capacity=100, batch_size=20)
    quiet = eqx.tree_at(lambda s: s.learner.actor.network, state,
                        replace_fn=lambda n: jax.tree.map(jnp.zeros_like, n))  # fmt: skip
    new, _ = update(dydiff, quiet, REAL, step=jnp.int32(0), key=jax.random.key(3))
    assert np.isclose(float(new.learner.actor.network.layers[-1].bias[0]), -1e-2, rtol=1e-3)


def test_the_policy_is_the_learners(after):
    state, _ = after
    observations = jnp.linspace(-1, 1, 5)[:, None]
    own, base = DYDIFF.policy(state), LEARNER.policy(state.learner)
    answers = [policy.act(observations, policy.start(5), key=jax.random.key(0))[0] for policy in (own, base)]
    np.testing.assert_array_equal(*answers)


def test_rows_of_a_trajectory_join_up():
    observations = jnp.arange(2 * 4 * 2, dtype=jnp.float32).reshape(2, 4, 2)
    actions = observations[..., :1] * 100
    ends = jnp.array([[False, True, False], [False, False, False]])
    found = Imagined(observations, actions, observations[:, :-1, 0] / 10, ends)
    rows, valid = as_transitions(found)
    np.testing.assert_array_equal(rows.observations, np.asarray(observations)[:, :3].reshape(6, 2))
    np.testing.assert_array_equal(rows.next_observations, np.asarray(observations)[:, 1:].reshape(6, 2))
    np.testing.assert_array_equal(rows.actions[:, 0], np.asarray(rows.observations)[:, 0] * 100)
    np.testing.assert_allclose(rows.rewards, np.asarray(rows.observations)[:, 0] / 10)
    assert np.asarray(valid).tolist() == [True, True, False, True, True, True]
    assert np.asarray(rows.terminations).tolist() == [0, 1, 0, 0, 0, 0]
    happened = np.asarray(rows.rewards)[np.asarray(valid)]
    np.testing.assert_allclose(mean_reward(found), happened.mean(), rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rollouts": 0}, "rollouts must be at least 1, got 0"),
        ({"horizon": 1}, "horizon must be at least 2, got 1"),
        ({"keep_share": 0.0}, r"keep_share must keep at least one of 10 rollouts and at most all, got 0\.0"),
        ({"keep_share": 1.2}, r"keep_share must keep at least one of 10 rollouts and at most all, got 1\.2"),
        ({"real_share": 1.5}, r"real_share must lie between 0 and 1, got 1\.5"),
        ({"capacity": 17}, "capacity must be at least the 18 rows that an epoch keeps, got 17"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_trained(settings, words):
    with pytest.raises(UsageError, match=words):
        DyDiff(LEARNER, **({"rollouts": 10, "horizon": 4, "capacity": 100} | settings))
