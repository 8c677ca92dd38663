"""`langevin report`: arguments, result, errors."""

import json
from pathlib import Path

import pytest
import tyro
from fake_runs import fake_run

from langevin.commands.report import Report
from langevin.errors import UsageError


def test_runs_and_output_are_read_from_the_command_line():
    command = tyro.cli(Report, args=["runs/a", "runs/b", "-o", "page.html", "--title", "Mine"])
    assert command == Report(runs=(Path("runs/a"), Path("runs/b")), out=Path("page.html"), title="Mine")


def test_the_report_is_written_and_its_place_is_said(tmp_path, capsys):
    for name in ("bc", "td3bc"):
        fake_run(tmp_path / "runs" / name, name, points=2)
    out = tmp_path / "page.html"
    result = Report(runs=(tmp_path / "runs",), out=out).run()
    assert result["bytes"] == out.stat().st_size
    assert [run["label"] for run in result["runs"]] == ["BC", "TD3+BC"]
    said = capsys.readouterr().out
    assert "TD3+BC" in said
    assert str(out) in said.replace("\n", "")


def test_json_prints_one_object_and_nothing_else(tmp_path, capsys):
    folder = fake_run(tmp_path / "bc", "bc", points=2)
    result = Report(runs=(folder,), out=tmp_path / "page.html", json=True).run()
    assert json.loads(capsys.readouterr().out) == result


def test_a_wrong_folder_is_a_usage_error_and_writes_nothing(tmp_path):
    with pytest.raises(UsageError, match="is not a folder"):
        Report(runs=(tmp_path / "missing",), out=tmp_path / "page.html").run()
    assert list(tmp_path.iterdir()) == []
