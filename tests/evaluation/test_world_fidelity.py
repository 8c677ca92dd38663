"""Every question put to world models whose answers are known: s' = s + 0.1 a + noise, reward s, in a toy simulator."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.normalize import GaussianNormalizer
from langevin.dynamics.support import Support
from langevin.envs.stepping import make_simulator
from langevin.envs.tasks import get_task
from langevin.evaluation.world_fidelity import SAMPLES, drawn_rows, sampled_rollouts, true_rollouts, world_row
from langevin.experiments.oracle import simulator_world
from langevin.imagination.pessimism import PenalisedWorld
from langevin.imagination.worlds import EnsembleWorld, Imagined, Steps
from tests.known_models import linear_ensemble, linear_reward, never

STEP, ROLLOUTS, HORIZON = 0.1, 400, 6
NEAR = Support(jnp.zeros((1, 1)), jnp.array(1.0), GaussianNormalizer(jnp.zeros(1), jnp.ones(1)))
TASK = get_task("hopper")
"""Any task without walls: no simulator of it is asked."""


def above_one(before, actions, after):
    return after[..., 0] > 1.0


def noisy_truth(spread, termination=never):
    """Rollouts of the law itself, with Gaussian noise of that spread in each step."""
    rng = np.random.default_rng(0)
    starts = rng.uniform(-0.5, 0.5, (ROLLOUTS, 1))
    actions = rng.uniform(-1, 1, (ROLLOUTS, HORIZON, 1))
    noise = spread * rng.standard_normal((ROLLOUTS, HORIZON - 1, 1))
    states = np.cumsum(np.concatenate([starts[:, None], STEP * actions[:, :-1] + noise], axis=1), axis=1)
    observations, actions = jnp.asarray(states, jnp.float32), jnp.asarray(actions, jnp.float32)
    before, after = observations[:, :-1], observations[:, 1:]
    return Imagined(observations, actions, before[..., 0], termination(before, actions[:, :-1], after))


def row(truth, world, scale=1.0):
    found = sampled_rollouts(world, truth.observations[:, 0], truth.actions, key=jax.random.key(0))
    return world_row(found, truth, np.full(1, scale), NEAR, TASK)


def ensemble(drift=0.0, log_variance=-50.0):
    return linear_ensemble(((0.0, STEP, drift), (0.0, 0.0, log_variance)))


def test_the_true_law_makes_no_error():
    truth = noisy_truth(0.0)
    found = row(truth, EnsembleWorld(ensemble(), linear_reward(1.0, 0.0), None, never))
    assert max(found["error_by_step"]) < 1e-5
    assert (found["reward_error"], found["end_accuracy"]) == (pytest.approx(0, abs=1e-6), 1)
    assert (found["ended"], found["end_error"], found["legal"]) == (0, 0, None)
    assert found["reward_spread"] == pytest.approx(float(np.std(truth.rewards)), rel=1e-5)


def test_a_drift_adds_up_step_by_step_in_units_of_the_scale():
    found = row(
        noisy_truth(0.0), EnsembleWorld(ensemble(drift=0.03), linear_reward(1.0, 0.0), None, never), 0.5
    )
    np.testing.assert_allclose(found["error_by_step"], np.arange(HORIZON) * 0.03 / 0.5, atol=1e-5)
    assert found["error"]["5"] == pytest.approx(0.3, abs=1e-5)
    # rewards of states 0 .. 4, which are 0, 0.03, ... 0.12 off
    assert found["reward_error"] == pytest.approx(0.06, abs=1e-5)


def test_a_model_that_knows_its_noise_covers_nine_in_ten():
    """The greatest and the least of 19 draws of the true distribution; one that thinks itself surer covers fewer."""
    truth = noisy_truth(0.2)
    believes = lambda spread: PenalisedWorld(
        ensemble(log_variance=2 * np.log(spread)), linear_reward(1.0, 0.0), never, None
    )
    honest, sure = row(truth, believes(0.2)), row(truth, believes(0.05))
    for step in ("1", "5"):
        assert honest["coverage"][step] == pytest.approx(0.9, abs=0.05)
        assert sure["coverage"][step] < 0.6
    assert (honest["samples"], honest["rollouts"]) == (SAMPLES, ROLLOUTS)


def test_an_end_that_comes_late_is_counted_in_steps():
    """The truth ends above 1 and drifts there; the model stands still and never ends."""
    starts, actions = jnp.array([[0.95], [-5.0]]), jnp.ones((2, HORIZON, 1))
    states = starts[:, None] + STEP * jnp.arange(HORIZON)[None, :, None]
    truth = Imagined(states, actions, states[:, :-1, 0], above_one(None, None, states[:, 1:]))
    still = EnsembleWorld(
        linear_ensemble(((0, 0, 0), (0, 0, -50.0))), linear_reward(1.0, 0.0), None, above_one
    )
    found = row(truth, still)
    assert found["ended"] == 0.5
    assert found["end_error"] == pytest.approx(
        (4 + 0) / 2
    )  # ends after one transition of five; the other never
    assert found["end_accuracy"] == pytest.approx(
        5 / 6
    )  # six transitions count: one of the first, five of the second
    assert found["known"] == pytest.approx(1 / 6)  # the model's 0.95 is near the data, its -5 is not


def test_what_happens_after_the_simulators_end_counts_for_nothing():
    truth = noisy_truth(0.0)
    ends = jnp.zeros((ROLLOUTS, HORIZON - 1), bool).at[:, 1].set(True)
    truth = Imagined(truth.observations.at[:, 3:].add(100.0), truth.actions, truth.rewards, ends)
    found = row(truth, EnsembleWorld(ensemble(), linear_reward(1.0, 0.0), None, never))
    assert len(found["error_by_step"]) == 3
    assert max(found["error_by_step"]) < 1e-5
    assert list(found["error"]) == ["1"]


def test_the_simulator_is_its_own_best_model():
    """In the maze: replayed step by step through the oracle, and once through as the truth."""
    task = get_task("pointmaze/umaze")
    starts = jnp.asarray(make_simulator(task, 2).reset(np.random.default_rng(0)))
    actions = jax.random.uniform(jax.random.key(0), (2, 20, 2), minval=-1, maxval=1)
    truth = true_rollouts(task, starts, actions)
    again = simulator_world(task).replay(starts, actions, key=jax.random.key(0))
    np.testing.assert_allclose(again.observations, truth.observations, atol=1e-4)
    np.testing.assert_allclose(again.rewards, truth.rewards)
    found = world_row(jax.tree.map(lambda leaf: leaf[None], again), truth, np.ones(4), _maze_support(), task)
    assert (found["legal"], found["end_accuracy"]) == (1, 1)


@pytest.fixture(scope="module")
def replayed():
    """Trajectories of the maze's simulator itself, and what is measured of changed ones."""
    task = get_task("pointmaze/umaze")
    starts = jnp.asarray(make_simulator(task, 3).reset(np.random.default_rng(0)))
    truth = true_rollouts(
        task, starts, jax.random.uniform(jax.random.key(0), (3, 12, 2), minval=-1, maxval=1)
    )

    def measured(drawn, most=1_000):
        return drawn_rows(drawn, np.full(4, 0.5), _maze_support(), task, most=most, key=jax.random.key(0))

    return truth, measured


