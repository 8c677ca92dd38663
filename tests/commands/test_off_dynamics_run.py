"""The off-dynamics planner from the command line: two datasets in, one run folder out, and its slider."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_runs import EPISODES, ID, contents

from langevin import load_policy
from langevin.cli import run
from langevin.report.runs import read_run

TARGET = "pointmaze/medium-v0"
SMALL = [
    "steps=10", "classifier_steps=10", "inverse_steps=10", "planner.width=8", "planner.multipliers=[1]",
    "planner.kernel=3", "planner.horizon=4", "planner.batch_size=4", "planner.chain.steps=2", "sampling.steps=2",
    "classifier.width=8", "inverse.width=8",
]  # fmt: skip


def arguments(out, *more):
    words = (
        f"train off_dynamics --dataset {ID} --target-dataset {TARGET} --seeds 2 --episodes {EPISODES}".split()
    )
    return [*words, "--out", str(out), *(word for setting in SMALL for word in ("--set", setting)), *more]


@pytest.fixture(scope="module")
def trained(dataset, target_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("off_dynamics") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(dataset))
        assert run(arguments(folder)) == 0
    return folder


@pytest.fixture
def folder(trained, at_work):
    return Path(shutil.copytree(trained, at_work / "run"))


def test_the_policy_is_for_the_targets_task_and_the_report_shows_the_contexts(folder):
    found = read_run(folder)
    assert (found.summary["dataset"], found.summary["target_dataset"]) == (ID, TARGET)
    assert found.summary["task"] == "pointmaze/medium"
    assert f"--target-dataset {TARGET}" in found.config["command"]
    picture = next(picture for picture in found.pictures if picture.path.name == "contexts.png")
    assert "of the scores are at an end" in picture.caption
    assert any("contexts/saturated" in record for record in found.metrics)


def test_it_is_evaluated_as_it_was_and_told_otherwise_without_a_trace(folder, capsys):
    summary = json.loads((folder / "summary.json").read_text())
    before = contents(folder)
    command = ["evaluate", str(folder), "--episodes", str(EPISODES), "--json"]
    assert run([*command, "--contexts", "return=1", "dynamics=0.5", "inverse=0"]) == 0
    assert contents(folder) == before
    capsys.readouterr()
    assert run(command) == 0
    assert json.loads(capsys.readouterr().out)["return"] == summary["return"]


def test_a_controller_that_is_told_otherwise_acts_otherwise(folder):
    observation = np.zeros(4, np.float32)
    told = (None, {"return": 1.0}, {"dynamics": -1.0})
    own, same, other = (load_policy(folder, contexts=contexts).act(observation) for contexts in told)
    np.testing.assert_array_equal(own, same)
    assert not np.array_equal(own, other)


def test_a_finished_run_is_resumed_with_its_own_settings_alone(folder, target_data, capsys):
    before = (folder / "summary.json").read_text()
    assert run(arguments(folder, "--resume")) == 0
    assert json.loads(before)["return"] == json.loads((folder / "summary.json").read_text())["return"]
    capsys.readouterr()
    assert run(arguments(folder, "--resume", "--set", "epsilon=0.01")) == 2
    assert "settings.epsilon = 0.001, not 0.01" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "off_dynamics learns from a source and a target: name the target's data too (--target-dataset)"),
        (["--target-dataset", TARGET, "--dara"], "learns from both datasets by itself"),
        (["--finetune-on", TARGET], "learns from both datasets by itself"),
        (["--target-dataset", TARGET, "--set", "contexts=[]"], "contexts must name at least one"),
        (["--target-dataset", TARGET, "--set", 'contexts=["reward"]'], "must be one of return, dynamics"),
    ],
)
def test_what_cannot_be_trained_is_said_in_a_sentence(at_work, target_data, given, message, capsys):
    assert run(["train", "off_dynamics", "--dataset", ID, "--out", "out", *given]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--contexts", "dynamics=2"], "context dynamics lies between -1 and 1, got 2.0"),
        (["--contexts", "mass=1"], "is told return, dynamics, inverse, and nothing called 'mass'"),
        (["--contexts", "dynamics"], "--contexts takes NAME=VALUE with a number, got 'dynamics'"),
        (["--contexts", "dynamics=high"], "--contexts takes NAME=VALUE with a number"),
        (
            ["--contexts", "dynamics=1", "--fqe"],
            "--task, --sample and --contexts are for the real environment",
        ),
    ],
)
def test_what_the_slider_cannot_do_is_said_in_a_sentence(folder, given, message, capsys):
    before = contents(folder)
    assert run(["evaluate", str(folder), *given]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert contents(folder) == before


def test_a_run_that_is_told_nothing_has_no_slider(at_work, capsys):
    words = f"train bc --dataset {ID} --seeds 1 --episodes {EPISODES} --out bc"
    assert run([*words.split(), "--set", "steps=5", "--set", "learner.width=8"]) == 0
    assert run(["evaluate", "bc", "--contexts", "return=1"]) == 2
    assert "this policy is told no contexts" in " ".join(capsys.readouterr().err.split())
