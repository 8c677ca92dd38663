"""The table of learners: what is finished is kept, and a cell says its interval."""

import json

import pytest

from langevin.errors import UsageError
from langevin.experiments import learner_table
from langevin.experiments.learner_table import DATASETS, LearnerTable, score, table


def summary(value):
    return {"normalized_score": {"iqm": value, "ci95": [value - 1, value + 1]}}


def test_it_trains_what_is_missing_and_nothing_twice(tmp_path, monkeypatch):
    asked = []

    def fake(request, progress):
        asked.append((request.algorithm, request.dataset, dict(request.overrides)))
        request.out.mkdir(parents=True)
        (request.out / "summary.json").write_text(json.dumps(summary(10.0)))
        return summary(10.0)

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


def test_a_cell_that_is_not_there_is_empty():
    assert score(None) == ""
    assert table({"bc": {}}, ("hopper/medium-v0",)).endswith("| hopper/medium-v0 |  |\n")


def test_the_datasets_are_the_twelve_of_the_robots_and_three_mazes():
    assert len(DATASETS) == 15
    assert len(set(DATASETS)) == 15


@pytest.mark.parametrize("bad", [{"seeds": 1}, {"learners": ("nope",)}])
def test_what_makes_no_table_is_refused(bad, tmp_path):
    with pytest.raises(UsageError):
        LearnerTable(out=tmp_path, **bad).run()
