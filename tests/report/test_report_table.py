"""The table of results, in the terminal and on the page."""

import json
import re
import xml.etree.ElementTree as ElementTree

import pytest
from fake_runs import fake_run
from rich.console import Console

from langevin.report.style import series_style
from langevin.report.table import (
    duration,
    html_results_table,
    html_strip,
    interval,
    number,
    print_results,
    rate,
    results_table,
    score_span,
    text_strip,
)


@pytest.fixture
def summaries(tmp_path):
    names = ("bc", "td3bc", "dydiff", "diffuser")
    return [
        json.loads((fake_run(tmp_path / name, name, points=1) / "summary.json").read_text()) for name in names
    ]


def printed(summaries, width: int) -> list[str]:
    console = Console(width=width, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    print_results(summaries, console)
    return console.export_text().splitlines()


@pytest.mark.parametrize("width", [80, 100, 140])
def test_every_run_is_one_line_that_fits_the_terminal(summaries, width):
    lines = printed(summaries, width)
    for summary, line in zip(summaries, lines[1:5], strict=True):
        scores = summary["normalized_score"]
        assert line.startswith(summary["label"])
        assert number(scores["iqm"]) in line
        assert interval(scores["ci95"]) in line
        assert "3 \N{MULTIPLICATION SIGN} 50" in line
        assert "small" in line
    assert all(len(line.rstrip()) <= width for line in lines)
    assert ("updates/s" in lines[0]) == (width == 140)


def test_a_full_scale_run_is_not_called_small(summaries):
    summaries[0]["preset"] = "paper"
    lines = printed(summaries[:1], 80)
    assert not any("small" in line for line in lines)
    assert "small scale" not in html_results_table(summaries[:1])


def test_datasets_have_a_table_each(summaries):
    summaries[3]["dataset"] = "pointmaze/medium-v0"
    lines = [line.strip() for line in printed(summaries, 80)]
    assert lines.count("pointmaze/medium-v0") == 1
    assert lines.count("pointmaze/umaze-v0") == 1


def test_a_label_in_brackets_is_not_taken_for_markup(summaries):
    summaries[0]["label"] = "[bold]BC[/bold]"
    assert printed(summaries[:1], 100)[1].startswith("[bold]BC[/bold]")
    assert results_table(summaries).row_count == 4


def test_the_text_strip_puts_marks_where_the_scores_are():
    scores = {"iqm": 50.0, "ci95": [20.0, 80.0], "per_seed": [20.0, 80.0]}
    strip = text_strip(scores, (0.0, 100.0), width=10)
    assert strip == "┊ •──◆──•┊"
    assert (
        text_strip(scores | {"ci95": [None, None], "per_seed": [50.0]}, (0.0, 100.0), width=10)
        == "┊    ◆   ┊"
    )


def test_the_drawn_strip_is_to_scale():
    scores = {"iqm": 50.0, "ci95": [20.0, 80.0], "per_seed": [20.0, 50.0, 80.0]}
    svg = ElementTree.fromstring(html_strip(scores, (0.0, 100.0), series_style(0)))
    width = float(svg.attrib["viewBox"].split()[2])
    circles = [float(circle.attrib["cx"]) / width for circle in svg.iter("circle")]
    assert circles == pytest.approx([0.2, 0.5, 0.8])
    bar = next(line for line in svg.iter("line") if "stroke-opacity" in line.attrib)
    assert (float(bar.attrib["x1"]) / width, float(bar.attrib["x2"]) / width) == pytest.approx((0.2, 0.8))


def test_the_axis_holds_every_seed_and_both_references(summaries):
    summaries[0]["normalized_score"]["per_seed"] = [-30.0, 160.0]
    low, high = score_span(summaries)
    assert low < -30
    assert high > 160
    low, high = score_span([{"normalized_score": {"per_seed": [50.0]}}])
    assert low < 0 < 100 < high


def test_the_page_says_small_scale_beside_the_number(summaries):
    html = html_results_table(summaries)
    for summary in summaries:
        score = number(summary["normalized_score"]["iqm"])
        assert re.search(rf'<b>{re.escape(score)}</b><span class="mark"[^>]*>small scale</span>', html)


def test_labels_are_escaped_on_the_page(summaries):
    summaries[0]["label"] = "<script>alert(1)</script>"
    assert "<script>" not in html_results_table(summaries)


def test_one_seed_says_that_it_has_no_interval():
    assert interval([None, None]) == "one seed: none"
    assert interval([1, 2.5]) == "[1.0, 2.5]"


def test_numbers_are_written_for_readers():
    assert number(-7.25, 1) == "\N{MINUS SIGN}7.2"
    assert number(-0.04) == "0.0"
    assert number(12345.6, 0) == "12,346"
    assert number(None) == rate(None) == duration(None) == "\N{EN DASH}"
    assert (rate(24.61), rate(1210)) == ("24.6", "1,210")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(41, "41 s"), (59.6, "1 min 00 s"), (173, "2 min 53 s"), (3599.7, "1 h 00 min"), (7260, "2 h 01 min")],
)
def test_durations_carry_over(seconds, text):
    assert duration(seconds) == text
