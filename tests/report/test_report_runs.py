"""Reading run folders, and what is said of broken ones."""

import json

import pytest
from fake_runs import fake_fidelity, fake_run

from langevin.errors import UsageError
from langevin.report.runs import check_fidelity, read_run, read_runs


def test_a_run_is_read_whole(tmp_path):
    folder = fake_run(tmp_path / "run", "dydiff", seeds=3, points=4)
    (folder / "figures").mkdir()
    (folder / "figures" / "a_b.png").write_bytes(b"")
    (folder / "figures" / "c.png").write_bytes(b"")
    (folder / "figures" / "captions.json").write_text('{"c.png": "What c shows.", "gone.png": "?"}')
    run = read_run(folder)
    assert (run.label, run.dataset, run.seeds, run.preset) == (
        "TD3+BC + DyDiff",
        "pointmaze/umaze-v0",
        3,
        "cpu",
    )
    assert len(run.metrics) == 4 * 3 * 2
    assert run.config["commit"] == "0123456789abcdef0123"
    assert [picture.caption for picture in run.pictures] == ["What c shows.", "A b"]
    assert run.fidelity is None


def test_a_folder_of_runs_stands_for_all_of_them_once(tmp_path):
    for name in ("b", "a"):
        fake_run(tmp_path / name, name)
    assert [run.label for run in read_runs([tmp_path])] == ["a", "b"]
    assert [run.label for run in read_runs([tmp_path / "b", tmp_path])] == ["b", "a"]


def test_runs_that_share_a_label_are_told_apart_by_folder(tmp_path):
    for name in ("strong", "weak"):
        fake_run(tmp_path / name, "dydiff")
    fake_run(tmp_path / "other", "dydiff", dataset="pointmaze/medium-v0")
    labels = [run.label for run in read_runs([tmp_path])]
    assert labels == ["TD3+BC + DyDiff", "TD3+BC + DyDiff (strong)", "TD3+BC + DyDiff (weak)"]


def test_the_preset_may_stand_in_the_configuration_alone(tmp_path):
    folder = fake_run(tmp_path / "run")
    summary = json.loads((folder / "summary.json").read_text())
    del summary["preset"]
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "config.toml").write_text('preset = "paper"')
    assert read_run(folder).preset == "paper"


def test_folders_that_are_no_runs(tmp_path):
    with pytest.raises(UsageError, match="nowhere is not a folder"):
        read_runs([tmp_path / "nowhere"])
    with pytest.raises(UsageError, match="not a run folder"):
        read_runs([tmp_path])
    (tmp_path / "config.toml").write_text("")
    with pytest.raises(UsageError, match=r"the run has not ended; finish it with --resume"):
        read_runs([tmp_path])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("summary.json", "{", r"summary\.json is not valid JSON"),
        ("summary.json", "[1]", r"summary\.json holds list, not an object"),
        ("summary.json", "\x00\xff", r"summary\.json is not valid JSON"),
        ("config.toml", "a = ", r"config\.toml is not valid TOML"),
        ("fidelity.json", '{"rows": 3}', r"fidelity\.json: `rows` should be a list, got 3"),
        ("fidelity.json", '{"rows": [{}]}', r"fidelity\.json: `rows\[0\]` should be an object with"),
    ],
)
def test_a_broken_file_is_named(tmp_path, name, content, message):
    folder = fake_run(tmp_path / "run")
    (folder / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(UsageError, match=message):
        read_run(folder)


def test_a_broken_line_of_metrics_is_named(tmp_path):
    folder = fake_run(tmp_path / "run", points=2, seeds=1)
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join([*lines[:2], '{"stage": \n', *lines[2:]]))
    with pytest.raises(UsageError, match=r"metrics\.jsonl, line 3,? is not a JSON object"):
        read_run(folder)


def test_a_last_line_still_being_written_is_left_out(tmp_path):
    folder = fake_run(tmp_path / "run", points=2, seeds=1)
    whole = read_run(folder).metrics
    with open(folder / "metrics.jsonl", "a") as lines:
        lines.write('{"stage": "pol')
    assert read_run(folder).metrics == whole


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": None}, "`dataset` should be a string, got nothing"),
        ({"return": None}, "`return` should be an object"),
        ({"wall_seconds": "long"}, "`wall_seconds` should be a number, got 'long'"),
        ({"normalized_score": {"mean": 1, "iqm": "high"}}, r"`normalized_score\.iqm` should be a number"),
        (
            {"normalized_score": {"mean": 1, "iqm": 1, "per_seed": []}},
            r"`normalized_score\.per_seed` should be",
        ),
        (
            {"normalized_score": {"mean": 1, "iqm": 1, "per_seed": [1], "ci95": [1]}},
            r"`normalized_score\.ci95` should be \[low, high\]",
        ),
    ],
)
def test_a_broken_field_of_the_summary_is_named(tmp_path, change, message):
    folder = fake_run(tmp_path / "run")
    summary = json.loads((folder / "summary.json").read_text()) | change
    (folder / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(UsageError, match=message):
        read_run(folder)


@pytest.mark.parametrize(
    ("place", "change", "message"),
    [
        ("rows", {"strength": "much"}, r"rows\[1\]\.strength"),
        ("rows", {"refinement": None}, r"rows\[1\]\.refinement"),
        ("rows", {"error": {"ten": 1.0}}, r"rows\[1\]\.error"),
        ("curves", {"error_by_step": []}, r"curves\[1\]\.error_by_step"),
        ("curves", {"low": [1.0]}, r"curves\[1\]\.low.* a list of 100 numbers"),
    ],
)
def test_a_broken_part_of_the_fidelity_report_is_named(place, change, message):
    report = fake_fidelity()
    check_fidelity(report, "fidelity.json")
    report[place][1] |= change
    with pytest.raises(UsageError, match=message):
        check_fidelity(report, "fidelity.json")


def test_a_stopped_seed_is_found(tmp_path):
    folder = fake_run(tmp_path / "run", points=2)
    stop = {
        "stage": "policy",
        "step": 7,
        "seed": 1,
        "event": "stopped",
        "reason": "critic/loss is not finite",
    }
    with open(folder / "metrics.jsonl", "a") as lines:
        lines.write(json.dumps(stop) + "\n")
    assert read_run(folder).stopped == [stop]
