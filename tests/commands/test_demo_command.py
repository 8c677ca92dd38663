"""`langevin demo`: what is finished is kept, and one page comes out."""

import json
import shutil

from tiny_runs import ID, SETTINGS, contents

from langevin.cli import run
from langevin.experiments import demo


def test_finished_runs_are_kept_and_shown_on_one_page(workshop, at_work, monkeypatch, capsys):
    """All four were finished before: nothing is trained, and the page and its table are made of them."""
    out = at_work / "demo"
    shutil.copytree(workshop, out)
    before = contents(out)
    monkeypatch.setattr(demo, "run", None)
    measured = {"verdict": ["Under the data's own actions the ensemble is right."]}
    monkeypatch.setattr(demo, "demo_fidelity", lambda *arguments: measured)
    assert run(["demo", "--out", str(out), "--dataset", ID, "--json"]) == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert [summary["algorithm"] for summary in result["summaries"]] == list(SETTINGS)
    assert result["verdict"] == measured["verdict"]
    page = out / "report.html"
    assert result["report"] == str(page)
    assert "TD3+BC + DyDiff" in page.read_text()
    for label in ("BC", "TD3+BC", "TD3+BC + DyDiff", "Diffuser"):
        assert f"{label}: already in" in printed.err
    after = contents(out)
    assert {name: after[name] for name in before} == before
