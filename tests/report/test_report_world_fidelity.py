"""The section on any world model shows the rows' own numbers and says in words what they mean."""

import re

import numpy as np
import pytest

from langevin.errors import UsageError
from langevin.report.fidelity_section import fidelity_chapter
from langevin.report.runs import check_fidelity
from langevin.report.world_fidelity import html_worlds_table, world_error_panel, world_verdict, worlds_section


def world_row(policy="data", model="ensemble", **changes):
    """A model that is right for five steps, too sure, and half a unit of reward off where they spread over five."""
    row = {
        "policy": policy, "model": model, "error": {"1": 0.01, "5": 0.09, "50": 0.7},
        "error_half_width": {"1": 0.001, "5": 0.01, "50": 0.1}, "error_by_step": [0.0, 0.01, 0.05, 0.7],
        "reward_error": 0.5, "reward_spread": 5.0, "end_accuracy": 0.987, "ended": 0.4, "end_error": 3.21,
        "coverage": {"1": 0.9, "5": 0.7, "50": 0.33}, "known": 0.76, "legal": None, "rollouts": 64, "samples": 19,
    }  # fmt: skip
    return {**row, **changes}


def words_of(row):
    return world_verdict([row])[0]


def test_it_is_said_how_far_the_model_is_right_and_what_it_makes_of_it():
    words = words_of(world_row())
    assert words.startswith(
        "Under the data's own actions, ensemble: right to a tenth of a standard deviation up to step 5"
    )
    assert "at step 50 its 90% interval holds 33% of the truth (surer than it should be)" in words
    assert "its rewards are off by 10% of their spread" in words
    assert "misses an episode's length by 3.2 steps" in words


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"error": {"1": 0.3, "50": 0.6}}, "within half a standard deviation up to step 1, and no nearer"),
        ({"error": {"1": 0.9, "50": 2.0}}, "wrong from its first step"),
        ({"coverage": {"1": 0.9, "50": 0.9}}, "(honest)"),
        ({"coverage": {"1": 0.9, "50": 1.0}}, "(less sure than it could be)"),
        ({"reward_spread": 0.0}, "rewards do not vary here"),
        ({"policy": "random"}, "Under the random policy"),
    ],
)
def test_the_words_follow_the_numbers(changes, words):
    assert words in words_of(world_row(**changes))


def test_one_draw_has_no_interval_to_speak_of():
    drawn = world_row(
        "drawn", "synther, each transition", error={"1": 0.3}, error_by_step=[0.0, 0.3], coverage=None
    )
    words = words_of(drawn)
    assert words.startswith("Under the actions that it drew, synther, each transition: within half")
    assert "interval" not in words
    check_fidelity({"worlds": [drawn]}, "fidelity.json")
    section = worlds_section([drawn], "a")
    assert "the actions that it drew" in section
    assert "Coverage" not in section
    assert "<svg" not in section, "one step makes no curve"
    beside = worlds_section([drawn, world_row()], "a")
    assert beside.count("<svg") > html_worlds_table([drawn]).count("<svg")
    assert "Coverage at 1" in beside


def test_the_table_shows_every_row_under_its_policy():
    table = html_worlds_table([world_row(), world_row(model="refined", legal=0.5), world_row("random")])
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", table))
    assert text.count("random policy") == 1
    assert table.count('<th scope="row">') == 3
    for shown in ("0.090", "33%", "98.7%, 3.2 steps", "76%", "50%"):
        assert shown in text


def test_a_panel_draws_the_error_of_every_model_by_step():
    figure = world_error_panel([world_row(), world_row(model="refined"), world_row("random")], "data")
    lines = {line.get_label(): line for line in figure.axes[0].lines if not line.get_label().startswith("_")}
    assert set(lines) == {"ensemble", "refined"}
    np.testing.assert_allclose(lines["refined"].get_ydata()[1:], [0.01, 0.05, 0.7])


def test_a_run_with_nothing_but_worlds_has_a_chapter():
    chapter = fidelity_chapter({"task": "hopper", "algorithm": "mopo", "worlds": [world_row()]}, "0")
    assert "surer than it should be" in chapter
    assert "maze cells" not in chapter


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": None}, "policy, model"),
        ({"end_error": "long"}, "end_error"),
        ({"known": float("nan")}, "known"),
        ({"coverage": {}}, "coverage"),
        ({"error_by_step": [0.0]}, "error_by_step"),
    ],
)
def test_a_broken_row_is_named(changes, message):
    check_fidelity({"worlds": [world_row()]}, "fidelity.json")
    with pytest.raises(UsageError, match=message):
        check_fidelity({"worlds": [world_row(), world_row(**changes)]}, "fidelity.json")
