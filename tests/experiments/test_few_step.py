"""How few network calls a refinement needs: what is measured, and which setting is called the cheapest."""

import numpy as np
import pytest

from langevin.diffusion.samplers import Sampler
from langevin.diffusion.schedules import KarrasSchedule
from langevin.envs.tasks import get_task
from langevin.errors import UsageError
from langevin.experiments.few_step import FewStep, cheapest, measure, overall, table, with_calls


def test_every_method_makes_the_calls_that_were_asked_for():
    schedule = KarrasSchedule(steps=8, highest=10.0)
    for method, expected in (("heun", [1, 3, 67]), ("ddim", [1, 2, 3, 67])):
        samplers = with_calls(method, (1, 2, 3, 67), schedule)
        assert [sampler.calls for sampler in samplers] == expected
        assert all(sampler.schedule.highest == 10.0 for sampler in samplers)


def test_errors_are_in_cells_and_leave_out_the_given_first_state():
    """Two trajectories at rest in the goal's cell: samples 0.3 off to one side and 0.1 to the other, at every step."""
    maze = get_task("pointmaze/umaze").maze
    assert maze is not None
    true = np.zeros((2, 5, 4))
    true[..., :2] = maze.goal
    offsets = np.array([[0.3, 0.3], [-0.1, -0.1]])
    refined = np.broadcast_to(true, (2, 2, 5, 4)).copy()
    refined[:, :, 1:, 0] += offsets[:, :, None]
    refined[:, :, 0] += 7.0
    inside = refined.copy()
    inside[:, :, 0] = true[:, 0]
    row = measure(Sampler("ddim", KarrasSchedule(steps=3)), maze, "data", inside, true)
    assert (row["sampler"], row["calls"], row["policy"]) == ("ddim", 3, "data")
    assert row["error"] == pytest.approx(0.2)
    assert row["last_error"] == pytest.approx(0.2)
    assert row["half_width"] == pytest.approx(0)
    assert row["legal"] == 1
    outside = measure(Sampler(), maze, "data", refined, true)
    assert outside["error"] == pytest.approx(0.2), "the first state is given"
    assert outside["legal"] == 0


def rows(*triples):
    return [{"sampler": "heun", "steps": 1, "calls": calls, "policy": policy, "error": error, "half_width": 0.01,
             "last_error": 0.5, "legal": 1.0} for calls, policy, error in triples]  # fmt: skip


def test_the_cheapest_is_within_a_tenth_of_the_best_over_both_policies():
    """Best is (0.2 + 0.4) / 2 = 0.3, so 0.33 is near enough and 0.335 is not."""
    found = overall(rows(
        (1, "data", 0.1), (1, "good", 0.57), (3, "data", 0.28), (3, "good", 0.379), (9, "data", 0.2), (9, "good", 0.4),
    ))  # fmt: skip
    assert [row["error"] for row in found] == pytest.approx([0.335, 0.3295, 0.3])
    assert cheapest(found)["calls"] == 3


def test_the_table_has_a_line_a_setting():
    lines = table(rows((1, "data", 0.1), (1, "good", 0.5), (3, "data", 0.2), (3, "good", 0.3))).splitlines()
    assert len(lines) == 4
    assert lines[2].endswith("| 0.300 |")
    assert "0.100 ± 0.010" in lines[2]


@pytest.mark.parametrize("settings", [{"seeds": 0}, {"calls": (0, 3)}, {"rollouts": 0}])
def test_settings_that_measure_nothing_are_refused_before_any_data_are_read(settings):
    with pytest.raises(UsageError, match=r"must be at least 1, got 0"):
        FewStep("nowhere-v0", **settings).run()