def test_drawn_experience_that_the_simulator_would_have_given_is_right(replayed):
    truth, measured = replayed
    rows = measured(truth)
    assert list(rows) == ["trajectories", "each transition"]
    assert (rows["trajectories"]["rollouts"], rows["each transition"]["rollouts"]) == (3, 33)
    for row in rows.values():
        assert max(row["error_by_step"]) < 1e-4
        assert row["reward_error"] == pytest.approx(0, abs=1e-6)
        assert (row["end_accuracy"], row["legal"], row["samples"]) == (1, 1, 1)
        assert row["coverage"] is None, "one draw has no interval"


def test_a_wrong_step_is_wrong_once_alone_and_for_good_along_the_way(replayed):
    """All that follows the sixth state stands a tenth further to the right: the sixth step alone does not fit."""
    truth, measured = replayed
    rows = measured(eqx.tree_at(lambda t: t.observations, truth, truth.observations.at[:, 6:, 0].add(0.1)))
    off = 0.1 / 0.5 / np.sqrt(4)  # one of four dimensions, in units of the scale
    np.testing.assert_allclose(rows["trajectories"]["error_by_step"], [0] * 6 + [off] * 6, atol=1e-4)
    assert rows["each transition"]["error"]["1"] == pytest.approx(off / 11, abs=1e-4)


def test_transitions_that_stand_alone_are_asked_about_one_by_one(replayed):
    """Their own successors are measured and not the next rows, and those that are not shown are not."""
    truth, measured = replayed
    shown = jnp.ones((3, 11), bool).at[0].set(False)
    alone = Imagined(
        jnp.flip(truth.observations, axis=1).at[:, :-1].set(truth.observations[:, :-1]), truth.actions,
        truth.rewards + 2, truth.terminations, Steps(truth.observations[:, 1:], shown),
    )  # fmt: skip
    rows = measured(alone)
    assert list(rows) == ["each transition"]
    assert rows["each transition"]["rollouts"] == 22
    assert rows["each transition"]["error"]["1"] < 1e-4
    assert rows["each transition"]["reward_error"] == pytest.approx(2)
    assert measured(alone, most=5)["each transition"]["rollouts"] == 5


def _maze_support():
    return Support(jnp.zeros((1, 4)), jnp.array(100.0), GaussianNormalizer(jnp.zeros(4), jnp.ones(4)))
