"""The table of learners: what is finished is kept, and a cell says its interval."""

import dataclasses
import json

import numpy as np
import pytest

from langevin.errors import UsageError
from langevin.experiments import learner_table
from langevin.experiments.learner_table import DATASETS, LearnerTable, score
from langevin.report.learner_scores import learner_scores


def summary(value, steps=5):
    score = {"iqm": value, "ci95": [value - 1, value + 1]}
    return {"steps": steps, "seeds": [0, 1, 2], "episodes": 50, "normalized_score": score}


def write(folder, value, steps=5):
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps(summary(value, steps)))


def test_it_trains_what_is_missing_and_nothing_twice(tmp_path, monkeypatch):
    asked = []

    def fake(request, progress):
        asked.append((request.algorithm, request.dataset, dict(request.overrides)))
        write(request.out, 10.0)

    monkeypatch.setattr(learner_table, "run", fake)
    job = LearnerTable(learners=("bc", "bc-10%"), datasets=("hopper/medium-v0",), steps=5, out=tmp_path)
    job.run()
    assert asked == [
        ("bc", "hopper/medium-v0", {"steps": 5}),
        ("bc", "hopper/medium-v0", {"steps": 5, "best_share": 0.1}),
    ]
    job.run()
    assert len(asked) == 2
    lines = (tmp_path / "learners.md").read_text().splitlines()
    assert lines[0] == "| dataset | bc | bc-10% |"
    assert lines[2] == "| hopper/medium-v0 | 10.0 [9.0, 11.0] | 10.0 [9.0, 11.0] |"


def test_a_setting_is_changed_in_every_learner_named(tmp_path, monkeypatch):
    asked = []

    def fake(request, progress):
        asked.append(dict(request.overrides))
        write(request.out, 1.0)

    monkeypatch.setattr(learner_table, "run", fake)
    LearnerTable(
        ("bc", "iql"), ("hopper/medium-v0",), steps=5, out=tmp_path, set=("learner.width=128",)
    ).run()
    assert asked == [{"steps": 5, "learner.width": 128}] * 2


def test_the_table_is_of_all_that_is_finished_in_the_order_of_the_defaults(tmp_path):
    write(tmp_path / "iql" / "hopper" / "medium-v0", 3.0)
    write(tmp_path / "bc" / "hopper" / "random-v0", 1.0)
    write(tmp_path / "bc" / "hopper" / "medium-v0", 2.0)
    LearnerTable(("bc",), ("hopper/random-v0",), steps=5, out=tmp_path).run()
    lines = (tmp_path / "learners.md").read_text().splitlines()
    assert lines == [
        "| dataset | bc | iql |",
        "| --- | ---: | ---: |",
        "| hopper/random-v0 | 1.0 [0.0, 2.0] |  |",
        "| hopper/medium-v0 | 2.0 [1.0, 3.0] | 3.0 [2.0, 4.0] |",
    ]


def test_without_steps_each_learner_has_its_presets_and_its_line_says_how_many(tmp_path, monkeypatch):
    asked = []

    def fake(request, progress):
        asked.append(dict(request.overrides))
        write(request.out, 4.0, steps=25_000)

    monkeypatch.setattr(learner_table, "run", fake)
    write(tmp_path / "bc" / "hopper" / "random-v0", 1.0, steps=7)
    LearnerTable(("bc", "sac"), ("hopper/random-v0",), steps=None, out=tmp_path).run()
    assert asked == [{}]
    assert (tmp_path / "learners.md").read_text().splitlines() == [
        "| learner | gradient steps | hopper/random-v0 |",
        "| --- | ---: | ---: |",
        "| bc | 7 | 1.0 [0.0, 2.0] |",
        "| sac | 25,000 | 4.0 [3.0, 5.0] |",
    ]


def test_a_finished_run_at_another_budget_is_not_taken_for_this_one(tmp_path):
    write(tmp_path / "bc" / "hopper" / "random-v0", 1.0, steps=7)
    with pytest.raises(
        UsageError, match=r"holds a run of steps 7, and 5 were asked for; choose another --out"
    ):
        LearnerTable(("bc",), ("hopper/random-v0",), steps=5, out=tmp_path).run()


