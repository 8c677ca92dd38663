"""How far a world model can be trusted: errors against the simulator, legal rollouts, and the words for them."""

import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.normalize import GaussianNormalizer
from langevin.data.sampling import windows_of
from langevin.dynamics.support import Support
from langevin.envs.collect import make_dataset
from langevin.envs.tasks import get_task
from langevin.evaluation.fidelity import (
    Refinements,
    error_curve,
    fidelity_rows,
    held_where_halted,
    position_errors,
    simulate,
    verdict,
)
from langevin.imagination.halting import Halt

HORIZON, ROLLOUTS = 60, 6
TASK = get_task("pointmaze/umaze")


@pytest.fixture(scope="module")
def logged():
    """Windows of a log, somewhere on the way: states and actions."""
    data = make_dataset("pointmaze/umaze-v0", 3000, seed=0)
    windows = windows_of(data, HORIZON)
    starts = np.asarray(windows.starts)[:: windows.size // ROLLOUTS][:ROLLOUTS]
    rows = starts[:, None] + np.arange(HORIZON)
    return np.asarray(data.observations)[rows], np.asarray(data.actions)[rows]


def test_the_simulator_replays_what_was_logged(logged):
    states, actions = logged
    np.testing.assert_allclose(simulate(TASK, states[:, 0], actions), states, atol=2e-3)


def test_position_errors_are_distances_in_the_plane():
    true = np.zeros((2, 3, 4))
    imagined = true + np.array([0.3, 0.4, 100.0, 100.0])
    np.testing.assert_allclose(position_errors(imagined, true), 0.5)


def found_of(*pairs):
    states, actions = zip(*pairs, strict=True)
    return Refinements([jnp.asarray(rows) for rows in states], [jnp.asarray(rows) for rows in actions])


def test_the_true_dynamics_have_no_error_and_only_legal_rollouts(logged):
    states, actions = logged
    true = simulate(TASK, states[:, 0], actions)
    row, again = fidelity_rows(TASK, "data", found_of((true, actions), (true, actions)), strength=0.5)
    for found in (row, again):
        assert found["error"] == {"10": 0.0, "50": 0.0}
        assert found["error_half_width"] == {"10": 0.0, "50": 0.0}
        assert found["legal"] == 1.0
        assert found["rollouts"] == ROLLOUTS
        assert (found["policy"], found["strength"]) == ("data", 0.5)
    assert (row["model"], row["refinement"]) == ("ensemble", 0)
    assert (again["model"], again["refinement"]) == ("refined", 1)


def test_errors_half_widths_and_legal_shares_are_those_of_the_rollouts(logged):
    """Rollouts pushed sideways by 0, 0.1, 0.2 … cells from row 1 on, and two of them once into a wall."""
    states, actions = logged
    true = simulate(TASK, states[:, 0], actions)
    shifts = 0.1 * np.arange(ROLLOUTS)
    imagined = true.copy()
    imagined[:, 1:, 0] += shifts[:, None]
    imagined[2:4, 30, :2] = 0.0, 0.0  # the U's wall
    legal = TASK.maze.legal(imagined[..., :2]).all(axis=1)
    assert not legal[2:4].any()
    assert legal[0]
    (row,) = fidelity_rows(TASK, "medium", found_of((imagined, actions)))
    assert row["error"]["50"] == pytest.approx(shifts.mean(), abs=1e-6)
    assert row["error_half_width"]["10"] == pytest.approx(1.96 * shifts.std() / np.sqrt(ROLLOUTS), abs=1e-6)
    assert row["legal"] == pytest.approx(legal.mean())
    curve = error_curve(TASK, "medium", found_of((imagined, actions)), 0, "ensemble")
    assert (curve["label"], curve["policy"]) == ("ensemble", "medium")
    assert len(curve["error_by_step"]) == len(curve["low"]) == len(curve["high"]) == HORIZON
    assert curve["error_by_step"][0] == 0
    assert curve["error_by_step"][40] == pytest.approx(shifts.mean(), abs=1e-6)
    half_width = 1.96 * shifts.std() / np.sqrt(ROLLOUTS)
    assert curve["high"][40] - curve["error_by_step"][40] == pytest.approx(half_width, abs=1e-6)


def test_each_refinement_is_measured_under_the_actions_it_was_given(logged):
    states, actions = logged
    pairs = [(simulate(TASK, states[:, 0], given), given) for given in (actions, -actions)]
    for row in fidelity_rows(TASK, "good", found_of(*pairs)):
        assert row["error"]["50"] == 0
    crossed = found_of((pairs[0][0], pairs[1][1]))
    assert fidelity_rows(TASK, "good", crossed)[0]["error"]["50"] > 0.05


def test_rollouts_are_held_from_where_they_leave_the_data():
    """Known: x up to 0.55. The ensemble leaves at row 2; the refined rollout, which never does, is held there too."""
    states = np.zeros((1, 5, 4), np.float32)
    states[0, :, 0] = [0.3, 0.5, 0.7, 0.2, 0.1]
    known = jnp.stack([jnp.linspace(0, 0.5, 51), *[jnp.zeros(51)] * 3], axis=1)
    halt = Halt(
        Support(known, jnp.float32(0.05), GaussianNormalizer(jnp.zeros(4), jnp.ones(4))), jnp.float32(0)
    )
    actions = np.arange(10, dtype=np.float32).reshape(1, 5, 2)
    held = held_where_halted(found_of((states, actions), (0.5 * states, actions)), halt)
    np.testing.assert_allclose(held.observations[0][0, :, 0], [0.3, 0.5, 0.5, 0.5, 0.5])
    np.testing.assert_allclose(held.observations[1][0, :, 0], [0.15, 0.25, 0.25, 0.25, 0.25])
    np.testing.assert_array_equal(held.actions[0][0, :, 0], [0, 2, 2, 2, 2])
    kept = held_where_halted(found_of((states, actions), (0.5 * states, actions)), halt, kept=True)
    np.testing.assert_allclose(kept.observations[0], held.observations[0])
    np.testing.assert_allclose(kept.observations[1], 0.5 * states, err_msg="its own rows never leave")


def rows(policy="data", ensemble=0.5, refined=0.5, legal=(0.2, 0.9)):
    common = {"policy": policy, "error_half_width": {"10": 0.01, "50": 0.01}}
    return [
        common | {"refinement": 0, "error": {"10": ensemble / 10, "50": ensemble}, "legal": legal[0]},
        common | {"refinement": 1, "error": {"10": refined / 10, "50": refined}, "legal": legal[1]},
        common | {"refinement": 2, "error": {"10": 9.0, "50": 9.0}, "legal": 0.0},
    ]


@pytest.mark.parametrize(
    ("ensemble", "refined", "advice"),
    [
        (0.02, 0.05, "Any of them may be trusted."),
        (0.02, 0.5, "Trust: ensemble."),
        (0.5, 0.08, "Trust: refined once."),
        (0.5, 0.25, "Of use, with care: refined once."),
        (1.5, 2.5, "Trust none of them for where it ends up; refined once at least keeps most to the maze."),
    ],
)
def test_the_verdict_names_what_may_be_trusted(ensemble, refined, advice):
    (sentence,) = verdict(rows("data", ensemble, refined))
    assert sentence.startswith("Under the data's own actions the ensemble is right ")
    assert sentence.endswith(advice)
    assert f"ensemble {ensemble:.2f} cells off, 20% legal" in sentence
    assert f"refined once {refined:.2f} cells off, 90% legal" in sentence
    assert "9.00" not in sentence, "only the first refinement is spoken of"


def test_the_verdict_says_how_long_the_ensemble_holds():
    (short,) = verdict(rows(ensemble=0.9))
    assert "right to within a tenth of a cell up to step 10." in short
    (never,) = verdict(rows(ensemble=1.5))
    assert "right not even for 10 steps." in never
    (long,) = verdict(rows(ensemble=0.01))
    assert "up to step 50." in long


def test_there_is_a_sentence_for_every_policy_in_order():
    found = verdict([*rows("trained"), *rows("random")])
    assert [sentence.split(" the ensemble")[0] for sentence in found] == [
        "For the policy this run trained",
        "Under random actions",
    ]


def test_halted_rollouts_are_told_apart_in_the_verdict():
    plain, halted = rows(ensemble=0.5, refined=0.5), rows(ensemble=0.5, refined=0.02)
    (sentence,) = verdict(
        [row | {"halted": False} for row in plain] + [row | {"halted": True} for row in halted]
    )
    assert sentence.endswith("Trust: refined once and halted at the edge of the data.")
