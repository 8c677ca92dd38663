"""MBPO's loop around a learner and a world whose answers are known."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.sampling import Transitions
from langevin.errors import UsageError
from langevin.imagination.branched import BranchedRollouts
from langevin.imagination.worlds import Imagined, World
from langevin.policies.base import SystemSpec
from langevin.policies.bc import BC
from tests.known_models import UNIT

SPEC = SystemSpec(1, 1, -jnp.ones(1), jnp.ones(1), UNIT)
LOOP = BranchedRollouts(BC(width=8, depth=1), rollouts=5, rollout_steps=3, epochs_kept=2, batch_size=20)
REAL = Transitions(
    observations=jnp.linspace(0, 1, 50)[:, None],
    actions=jnp.full((50, 1), 0.5),
    rewards=jnp.zeros(50),
    terminations=jnp.zeros(50),
    next_observations=jnp.linspace(0, 1, 50)[:, None],
)


class Counting(World):
    """Each rollout walks up by 10 a step and is paid `reward`; the first `ending` of them end at their second step."""

    reward: jax.Array
    ending: int = 0

    def imagine(self, policy, starts, horizon, *, key):
        observations = starts[:, None] + 10 * jnp.arange(horizon)[None, :, None]
        rewards = jnp.full((len(starts), horizon - 1), self.reward)
        ends = jnp.zeros(rewards.shape, bool).at[: self.ending, 1].set(True)
        return Imagined(observations, jnp.full((len(starts), horizon, 1), -0.5), rewards, ends)


begin_epoch = eqx.filter_jit(BranchedRollouts.begin_epoch)


def rewards(state):
    return np.asarray(state.buffer.rows.rewards)[: int(state.buffer.filled)].tolist()


def test_every_rollout_starts_in_the_data_and_is_as_long_as_asked():
    state, metrics = begin_epoch(
        LOOP, LOOP.init(SPEC, key=jax.random.key(0)), REAL, Counting(jnp.float32(1)), key=jax.random.key(1)
    )
    assert rewards(state) == [1.0] * 15
    starts = np.asarray(state.buffer.rows.observations)[:15:3, 0]
    assert np.isin(starts, np.asarray(REAL.observations)[:, 0]).all()
    assert len(set(starts.tolist())) > 1
    walked = np.asarray(state.buffer.rows.next_observations)[2:15:3, 0] - starts
    np.testing.assert_allclose(walked, 30.0, rtol=1e-6)
    assert float(metrics["imagination/length"]) == 3


def test_rollouts_that_end_are_shorter_and_leave_nothing_behind_their_end():
    state, metrics = begin_epoch(
        LOOP, LOOP.init(SPEC, key=jax.random.key(0)), REAL, Counting(jnp.float32(1), 2), key=jax.random.key(1)
    )
    assert len(rewards(state)) == 13
    np.testing.assert_allclose(metrics["imagination/length"], 13 / 5)
    assert np.asarray(state.buffer.rows.terminations)[:13].sum() == 2


def test_the_buffer_holds_the_last_epochs():
    state = LOOP.init(SPEC, key=jax.random.key(0))
    for epoch in range(3):
        state, _ = begin_epoch(LOOP, state, REAL, Counting(jnp.float32(epoch)), key=jax.random.key(epoch))
    assert sorted(rewards(state)) == [1.0] * 15 + [2.0] * 15, "the first epoch is forgotten"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rollouts": 0}, "rollouts must be at least 1, got 0"),
        ({"rollout_steps": 0}, "rollout_steps must be at least 1, got 0"),
        ({"epochs_kept": 0}, "epochs_kept must be at least 1, got 0"),
        ({"real_share": -0.1}, r"real_share must lie between 0 and 1, got -0\.1"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, words):
    with pytest.raises(UsageError, match=words):
        BranchedRollouts(BC(), **settings)
