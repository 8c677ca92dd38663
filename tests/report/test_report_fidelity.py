"""Figures and table of world-model fidelity show the report's own numbers."""

import re

import numpy as np
import pytest
from fake_runs import fake_fidelity

from langevin.report.fidelity import (
    ENSEMBLE,
    curve_styles,
    distinct_rows,
    error_by_horizon,
    error_panel,
    groups_of,
    refinement_style,
    trade_off_panel,
)
from langevin.report.fidelity_section import fidelity_chapter, html_fidelity_table, shown_strength


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html))


def test_an_error_panel_draws_one_policy_over_the_steps_of_its_rollouts():
    report = fake_fidelity()
    ax = error_panel(report, "medium").axes[0]
    expected = {c["label"]: c["error_by_step"] for c in report["curves"] if c["policy"] == "medium"}
    drawn = {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}
    assert set(drawn) == set(expected)
    for label, line in drawn.items():
        np.testing.assert_allclose(line.get_ydata()[1:], expected[label][1:])
        assert np.isnan(line.get_ydata()[0])
        np.testing.assert_array_equal(line.get_xdata(), np.arange(100))
    assert ax.get_yscale() == "log"


def test_panels_share_their_error_axis_and_nothing_is_cut_off():
    report = fake_fidelity()
    limits = {error_panel(report, policy).axes[0].get_ylim() for policy in ("data", "random")}
    assert len(limits) == 1
    low, high = limits.pop()
    errors = [error for curve in report["curves"] for error in curve["error_by_step"][1:]]
    assert low < min(errors)
    assert max(errors) < high


def test_an_error_of_zero_is_left_out_of_the_logarithmic_axis():
    report = {"curves": [{"label": "ensemble", "policy": "data", "error_by_step": [0.0, 0.1, 0.2]}]}
    figure = error_by_horizon(report)
    figure.canvas.draw()
    assert np.isnan(figure.axes[0].lines[0].get_ydata()[0])
    assert error_by_horizon({"curves": []}) is None


def test_an_iteration_looks_the_same_in_every_figure():
    labels = ["refined, k = 2", "ensemble", "refined 1x"]
    styles = curve_styles([{"label": label} for label in labels])
    assert styles["ensemble"] == ENSEMBLE
    assert styles["refined, k = 2"] == refinement_style(2)
    assert styles["refined 1x"] == refinement_style(1)
    assert len({style.color_name for style in (ENSEMBLE, *map(refinement_style, range(4)))}) == 5


def test_curves_that_name_one_iteration_twice_are_told_apart():
    labels = ["refined, k = 1, strength 0", "refined, k = 1, strength 1"]
    styles = curve_styles([{"label": label} for label in labels])
    assert styles[labels[0]] != styles[labels[1]]


def test_the_trade_off_follows_the_strength():
    report = fake_fidelity(strengths=(0.5, 1.0, 0.0))
    ax = trade_off_panel(report["rows"], "clean", "medium").axes[0]
    line = next(line for line in ax.lines if line.get_label() == "refined, k = 3")
    rows = [r for r in report["rows"] if r["policy"] == "medium" and r.get("refinement") == 3]
    rows.sort(key=lambda row: row["strength"])
    np.testing.assert_allclose(line.get_xdata(), [row["error"]["99"] for row in rows])
    np.testing.assert_allclose(line.get_ydata(), [100 * row["legal"] for row in rows])
    assert trade_off_panel(fake_fidelity(strengths=(0.5,))["rows"], "clean", "medium") is None


def test_groups_are_data_and_policy_in_order():
    rows = fake_fidelity(data=("clean", "noisy"))["rows"]
    assert groups_of(rows)[:2] == [("clean", "data"), ("clean", "medium")]
    assert len(groups_of(rows)) == 8


def test_the_table_sets_the_best_of_each_group_in_bold():
    rows = [
        {
            "data": "clean",
            "policy": "medium",
            "model": "ensemble",
            "error": {"99": 2.0, "10": 0.1},
            "legal": 0.2,
        },
        {
            "data": "clean",
            "policy": "medium",
            "model": "refined",
            "strength": 0.5,
            "refinement": 2,
            "error": {"10": 0.3, "99": 1.5},
            "legal": 0.84,
            "rollouts": 128,
        },
        {
            "data": "clean",
            "policy": "good",
            "model": "ensemble",
            "error": {"10": 0.2, "99": 9.0},
            "legal": 0.1,
        },
    ]
    html = html_fidelity_table(rows)
    assert re.findall(r"<b>([^<]*)</b>", html) == ["0.100", "1.500", "84%", "0.200", "9.000", "10%"]
    assert html.index("Error at 10") < html.index("Error at 99")
    assert "refined, k = 2 0.5 0.300 1.500 84% 128" in text_of(html)


def test_an_ensemble_repeated_for_each_strength_is_shown_once():
    rows = fake_fidelity(strengths=(0.0, 1.0), policies=("data", "medium"))["rows"]
    assert sum(row["model"] == "ensemble" for row in rows) == 4
    kept = distinct_rows(rows)
    assert [row["policy"] for row in kept if row["model"] == "ensemble"] == ["data", "medium"]
    assert [row for row in kept if row["model"] == "refined"] == [
        row for row in rows if row["model"] == "refined"
    ]
    rows[4]["legal"] += 0.01
    assert sum(row["model"] == "ensemble" for row in distinct_rows(rows)) == 3


def test_a_long_report_shows_one_strength_and_keeps_the_rest_at_hand():
    assert shown_strength(fake_fidelity(strengths=(0.5,))["rows"]) is None
    report = fake_fidelity()
    assert shown_strength(report["rows"]) == 1.0
    assert shown_strength(report["rows"], 0.5) == 0.5
    first, rest = fidelity_chapter(report | {"strength": 0.5}, "0").split("<details>")
    assert first.count('<th scope="row">') == 4 * (1 + 3)
    assert rest.count('<th scope="row">') == 4 * (1 + 3 * 3)
    assert "conditioning strength 0.5" in first


def test_the_verdict_comes_first_and_is_text():
    html = fidelity_chapter(fake_fidelity(policies=("data",)) | {"verdict": ["Trust <it> & go."]}, "0")
    assert html.startswith('<div class="verdict"><p>Trust &lt;it&gt; &amp; go.</p></div>')


@pytest.mark.parametrize("missing", ["rows", "curves", "verdict"])
def test_a_report_without_one_of_its_parts_is_still_shown(missing):
    report = fake_fidelity(policies=("data",))
    del report[missing]
    assert "simulator replays" in fidelity_chapter(report, "0")
