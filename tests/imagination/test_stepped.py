"""Transitions asked of the single-step model one by one, in the system s' = s + 0.1 a with reward s."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.normalize import GaussianNormalizer, MinMaxNormalizer
from langevin.dynamics.support import Support
from langevin.envs.tasks import get_task
from langevin.imagination.buffer import empty_buffer
from langevin.imagination.experience import as_transitions, mean_reward
from langevin.imagination.halting import Halt
from langevin.imagination.stepped import SteppedWorld
from langevin.imagination.trajectory_model import TrajectoryModel
from langevin.imagination.worlds import DyDiffWorld, EnsembleWorld, World, acting, imagined
from langevin.nets.temporal_unet import TemporalUNet
from langevin.training.algorithms.dydiff import taught_world
from langevin.training.algorithms.registry import load_settings
from langevin.training.algorithms.system import System

LEAPS = [[1.0, -0.5, 0.2, 0.9], [0.0, 0.7, 0.3, -1.0]]
"""States that no action explains."""


class Leaping(World):
    """Visits the same states whatever the policy does."""

    states: jax.Array
    reward: eqx.Module

    def imagine(self, policy, starts, horizon, *, key):
        actions = jax.vmap(lambda rows: acting(policy)(rows, key=key))(self.states)
        return imagined(self.reward, lambda *rows: jnp.zeros(len(rows[2]), bool), self.states, actions)


def never(before, actions, after):
    return jnp.zeros(after.shape[:-1], bool)


@pytest.fixture(scope="module")
def halt():
    """Known: whatever lies within 0.3 of a state between -1 and 1. Leaving it pays -2."""
    states = jnp.linspace(-1, 1, 41)[:, None]
    known = Support(states, jnp.float32(0.3), GaussianNormalizer(jnp.zeros(1), jnp.ones(1)))
    return Halt(known, jnp.float32(-2.0))


def stepped(states, dynamics, reward, policy, halt=None, termination=never):
    states = jnp.asarray(states)[..., None]
    world = SteppedWorld(Leaping(states, reward), dynamics, halt, termination)
    return world.imagine(policy, states[:, 0], states.shape[1], key=jax.random.key(0))


def test_a_transition_leads_where_its_action_leads_not_where_the_trajectory_goes_on(
    dynamics, reward, feedback
):
    found = stepped(LEAPS, dynamics, reward, feedback(-3.0))
    rows, shown = as_transitions(found)
    states = np.ravel(np.asarray(LEAPS)[:, :-1])
    assert np.asarray(shown).all()
    np.testing.assert_allclose(np.ravel(rows.observations), states, rtol=1e-6)
    np.testing.assert_allclose(np.ravel(rows.actions), -3.0 * states, rtol=1e-6)
    np.testing.assert_allclose(np.ravel(rows.next_observations), 0.7 * states, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(rows.rewards, states, rtol=1e-6)


def test_what_leaves_the_data_ends_and_what_starts_outside_them_is_not_shown(
    dynamics, reward, feedback, halt
):
    """Under a = 5 s a state grows by half: 1 to 1.5, outside; 2 is outside before it moves; 0.5 stays inside."""
    found = stepped([[0.5, 1.0, 2.0, 0.5, 0.1]], dynamics, reward, feedback(5.0), halt)
    assert np.asarray(found.valid).tolist() == [[True, True, False, True]]
    assert np.asarray(found.terminations)[0, [0, 1, 3]].tolist() == [False, True, False]
    np.testing.assert_allclose(np.asarray(found.rewards)[0, [0, 1, 3]], [0.5, -2.0, 0.5], rtol=1e-6)
    np.testing.assert_allclose(found.scores, [0.5 - 2.0 + 0.5], rtol=1e-6)
    np.testing.assert_allclose(mean_reward(found), (0.5 - 2.0 + 0.5) / 3, rtol=1e-6)


def test_where_nothing_is_known_nothing_is_shown_and_the_learner_goes_on(dynamics, reward, feedback, halt):
    """Else a mean of no rewards, NaN, would stop the seed."""
    found = stepped([[2.0, 3.0, 4.0]], dynamics, reward, feedback(1.0), halt)
    assert not np.asarray(found.valid).any()
    assert mean_reward(found) == 0
    assert empty_buffer(8, 1, 1).add(*as_transitions(found)).filled == 0


def test_the_tasks_rule_is_asked_of_the_successor_and_ends_the_trajectory(dynamics, reward, feedback):
    """2 grows to 3, a fall; that the world draws the next state at 0.5 says nothing: nobody gets there."""
    above = lambda before, actions, after: after[..., 0] > 2.5
    found = stepped([[1.0, 2.0, 0.5, 0.5]], dynamics, reward, feedback(5.0), termination=above)
    assert np.asarray(found.terminations).tolist() == [[False, True, False]]
    assert np.asarray(found.valid).tolist() == [[True, True, False]]
    np.testing.assert_allclose(found.scores, [1.0 + 2.0], rtol=1e-6)


def test_after_a_fall_nothing_is_known_even_where_the_data_are(dynamics, reward, feedback, halt):
    below = lambda before, actions, after: after[..., 0] < 0.3
    found = stepped([[0.5, 0.1, 0.5, 0.5]], dynamics, reward, feedback(1.0), halt, below)
    assert np.asarray(found.valid).tolist() == [[True, True, False]]


@pytest.mark.parametrize(
    ("preset", "overrides", "kind"),
    [
        ("paper", {}, DyDiffWorld),
        ("cpu", {}, SteppedWorld),
        ("cpu", {"successors": "refined"}, DyDiffWorld),
        ("cpu", {"iterations": 0}, EnsembleWorld),
    ],
)
def test_the_settings_say_what_the_learner_is_shown(preset, overrides, kind, dynamics, reward, halt):
    """The paper's preset what the paper has; without refinements a transition leads where it led in the rollout."""
    config = load_settings("dydiff", "td3bc", preset, "pointmaze/umaze-v0", overrides)
    task = get_task("pointmaze/umaze")
    system = System(task, 4, 2, task.action_low, task.action_high)
    unit = MinMaxNormalizer(-jnp.ones(1), jnp.ones(1))
    refiner = TrajectoryModel(TemporalUNet(5, 2, 8, (1,), key=jax.random.key(0)), unit, unit)
    models = {"dynamics": dynamics, "reward": reward, "world_model": refiner}
    edge = halt.support
    world = taught_world(config, system, models, halt, edge)
    assert type(world) is kind
    assert world.halt is halt
    if kind is not EnsembleWorld:
        assert (world.world if kind is SteppedWorld else world).edge is edge
    if kind is SteppedWorld:
        assert world.world.halt is None, "a trajectory that leaves the data goes on"
