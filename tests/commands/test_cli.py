"""The command line's contract: exit codes, one sentence for an error, help with examples, nothing half done."""

import contextlib
import json
import re
import warnings
from dataclasses import dataclass

import pytest

import langevin
from langevin import cli
from langevin.cli import COMMANDS, run
from langevin.errors import LangevinError

ID = "pointmaze/umaze-v0"
TRAIN = ["train", "bc", "--dataset", ID]
DYDIFF = ["train", "dydiff", "--dataset", ID]
PLAN = ["train", "diffuser", "--dataset", ID]


@pytest.fixture
def nothing_is_trained(monkeypatch):
    """Whatever passes the checks would train for minutes: fail at once instead."""

    def refuse(*arguments, **named):
        raise AssertionError("training began")

    monkeypatch.setattr("langevin.experiments.runs.train", refuse)
    monkeypatch.setattr("langevin.experiments.demo.make_dataset", refuse)


@pytest.fixture
def desk(at_work):
    """A working directory with a file, a full folder, and nothing else."""
    (at_work / "file").write_text("mine")
    (at_work / "full").mkdir()
    (at_work / "full" / "notes").write_text("mine")
    return at_work


BAD = {
    "an algorithm nobody knows": (
        ["train", "nope", "--dataset", ID],
        "no algorithm 'nope'; choose one of bc, td3bc, sac, cql",
    ),
    "no seeds": ([*TRAIN, "--seeds", "0"], "--seeds must be at least 1, got 0"),
    "no steps": ([*TRAIN, "--steps", "0"], "--steps must be at least 1, got 0"),
    "no episodes": ([*TRAIN, "--episodes", "0"], "--episodes must be at least 1, got 0"),
    "a base where none fits": ([*TRAIN, "--base", "td3bc"], "bc takes no --base"),
    "an unknown base": ([*DYDIFF, "--base", "nope"], "--base nope is not a learner; choose one of bc, td3bc"),
    "an unknown preset": ([*TRAIN, "--preset", "gpu"], "bc has no preset 'gpu'; nearest: cpu"),
    "a setting without a value": ([*TRAIN, "--set", "steps"], "--set takes KEY=VALUE, got 'steps'"),
    "an unknown setting": (
        [*TRAIN, "--set", "learner.widht=3"],
        "unknown key 'learner.widht'; nearest: width",
    ),
    "a word for a number": ([*TRAIN, "--set", "steps=many"], "steps must be int, got 'many'"),
    "a dataset that is not there": (
        ["train", "bc", "--dataset", "pointmaze/medium-v0"],
        "dataset pointmaze/medium-v0 is not on disk .*`langevin data list`",
    ),
    "no dataset id at all": (
        ["train", "bc", "--dataset", "my data"],
        "dataset id 'my data' must read like pointmaze/umaze-v0",
    ),
    "an imagined episode of one state": (
        [*DYDIFF, "--set", "horizon=1"],
        "horizon must be at least 2, got 1",
    ),
    "a plan of one state": (
        [*PLAN, "--set", "planner.horizon=1"],
        "horizon must be at least 2, got 1",
    ),
    "channels that do not group": (
        [*DYDIFF, "--set", "world_model.width=12"],
        "width must be a multiple of 8 .* got 12",
    ),
    "a buffer too small": (
        [*DYDIFF, "--set", "capacity=10"],
        "capacity must be at least the 2871 rows that an epoch keeps, got 10",
    ),
    "a share above one": ([*DYDIFF, "--set", "real_share=2"], "real_share must lie between 0 and 1, got 2"),
    "fewer than no iterations": (
        [*DYDIFF, "--set", "iterations=-1"],
        "iterations must be at least 0, got -1",
    ),
    "a mix above one": ([*DYDIFF, "--set", "mix=1.5"], "mix must lie between 0 and 1, got 1.5"),
    "an unknown filter": (
        [*DYDIFF, "--set", "filter=best"],
        "filter must be one of hardmax, softmax, got 'best'",
    ),
    "epochs of no steps": ([*DYDIFF, "--set", "epoch_steps=0"], "epoch_steps must be 1 or more, got 0"),
    "more elites than members": (
        [*DYDIFF, "--set", "dynamics.elites=9"],
        r"elites must lie in 1 … members \(7\), got 9",
    ),
    "empty batches": ([*TRAIN, "--set", "batch_size=0"], "batch_size must be at least 1, got 0"),
    "an unknown controller": (
        [*PLAN, "--set", "controller=fly"],
        "controller must be one of waypoint, inverse, actions, got 'fly'",
    ),
    "replanning backwards": ([*PLAN, "--set", "replan_every=-3"], "replan_every must be at least 0, got -3"),
    "no sampler steps": ([*PLAN, "--set", "schedule.steps=0"], "steps must be at least 1, got 0"),
    "noise levels the wrong way round": (
        [*PLAN, "--set", "schedule.lowest=20"],
        "0 < lowest < highest, got lowest 20.0, highest 10.0",
    ),
    "a file for a run folder": ([*TRAIN, "--out", "file"], "file is a file; choose a folder for the run"),
    "a folder below a file": (
        [*TRAIN, "--out", "file/run"],
        "cannot make the run folder file/run: Not a directory",
    ),
    "a folder with other things in it": (
        [*TRAIN, "--out", "full"],
        "full is not empty and holds no config.toml; choose another folder",
    ),
    "evaluating nothing": (["evaluate", "nowhere"], "nowhere is not a run folder"),
    "evaluating what is no run": (["evaluate", "full"], "full is not a run folder"),
    "no evaluation episodes": (
        ["evaluate", "nowhere", "--episodes", "0"],
        "--episodes must be at least 1, got 0",
    ),
    "the fidelity of nothing": (["fidelity", "nowhere"], "nowhere is not a run folder"),
    "one rollout": (
        ["fidelity", "nowhere", "--rollouts", "1"],
        "at least 2 rollouts and 1 refinement, got 1 and 3",
    ),
    "no refinements": (
        ["fidelity", "nowhere", "--refinements", "0"],
        "at least 2 rollouts and 1 refinement, got 128 and 0",
    ),
    "a strength beyond reason": (
        ["fidelity", "nowhere", "--strengths", "5"],
        r"strengths must lie between 0 and 3, got \[5.0\]",
    ),
    "a report on nothing": (["report"], "there is no run to report on; name at least one run folder"),
    "a report on what is not there": (["report", "nowhere"], "nowhere is not a folder"),
    "a report on what is no run": (["report", "full"], "full is not a run folder"),
    "a demo of no episodes": (["demo", "--episodes", "0"], "--episodes must be at least 1, got 0"),
    "a demo of no task": (
        ["demo", "--dataset", "pointmaze/nope-v0"],
        "'pointmaze/nope-v0' belongs to no task; did you mean pointmaze/umaze",
    ),
    "a dataset made of nothing": (["data", "make", "nope"], "nope"),
    "an unknown command": (["trian", "bc"], "there is no command 'trian'; did you mean train"),
    "an unknown command of a group": (
        ["data", "maek"],
        "there is no command 'data maek'; did you mean data make",
    ),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_usage_is_one_sentence_exit_code_two_and_nothing_written(bad, desk, nothing_is_trained, capsys):
    arguments, words = BAD[bad]
    before = sorted(path for path in desk.rglob("*"))
    assert run(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("langevin: ")
    assert printed.err.count("\n") == 1
    assert re.search(words, printed.err), printed.err
    assert sorted(path for path in desk.rglob("*")) == before
    assert (desk / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([*TRAIN, "--sedes", "3"], "--seeds"),
        ([*TRAIN, "--seeds", "three"], "--seeds"),
        (["train", "bc"], "--dataset"),
        (["evaluate"], "PATH"),
        (["fidelity"], "PATH"),
    ],
)
def test_arguments_that_cannot_be_read_name_the_option_they_meant(
    arguments, words, desk, nothing_is_trained, capsys
):
    assert run(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert words in printed.err
    assert f"langevin {arguments[0]} --help" in printed.err


@pytest.mark.parametrize("command", COMMANDS)
def test_help_explains_every_command_with_an_example(command, capsys):
    assert run([*command.split(), "--help"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    text = " ".join(printed.out.split())
    assert re.search(rf"Examples?: langevin {command}\b", text), printed.out
    assert f"usage: langevin {command}" in text


def test_help_lists_every_command(capsys):
    assert run(["--help"]) == 0
    everything = capsys.readouterr().out
    for command, (_, _, line) in COMMANDS.items():
        assert re.search(rf"langevin {command} +{re.escape(line)}", everything)
    assert run([]) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", everything)
    assert run(["data", "--help"]) == 0
    group = capsys.readouterr().out
    assert "langevin data make" in group
    assert "langevin train" not in group


def test_the_version_is_the_packages(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"langevin {langevin.__version__}\n"


def test_main_exits_with_the_commands_code(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["trian"])
    assert stop.value.code == 2
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (LangevinError("the disk is full"), 1, "langevin: the disk is full\n"),
        (KeyboardInterrupt(), 1, "langevin: stopped; go on with --resume where the command has it\n"),
    ],
)
def test_work_that_fails_is_one_sentence_and_exit_code_one(error, code, words, at_work, monkeypatch, capsys):
    def fail(*arguments, **named):
        raise error

    monkeypatch.setattr("langevin.experiments.runs.train", fail)
    assert run([*TRAIN, "--out", "run"]) == code
    assert capsys.readouterr().err == words


def test_markup_in_an_error_is_printed_as_it_is(capsys):
    """Rich would take [red] for a colour and [0, 1] for nothing at all."""
    cli.complain("seeds = [0, 1], not [red]", 2)
    assert capsys.readouterr().err == "langevin: seeds = [0, 1], not [red]\n"


def test_a_fault_of_the_programs_own_is_not_hidden(at_work, monkeypatch):
    def fail(*arguments, **named):
        raise ZeroDivisionError

    monkeypatch.setattr("langevin.experiments.runs.train", fail)
    with contextlib.suppress(SystemExit), pytest.raises(ZeroDivisionError):
        run([*TRAIN, "--out", "run"])


def test_commands_are_imported_only_when_called_for():
    """`langevin --version` must not wait for JAX."""
    import subprocess
    import sys

    program = (
        "import sys; from langevin.cli import run; run(['--version']); run(['trian']); "
        "print(sorted({'jax', 'matplotlib', 'mujoco', 'plotly'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1].replace("'", '"')) == []


def test_a_warning_is_one_sentence_without_the_line_of_code_it_comes_from(monkeypatch, capsys):
    """Ours; a library's own, of another category, goes where Python sends it."""

    @dataclass
    class Command:
        """Warns."""

        def run(self):
            warnings.warn("seed 0 stopped; train it again", stacklevel=1)
            warnings.warn("old call", FutureWarning, stacklevel=1)

    monkeypatch.setattr("langevin.commands.bench.Bench", Command)
    with pytest.warns(FutureWarning, match="old call") as others:
        assert run(["bench"]) == 0
    assert len(others) == 1
    assert capsys.readouterr().err == "langevin: warning: seed 0 stopped; train it again\n"
