"""Imagined trajectories in a system that can be worked out by hand: s' = s + 0.1 a, reward s."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.normalize import GaussianNormalizer, MinMaxNormalizer
from langevin.data.sampling import Transitions
from langevin.dynamics.inverse import InverseModel
from langevin.dynamics.support import Support
from langevin.evaluation.fidelity import refine_closed_loop
from langevin.imagination import worlds
from langevin.imagination.halting import Halt, fit_halt, hold
from langevin.imagination.refinement import Refinement
from langevin.imagination.trajectory_model import TrajectoryModel
from langevin.imagination.worlds import DyDiffWorld, EnsembleWorld, Imagined, act_along, acting
from langevin.nets.mlp import MLP
from langevin.nets.temporal_unet import TemporalUNet
from langevin.training.programs import COMPILE_QUICKLY

STEP, HORIZON = 0.1, 8
STARTS = jnp.array([[1.0], [-0.5], [0.2]])


def never(before, actions, after):
    return jnp.zeros(after.shape[:-1], bool)


def above_two(before, actions, after):
    return after[..., 0] > 2.0


@eqx.filter_jit
def imagine(world, policy, starts, horizon, seed):
    return world.imagine(policy, starts, horizon, key=jax.random.key(seed))


def by_hand(starts, gain, step=STEP, horizon=HORIZON):
    """s_t = s_0 (1 + step gain)^t under a = gain s."""
    powers = (1 + step * gain) ** np.arange(horizon)
    return np.asarray(starts)[:, :, None].swapaxes(1, 2) * powers[None, :, None]


def test_the_ensembles_rollout_is_the_systems(dynamics, reward, feedback):
    found = imagine(EnsembleWorld(dynamics, reward, None, never), feedback(-3.0), STARTS, HORIZON, 0)
    states = by_hand(STARTS, -3.0)
    np.testing.assert_allclose(found.observations, states, rtol=1e-5)
    np.testing.assert_allclose(found.actions, -3.0 * states, rtol=1e-5)
    np.testing.assert_allclose(found.rewards, states[:, :-1, 0], rtol=1e-5)
    assert not np.asarray(found.terminations).any()
    np.testing.assert_allclose(found.scores, states[:, :-1, 0].sum(axis=1), rtol=1e-5)


def imagined(rewards, terminations):
    rewards = jnp.asarray(rewards, jnp.float32)
    rollouts, transitions = rewards.shape
    states = jnp.zeros((rollouts, transitions + 1, 1))
    return Imagined(states, states, rewards, jnp.asarray(terminations, bool))


def test_the_terminating_transition_counts_and_nothing_after_it_does():
    rewards = [[1, 2, 4, 8], [1, 2, 4, 8], [1, 2, 4, 8], [1, 2, 4, 8]]
    ends = [[0, 0, 0, 0], [0, 1, 0, 1], [1, 0, 0, 0], [0, 0, 0, 1]]
    found = imagined(rewards, ends)
    assert np.asarray(found.valid).astype(int).tolist() == [
        [1, 1, 1, 1],
        [1, 1, 0, 0],
        [1, 0, 0, 0],
        [1, 1, 1, 1],
    ]
    assert np.asarray(found.scores).tolist() == [15, 3, 1, 15]


def test_what_is_imagined_after_the_end_cannot_spoil_a_score():
    found = imagined([[1, 2, np.nan, np.inf]], [[0, 1, 0, 0]])
    assert np.asarray(found.scores).tolist() == [3]


def test_the_tasks_rule_ends_a_trajectory(dynamics, reward, feedback):
    """Under a = 5 s the state grows by half a step: 1, 1.5, 2.25 > 2."""
    found = imagine(
        EnsembleWorld(dynamics, reward, None, above_two), feedback(5.0), jnp.ones((1, 1)), HORIZON, 0
    )
    assert np.asarray(found.terminations)[0].tolist() == [False, True, True, True, True, True, True]
    assert np.asarray(found.valid)[0].tolist() == [True, True, False, False, False, False, False]
    np.testing.assert_allclose(found.scores, [1 + 1.5], rtol=1e-6)


class Doubling(TrajectoryModel):
    """In the place of a diffusion model: knows that actions move the state twice as far as the ensemble says."""

    def refine(self, observations, actions, refinement, strength, *, key):
        start = observations[0]
        moved = start + 2 * STEP * jnp.cumsum(actions[:-1], axis=0)
        return jnp.concatenate([start[None], moved])


class Halving(TrajectoryModel):
    """Halves every state that it is shown, but for the first."""

    def refine(self, observations, actions, refinement, strength, *, key):
        return (observations / 2).at[0].set(observations[0])


class Noise(TrajectoryModel):
    """Answers every rollout with fresh noise after its start."""

    def refine(self, observations, actions, refinement, strength, *, key):
        return jax.random.normal(key, actions.shape).at[0].set(observations[0])


@pytest.fixture(scope="module")
def network():
    make = eqx.filter_jit(lambda key: TemporalUNet(5, 2, 8, (1,), key=key), compiler_options=COMPILE_QUICKLY)
    return make(jax.random.key(0))


@pytest.fixture(scope="module")
def inverse():
    """I(s, s') = 10 (s' - s), the inverse of the ensemble's law."""
    identity = GaussianNormalizer(jnp.zeros(1), jnp.ones(1))
    network = MLP(2, 1, 1, 0, key=jax.random.key(0))
    network = eqx.tree_at(
        lambda n: (n.layers[0].weight, n.layers[0].bias), network, (jnp.array([[0.0], [10.0]]), jnp.zeros(1))
    )
    return InverseModel(network, identity, identity, jnp.full(1, -4.0), jnp.full(1, 4.0))