def test_what_was_measured_elsewhere_is_kept_and_not_trained_again(tmp_path, monkeypatch):
    write(tmp_path / "old" / "iql" / "hopper" / "medium-v0", 3.0)
    LearnerTable(("iql",), ("hopper/medium-v0",), steps=5, out=tmp_path / "old").run()
    asked = []

    def fake(request, progress):
        asked.append((request.algorithm, request.dataset))
        write(request.out, 1.0)

    monkeypatch.setattr(learner_table, "run", fake)
    job = LearnerTable(
        ("bc", "iql"),
        ("hopper/medium-v0",),
        steps=5,
        out=tmp_path / "new",
        known=tmp_path / "old" / "learners.json",
    )
    job.run()
    assert asked == [("bc", "hopper/medium-v0")]
    line = (tmp_path / "new" / "learners.md").read_text().splitlines()[2]
    assert line == "| hopper/medium-v0 | 1.0 [0.0, 2.0] | 3.0 [2.0, 4.0] |"
    with pytest.raises(
        UsageError, match=r"learners.json holds iql on hopper/medium-v0 of steps 5, and 6 were asked"
    ):
        dataclasses.replace(job, steps=6, out=tmp_path / "other").run()


@pytest.mark.parametrize(("text", "words"), [(None, "cannot be read"), ("{", "is not valid JSON")])
def test_a_known_table_that_cannot_be_read_is_refused_before_any_training(tmp_path, text, words):
    path = tmp_path / "learners.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=words):
        LearnerTable(out=tmp_path / "out", known=path).run()
    assert not (tmp_path / "out").exists()


def published(folder, scores):
    path = folder / "published.json"
    path.write_text(json.dumps({"scores": scores}))
    return path


def test_what_others_report_stands_below_the_dataset(tmp_path):
    write(tmp_path / "bc" / "hopper" / "medium-v0", 2.0)
    write(tmp_path / "iql" / "hopper" / "medium-v0", 3.0)
    write(tmp_path / "bc" / "hopper" / "random-v0", 1.0)
    path = published(
        tmp_path, {"iql": {"hopper/medium-v0": [67.53, 3.78]}, "dt": {"hopper/random-v0": [1, 1]}}
    )
    LearnerTable(("bc",), ("hopper/medium-v0",), steps=5, out=tmp_path, published=path).run()
    assert (tmp_path / "learners.md").read_text().splitlines()[2:] == [
        "| hopper/random-v0 | 1.0 [0.0, 2.0] |  |",
        "| hopper/medium-v0 | 2.0 [1.0, 3.0] | 3.0 [2.0, 4.0] |",
        "| *published* |  | 67.5 ± 3.8 |",
    ]


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"iql": {}}, r'must hold \{"scores": \{learner'),
        ({"scores": {"iql": [1, 2]}}, r'must hold \{"scores": \{learner'),
        (
            {"scores": {"iql": {"hopper/medium-v0": 3.0}}},
            r"iql on hopper/medium-v0 is 3.0, and must be \[mean",
        ),
        ({"scores": {"iql": {"hopper/medium-v0": [3.0, "1"]}}}, r"is \[3.0, '1'\], and must be \[mean"),
    ],
)
def test_what_is_no_file_of_published_scores_is_refused_before_any_training(tmp_path, found, words):
    path = tmp_path / "published.json"
    path.write_text(json.dumps(found))
    with pytest.raises(UsageError, match=words):
        LearnerTable(out=tmp_path / "out", published=path).run()
    assert not (tmp_path / "out").exists()


def test_the_picture_has_a_mark_for_each_score_and_a_hollow_one_for_each_published(tmp_path):
    cells = {"bc": {"hopper/medium-v0": summary(2.0), "pointmaze/umaze-v0": summary(9.0)}, "iql": {}}
    figure = learner_scores(
        cells, ["hopper/medium-v0", "pointmaze/umaze-v0"], {"iql": {"hopper/medium-v0": (67.5, 4)}}
    )
    hopper, maze = figure.axes
    drawn = [
        [(np.asarray(line.get_xdata()).tolist(), line.get_fillstyle()) for line in ax.lines]
        for ax in (hopper, maze)
    ]
    assert drawn[0] == [([2.0], "full"), ([1.0, 3.0], "full"), ([67.5], "none")]
    assert drawn[1] == [([9.0], "full"), ([8.0, 10.0], "full")]
    assert [label.get_text() for label in maze.get_yticklabels()] == ["umaze"]


def test_a_cell_that_is_not_there_is_empty():
    assert score(None) == ""


def test_the_datasets_are_the_twelve_of_the_robots_and_three_mazes():
    assert len(DATASETS) == 15
    assert len(set(DATASETS)) == 15


@pytest.mark.parametrize("bad", [{"seeds": 1}, {"learners": ("nope",)}, {"learners": ()}, {"datasets": ()}])
def test_what_makes_no_table_is_refused(bad, tmp_path):
    with pytest.raises(UsageError):
        LearnerTable(out=tmp_path, **bad).run()
