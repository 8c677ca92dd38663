"""The page of a dataset's check: whole in one file, true to the data, safe with any text."""

import re

import numpy as np
import pytest
from test_report_page import Page

from langevin.data.checks import Finding, find
from langevin.data.trajectories import Trajectories
from langevin.envs.collect import make_dataset
from langevin.envs.tasks import get_task
from langevin.errors import UsageError
from langevin.report.data_check import build_check_page, write_check_page
from langevin.report.data_figures import histogram, histogram_sparks, positions_in_maze, saturation


def log(size=3, actions=2, metadata=None):
    """Episodes of 3, 1 and 4 rows."""
    rng = np.random.default_rng(0)
    states = [rng.normal(size=(length + 1, size)) for length in (3, 1, 4)]
    ends = np.array([3, 4, 8])
    truncations = np.zeros(8, bool)
    truncations[ends - 1] = True
    return Trajectories(
        observations=np.concatenate([state[:-1] for state in states]),
        next_observations=np.concatenate([state[1:] for state in states]),
        actions=rng.uniform(-0.9, 0.9, (8, actions)),
        rewards=rng.normal(size=8),
        terminations=np.zeros(8, bool),
        truncations=truncations,
        episode_ends=ends,
        action_low=-np.ones(actions),
        action_high=np.ones(actions),
        metadata=metadata or {},
    )


def page_of(data, task=None, findings=None, name="tank/plant-v0"):
    return build_check_page(data, task, list(find(data)) if findings is None else findings, name)


def words(page):
    return " ".join(" ".join(Page(page).text).split())


@pytest.fixture(scope="module")
def maze():
    data = make_dataset("pointmaze/umaze-v0", 2000, 0, 0.0)
    return data, page_of(data, get_task("pointmaze/umaze"), name="pointmaze/umaze-v0")


def test_the_page_asks_the_network_for_nothing_and_closes_what_it_opens(maze):
    for text in (maze[1], page_of(log())):
        page = Page(text)
        assert page.open == []
        assert len(page.ids) == len(set(page.ids))
        assert all(link.startswith(("#", "data:")) for link in [*page.loaded, *page.links])


def test_warnings_come_first_and_are_counted(maze):
    findings = [Finding("note", "rewards", "a note"), Finding("warning", "actions", "a warning")]
    said = words(page_of(log(), findings=findings))
    assert "1 thing deserves a look before training" in said
    assert said.index("a warning") < said.index("a note")
    assert "nothing found that deserves a second look" in words(page_of(log(), findings=findings[:1]))


def test_numbers_on_the_page_are_the_datas(maze):
    data, text = maze
    said = words(text)
    assert f"2,000 transitions in {data.episodes} episodes" in said
    assert f"truncated by the clock or the log {data.episodes} 100.0%" in said
    low = (data.actions[:, 0] <= -1).mean()
    assert f"{100 * low:.1f}%" in said
    assert "100.00% of the positions lie in free cells" in said


def test_repeated_transitions_and_constant_dimensions_stand_at_the_top():
    blank = Trajectories.blank(2, 1, np.array([-1.0]), np.array([1.0]), 10)
    said = words(page_of(blank))
    assert "Repeated 9 transitions equal an earlier one (90.00%)" in said
    assert "Constant observation 0 · observation 1 · action 0" in said
    assert "always 0" in said


def test_dimensions_carry_the_columns_they_were_imported_from():
    data = log(metadata={"recipe": {"columns": {"observations": ["level", "a<b", "x$1$"], "actions": ["u"]}}})
    said = words(page_of(data))
    assert "a<b" in said
    assert "level" in said
    assert "action 1" in said


def test_any_name_is_text_and_no_markup():
    text = page_of(log(metadata={"notes": ["<script>alert(1)</script>"]}), name="<b>&amp;</b>-v0")
    assert "<script>alert" not in text
    assert "<b>&amp;</b>-v0" in words(text)


def test_many_dimensions_are_shown_in_part_and_it_is_said():
    html = histogram_sparks(np.random.default_rng(0).normal(size=(20, 60)), [f"x{i}" for i in range(60)])
    assert html.count('class="spark"') == 48
    assert "The first 48 of 60" in html


def heights(axes):
    return np.array([patch.get_height() for patch in axes.patches])


@pytest.mark.parametrize(
    "values", [np.array([3.0, 3.0]), np.array([1, 2, 2, 700]), np.linspace(0, 1, 100), np.array([5])]
)
def test_a_histogram_counts_every_episode(values):
    (axes,) = histogram(values, "steps").axes
    assert heights(axes).sum() == len(values)


def test_marks_far_from_the_values_are_left_out():
    (axes,) = histogram(np.linspace(0, 10, 30), "return", {"random": 5.0, "expert": 4000.0}).axes
    assert [text.get_text() for text in axes.texts] == ["random"]


def test_saturation_bars_are_the_shares():
    (axes,) = saturation(np.array([0.25, 0.0]), np.array([0.5, 0.1]), ["u", "v"]).axes
    assert [patch.get_width() for patch in axes.patches] == pytest.approx([-25, 0, 50, 10])


def test_the_map_of_a_maze_counts_positions_where_they_are():
    maze = get_task("pointmaze/umaze").maze
    figure = positions_in_maze(maze, np.array([[1.02, 0.98]] * 3 + [[-1.0, -1.0]]))
    counts = np.ma.filled(figure.axes[0].images[1].get_array(), 0)
    assert (counts.max(), counts.sum()) == (3, 4)
    row, column = np.unravel_index(int(counts.argmax()), counts.shape)
    assert row > counts.shape[0] / 2
    assert column > counts.shape[1] / 2


def test_a_page_replaces_a_page_and_never_a_folder(tmp_path):
    (tmp_path / "check.html").write_text("old")
    write_check_page(log(), None, [], tmp_path / "check.html", "a-v0")
    assert re.match("<!doctype html>", (tmp_path / "check.html").read_text())
    with pytest.raises(UsageError, match="is a folder"):
        write_check_page(log(), None, [], tmp_path, "a-v0")
    with pytest.raises(UsageError, match="does not exist"):
        write_check_page(log(), None, [], tmp_path / "no" / "check.html", "a-v0")