@pytest.fixture(scope="module")
def make_world(dynamics, reward, network, inverse):
    unit = MinMaxNormalizer(-jnp.ones(1), jnp.ones(1))

    def make(refiner=Doubling, **settings):
        return DyDiffWorld(**{
            "dynamics": dynamics, "reward": reward, "refiner": refiner(network, unit, unit), "inverse": inverse,
            "halt": None, "edge": None, "termination": never, "refinement": Refinement(), "iterations": 1,
            "mix": 1.0, "strength": 1.0, "final_actions": "policy", **settings,
        })  # fmt: skip

    return make


def refined_by_hand(starts, gain, iterations, mix):
    """DyDiff, Algorithm 1, lines 6-9, in NumPy: sample states, mix them in, act anew."""
    states = by_hand(starts, gain)
    for _ in range(iterations):
        actions = gain * states
        moved = states[:, :1] + 2 * STEP * np.cumsum(actions[:, :-1], axis=1)
        states = mix * np.concatenate([states[:, :1], moved], axis=1) + (1 - mix) * states
    return states


@pytest.mark.parametrize(("iterations", "mix"), [(1, 1.0), (2, 1.0), (3, 0.5), (1, 0.0)])
def test_states_are_refined_mixed_in_and_acted_on_anew_each_time(make_world, feedback, iterations, mix):
    world = make_world(iterations=iterations, mix=mix)
    found = imagine(world, feedback(-2.0), STARTS, HORIZON, 0)
    states = refined_by_hand(STARTS, -2.0, iterations, mix)
    np.testing.assert_allclose(found.observations, states, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.actions, -2.0 * states, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.rewards, states[:, :-1, 0], rtol=1e-4, atol=1e-5)


def test_a_refinement_is_shown_the_rollout_and_the_next_one_what_the_last_one_made_of_it(
    make_world, feedback
):
    world, rollout = make_world(Halving, iterations=3), by_hand(STARTS, -2.0)
    found = np.asarray(imagine(world, feedback(-2.0), STARTS, HORIZON, 0).observations)
    np.testing.assert_allclose(found[:, 0], rollout[:, 0])
    np.testing.assert_allclose(found[:, 1:], rollout[:, 1:] / 2**3, rtol=1e-5)
    actions = -2.0 * rollout
    replayed = world.replay(STARTS, jnp.asarray(actions), key=jax.random.key(0)).observations
    np.testing.assert_allclose(replayed[:, 1:], rollout[:, 1:] / 2, rtol=1e-5)


def test_without_iterations_it_is_the_ensembles_world(make_world, dynamics, reward, feedback):
    plain = EnsembleWorld(dynamics, reward, None, never)
    expected = imagine(plain, feedback(-3.0), STARTS, HORIZON, 0)
    for final_actions in ("policy", "inverse"):
        world = make_world(iterations=0, final_actions=final_actions)
        assert eqx.tree_equal(imagine(world, feedback(-3.0), STARTS, HORIZON, 0), expected)


