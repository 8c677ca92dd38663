"""A run killed at any moment and resumed ends bit-identical to one never stopped."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import equinox as eqx
import jax
import pytest
from toy_stages import evaluate, toy_data, toy_stages

from langevin.errors import UsageError
from langevin.training.loop import train
from langevin.training.metrics import JsonLines, read_metrics
from langevin.training.results import load_results

HERE = Path(__file__).parent
STEPS = 400
SETTINGS = {"chunk_steps": 10, "evaluate": evaluate, "evaluate_every": 20}


@pytest.fixture(scope="module")
def never_stopped(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "never_stopped"
    train(toy_stages(STEPS), toy_data(), [0, 3], folder, **SETTINGS)
    return folder


def records(folder):
    return [{**record, "seconds": None} for record in read_metrics(folder / "metrics.jsonl")]


def states(folder):
    return {path.parent.name: path.read_bytes() for path in sorted(folder.glob("checkpoints/*/state.eqx"))}


def start(folder):
    environment = os.environ | {"PYTHONPATH": str(HERE.parent.parent)}
    command = [sys.executable, str(HERE / "resumable_run.py"), str(folder), str(STEPS)]
    return subprocess.Popen(command, env=environment)


def size(path):
    return path.stat().st_size if path.exists() else 0


def test_killed_at_random_moments(never_stopped, tmp_path):
    folder, moments = tmp_path / "killed", random.Random(0)
    metrics = folder / "metrics.jsonl"
    for _ in range(4):
        process = start(folder)
        # Wait for progress, not for time alone, so that a slow machine is killed as deep into the run.
        goal = size(metrics) + moments.randrange(1, 5000)
        while size(metrics) < goal and process.poll() is None:
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.02))
        assert process.poll() is None, "the run ended before it was killed: make it longer"
        process.kill()
        process.wait()
    assert start(folder).wait() == 0
    assert states(folder) == states(never_stopped)
    assert records(folder) == records(never_stopped)
    assert not list(folder.glob("checkpoints/.unfinished-*"))


def test_resuming_a_finished_run_changes_nothing(never_stopped):
    before = {path: path.read_bytes() for path in never_stopped.rglob("*") if path.is_file()}
    result = train(toy_stages(STEPS), toy_data(), [0, 3], never_stopped, resume=True, **SETTINGS)
    assert {path: path.read_bytes() for path in never_stopped.rglob("*") if path.is_file()} == before
    saved = load_results(never_stopped, toy_stages(STEPS), toy_data(), [0, 3])
    assert eqx.tree_equal(result.states, saved.states)
    assert saved.seconds == result.seconds > 0
    assert saved.updates_per_second > 0


def test_results_load_from_shapes_alone_and_give_policies(never_stopped):
    shapes = jax.eval_shape(toy_data)
    saved = load_results(never_stopped, toy_stages(STEPS), shapes, [0, 3])
    last = [r for r in read_metrics(never_stopped / "metrics.jsonl") if "evaluation/return" in r][-2:]
    scores = evaluate(saved.policies(toy_stages(STEPS)), "policy", STEPS)
    assert [score["evaluation/return"] for score in scores] == [r["evaluation/return"] for r in last]


def test_another_plan_is_refused_and_nothing_is_lost(never_stopped):
    before = states(never_stopped)
    with pytest.raises(UsageError, match="already holds a run"):
        train(toy_stages(STEPS), toy_data(), [0, 3], never_stopped, **SETTINGS)
    with pytest.raises(UsageError, match=r"has seeds \[0, 3\], not \[0, 4\]"):
        train(toy_stages(STEPS), toy_data(), [0, 4], never_stopped, resume=True, **SETTINGS)
    with pytest.raises(UsageError, match="has stages"):
        train(toy_stages(STEPS + 1), toy_data(), [0, 3], never_stopped, resume=True, **SETTINGS)
    with pytest.raises(UsageError, match="has seeds"):
        load_results(never_stopped, toy_stages(STEPS), toy_data(), [0])
    assert states(never_stopped) == before


def test_metrics_written_after_the_checkpoint_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    writer = JsonLines(path)
    writer.write({"step": 1})
    writer.flush()
    kept = writer.size
    writer.write({"step": 2})
    writer.close()
    with open(path, "ab") as file:
        file.write(b'{"step": 3, "cut o')
    assert [record["step"] for record in read_metrics(path)] == [1, 2]
    again = JsonLines(path, keep_bytes=kept)
    again.write({"step": 4, "loss": float("nan")})
    again.close()
    assert path.read_text() == '{"step": 1}\n{"step": 4, "loss": null}\n'
