"""Trackers are told the right names and steps, and a missing one says how to install it."""

import sys
import types

import pytest

from langevin.errors import UsageError
from langevin.training.metrics import JsonLines, NoMetrics, TensorBoard, WeightsAndBiases, read_metrics

RECORD = {"stage": "policy", "step": 10, "seed": 3, "seconds": 1.0, "critic/loss": 0.5, "event": "stopped"}


@pytest.mark.parametrize(("module", "make"), [("tensorboardX", TensorBoard), ("wandb", WeightsAndBiases)])
def test_a_tracker_that_is_not_installed_says_what_to_install(module, make, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        UsageError, match=rf"needs {module}; install it with: pip install 'langevin\[track\]'"
    ):
        make("place")


def test_tensorboard_gets_each_number_under_stage_and_seed(monkeypatch):
    calls = []
    writer = types.SimpleNamespace(
        add_scalar=lambda *call: calls.append(call), flush=lambda: None, close=lambda: None
    )
    fake = types.SimpleNamespace(SummaryWriter=lambda folder: writer)
    monkeypatch.setitem(sys.modules, "tensorboardX", fake)
    board = TensorBoard("somewhere")
    board.write(RECORD)
    board.close()
    assert calls == [("policy/seed-3/critic/loss", 0.5, 10)]


def test_weights_and_biases_gets_each_number_over_the_stage_step(monkeypatch):
    calls = []
    run = types.SimpleNamespace(log=calls.append, finish=lambda: calls.append("finished"))
    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=lambda **settings: run))
    tracker = WeightsAndBiases("project")
    tracker.write(RECORD)
    tracker.close()
    assert calls == [{"policy/seed-3/critic/loss": 0.5, "policy/step": 10}, "finished"]


def test_the_default_does_nothing():
    writer = NoMetrics()
    writer.write(RECORD)
    writer.flush()
    writer.close()


def test_lines_are_durable_after_flush_and_a_broken_one_is_named(tmp_path):
    path = tmp_path / "metrics.jsonl"
    writer = JsonLines(path)
    writer.write(RECORD)
    writer.flush()
    assert read_metrics(path) == [RECORD]
    writer.close()
    path.write_text("{}\n[1, 2\n{}\n")
    with pytest.raises(UsageError, match="line 2"):
        read_metrics(path)
    with pytest.raises(UsageError, match="does not exist"):
        read_metrics(tmp_path / "none.jsonl")