def test_inverse_actions_lead_along_the_refined_states(make_world, feedback):
    found = imagine(make_world(final_actions="inverse"), feedback(-1.0), STARTS, HORIZON, 0)
    states = refined_by_hand(STARTS, -1.0, 1, 1.0)
    np.testing.assert_allclose(found.observations, states, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.actions[:, :-1], np.diff(states, axis=1) / STEP, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found.actions[:, -1], -states[:, -1], rtol=1e-4, atol=1e-5)


def test_inverse_actions_stay_within_what_the_data_hold(make_world, feedback):
    """Asked for 30 at once, the refined path would need 60; the data know no action beyond 4."""
    found = imagine(make_world(final_actions="inverse"), feedback(30.0), jnp.ones((1, 1)), 3, 0)
    assert np.asarray(found.actions)[0, :-1].ravel().tolist() == [4.0, 4.0]


def test_every_rollout_and_every_refinement_has_noise_of_its_own(make_world, feedback):
    world = make_world(Noise)
    same = jnp.ones((4, 1))
    found = np.asarray(imagine(world, feedback(0.0), same, HORIZON, 0).observations)[:, 1:, 0]
    assert len(np.unique(found)) == found.size
    twice = imagine(make_world(Noise, iterations=2), feedback(0.0), same, HORIZON, 0)
    assert not np.isclose(np.asarray(twice.observations)[:, 1:, 0], found).any()


def test_of_many_states_a_policy_is_asked_about_one_step_at_a_time(monkeypatch):
    """Twice the states in action order, and never more rows at once than rollouts; noise differs from step to step."""
    asked = []

    def act(states, *, key):
        asked.append(len(states))
        return 2 * states + jax.random.normal(key, states.shape)

    states = jnp.arange(15.0).reshape(3, 5, 1)
    monkeypatch.setattr(worlds, "MOST_STATES_AT_ONCE", 14)
    noise = act_along(act, states, key=jax.random.key(0)) - 2 * states
    assert set(asked) == {3}
    assert len(np.unique(noise)) == 15
    np.testing.assert_array_less(np.abs(noise), 4)


def test_acting_along_trajectories_gives_each_state_its_own_action():
    states = jnp.arange(24, dtype=jnp.float32).reshape(2, 4, 3)
    act = lambda observations, *, key: observations[:, :2] * 10
    np.testing.assert_array_equal(act_along(act, states, key=jax.random.key(0)), states[..., :2] * 10)


@pytest.fixture(scope="module")
def halt():
    """Known: whatever lies within 0.3 of a state between -1 and 1. Leaving it pays -2."""
    states = jnp.linspace(-1, 1, 41)[:, None]
    known = Support(states, jnp.float32(0.3), GaussianNormalizer(jnp.zeros(1), jnp.ones(1)))
    return Halt(known, jnp.float32(-2.0))


def test_a_trajectory_halts_where_it_leaves_the_data(dynamics, reward, feedback, halt):
    """Under a = 2 s from 1: 1.2 is known, 1.44 is not; the transition that leaves is terminal and pays -2."""
    world = EnsembleWorld(dynamics, reward, halt, never)
    found = imagine(world, feedback(2.0), jnp.array([[1.0], [0.1]]), 5, 0)
    assert np.asarray(found.terminations)[0].tolist() == [False, True, True, True]
    assert np.asarray(found.valid)[0].tolist() == [True, True, False, False]
    np.testing.assert_allclose(np.asarray(found.rewards)[0, :2], [1.0, -2.0], rtol=1e-6)
    np.testing.assert_allclose(found.scores[0], 1.0 - 2.0, rtol=1e-6)
    assert not np.asarray(found.terminations)[1].any(), "this one never leaves"


def test_inside_the_data_halting_changes_nothing(dynamics, reward, feedback, halt):
    worlds = [EnsembleWorld(dynamics, reward, limit, above_two) for limit in (halt, None)]
    found, expected = (imagine(world, feedback(-2.0), STARTS, 5, 0) for world in worlds)
    assert eqx.tree_equal(found, expected)


def test_a_terminal_of_the_task_inside_the_data_keeps_its_reward(dynamics, reward, feedback, halt):
    everywhere = eqx.tree_at(lambda h: h.support.reach, halt, jnp.float32(1e6))
    world = EnsembleWorld(dynamics, reward, everywhere, above_two)
    found = imagine(world, feedback(5.0), jnp.ones((2, 1)), 5, 0)
    assert np.asarray(found.terminations)[0, :3].tolist() == [False, True, True]
    np.testing.assert_allclose(np.asarray(found.rewards)[0, 1], 1.5, rtol=1e-6)


class Standing(TrajectoryModel):
    """Says that nothing ever moves."""

    def refine(self, observations, actions, refinement, strength, *, key):
        return jnp.broadcast_to(observations[0], actions.shape)


def test_a_refinement_cannot_undo_that_the_ensemble_left_the_data(make_world, feedback, halt):
    """The ensemble drives from 1 to 1.44 at transition 1; the refined rollout stands still inside the data."""
    found = imagine(make_world(Standing, halt=halt), feedback(2.0), jnp.ones((1, 1)), 5, 0)
    assert np.asarray(found.observations)[0, :, 0].tolist() == [1.0] * 5
    assert np.asarray(found.valid)[0].tolist() == [True, True, False, False]


def test_a_refinement_that_leaves_the_data_halts_as_well(make_world, feedback, halt):
    """Doubled, 1 goes to 1.4 at once, where the ensemble only reaches 1.2."""
    found = imagine(make_world(Doubling, halt=halt), feedback(2.0), jnp.ones((1, 1)), 5, 0)
    assert np.asarray(found.valid)[0].tolist() == [True, False, False, False]


def test_the_rollouts_that_are_refined_keep_to_the_edge_of_the_data(make_world, feedback, halt):
    """Known: up to 1.3. Under a = 5 s from 1 the ensemble goes 1, 1.5, 2.25, 3.4; kept it stays at 1.3."""
    world = make_world(Halving, edge=halt.support)
    rollout = np.array([1.0, 1.3, 1.3, 1.3])
    found = imagine(world, feedback(5.0), jnp.ones((1, 1)), 4, 0)
    np.testing.assert_allclose(np.asarray(found.observations)[0, 1:, 0], rollout[1:] / 2, rtol=1e-5)
    replayed = world.replay(jnp.ones((1, 1)), jnp.full((1, 4, 1), 5.0), key=jax.random.key(0))
    np.testing.assert_allclose(np.asarray(replayed.observations)[0, 1:, 0], rollout[1:] / 2, rtol=1e-5)
    kept = refine_closed_loop(world, acting(feedback(5.0)), jnp.ones((1, 1)), 4, 1, key=jax.random.key(0))
    np.testing.assert_allclose(np.ravel(kept.observations[0]), [1, 1.5, 2.25, 3.375], rtol=1e-5)
    np.testing.assert_allclose(np.ravel(kept.observations[1])[1:], rollout[1:] / 2, rtol=1e-5)
    np.testing.assert_allclose(np.ravel(kept.actions[1]), 5 * rollout, rtol=1e-5)
    inside, free = (make_world(Halving, edge=edge) for edge in (halt.support, None))
    found, expected = (imagine(world, feedback(-2.0), STARTS, 5, 0) for world in (inside, free))
    np.testing.assert_allclose(found.observations, expected.observations, rtol=1e-5)


def test_halting_pays_the_datas_worst_reward_patience_times_over():
    states = jnp.linspace(0, 1, 20)[:, None]
    rewards = jnp.linspace(-0.5, 3.0, 20)
    transitions = Transitions(states, states, rewards, jnp.zeros(20), states)
    halt = fit_halt(transitions, 5.0, 100)
    np.testing.assert_allclose(halt.reward, -50.0)
    np.testing.assert_allclose(
        halt.support.reach, 2 * fit_halt(transitions, 2.5, 100).support.reach, rtol=1e-6
    )
    assert np.asarray(halt.left(jnp.array([[[0.5], [0.6], [7.0], [0.5]]]))).tolist() == [[False, True, False]]


def test_rows_after_the_first_departure_hold_the_last_one_before_it():
    rows = jnp.arange(10, dtype=jnp.float32).reshape(2, 5, 1)
    left = jnp.array([[False, True, False, False], [False, False, False, False]])
    held = np.asarray(hold(rows, left))[..., 0]
    assert held.tolist() == [[0, 1, 1, 1, 1], [5, 6, 7, 8, 9]]
