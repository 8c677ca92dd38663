"""From a dataset to a report through the command line, once for every algorithm, at the smallest scale."""

import json
import shutil
import tomllib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_runs import ID, SEEDS, SETTINGS, contents, train_arguments

from langevin import load_policy
from langevin.cli import run
from langevin.commands import bench_planning, fidelity
from langevin.commands.bench_planning import BenchPlanning
from langevin.commands.train import parse_setting
from langevin.envs.tasks import get_task
from langevin.evaluation.world_fidelity import SAMPLES
from langevin.experiments import demo, runs
from langevin.experiments.pictures import drawn
from langevin.experiments.runs import RunRequest, load_run
from langevin.policies.export import numpy_act
from langevin.report.figures import captions, save_figure
from langevin.report.style import new_figure

POLICIES = {"data", "random", "medium", "good", "trained"}


def read(folder, name="summary.json"):
    return json.loads((folder / name).read_text())


@pytest.mark.parametrize("algorithm", SETTINGS)
def test_a_run_leaves_a_summary_of_what_it_was_and_what_came_out(workshop, algorithm):
    summary = read(workshop / algorithm)
    seeds = list(range(SEEDS[algorithm]))
    assert summary["algorithm"] == algorithm
    assert (summary["dataset"], summary["task"]) == (ID, "pointmaze/umaze")
    assert summary["seeds"] == seeds
    assert summary["steps"] == (10 if algorithm == "diffuser" else 20)
    assert summary["updates_per_second"] > 0
    assert summary["wall_seconds"] > 0
    task = get_task("pointmaze/umaze")
    for name in ("normalized_score", "return"):
        block = summary[name]
        assert set(block) == {"mean", "iqm", "ci95", "per_seed"}
        assert len(block["per_seed"]) == len(seeds)
        assert block["mean"] == pytest.approx(np.mean(block["per_seed"]))
        known = len(seeds) > 1
        assert len(block["ci95"]) == 2
        assert all((end is not None) == known for end in block["ci95"]), "one seed has no interval"
    scores = task.normalized_score(summary["return"]["per_seed"])
    np.testing.assert_allclose(scores, summary["normalized_score"]["per_seed"])


@pytest.mark.parametrize(("learning_curve", "evaluated"), [(True, [250, 500]), (False, [500])])
def test_without_a_learning_curve_the_last_policy_alone_is_evaluated(at_work, learning_curve, evaluated):
    overrides = dict(map(parse_setting, [*SETTINGS["bc"], "steps=500"]))
    folder = at_work / "bc"
    runs.run(
        RunRequest(
            "bc", ID, folder, seeds=(0,), episodes=1, overrides=overrides, learning_curve=learning_curve
        )
    )
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "evaluation/return" in line] == evaluated


@pytest.mark.parametrize("algorithm", SETTINGS)
def test_a_run_folder_holds_all_it_takes_to_run_it_again(workshop, algorithm):
    folder = workshop / algorithm
    config = tomllib.loads((folder / "config.toml").read_text())
    assert (config["algorithm"], config["dataset"], config["preset"]) == (algorithm, ID, "cpu")
    for setting in SETTINGS[algorithm]:
        key, value = parse_setting(setting)
        at = config["settings"]
        for word in key.split("."):
            at = at[word]
        assert at == value, setting
        assert f"--set {key}=" in config["command"]
    assert {"langevin", "jax", "mujoco"} <= set(config["versions"])
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert any("evaluation/return" in line for line in lines)
    assert {line["seed"] for line in lines} == set(range(SEEDS[algorithm]))


def test_every_stage_of_dydiff_is_trained_and_kept(workshop):
    names = sorted(path.name for path in (workshop / "dydiff" / "checkpoints").iterdir())
    assert names == ["00-dynamics", "01-reward", "02-inverse", "03-world_model", "04-policy"]
    rows = np.asarray(load_run(workshop / "dydiff").result.states["policy"].buffer.filled)
    assert ((rows > 0) & (rows <= 100)).all(), "imagined rows are in every seed's buffer"


def test_a_run_trained_twice_gives_the_same_numbers(workshop, at_work):
    assert run(train_arguments("bc", at_work / "again")) == 0
    first, again = (read(folder) for folder in (workshop / "bc", at_work / "again"))
    assert first["return"] == again["return"]
    files = [
        (folder / "checkpoints" / "00-policy" / "state.eqx").read_bytes()
        for folder in (workshop / "bc", at_work / "again")
    ]
    assert files[0] == files[1]


def test_json_prints_the_summary_and_nothing_else(workshop, at_work, capsys):
    assert run([*train_arguments("bc", at_work / "run"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == read(at_work / "run")


def test_a_folder_with_a_run_is_not_trained_over_and_a_finished_one_resumes_to_itself(
    workshop, at_work, capsys
):
    folder = at_work / "run"
    shutil.copytree(workshop / "bc", folder)
    before = contents(folder)
    arguments = train_arguments("bc", folder)
    assert run(arguments) == 2
    assert "already holds a run; go on with --resume, or choose another folder" in capsys.readouterr().err
    assert contents(folder) == before
    assert run([*arguments, "--resume", "--seeds", "1"]) == 2
    assert "seeds = [0, 1], not [0]" in capsys.readouterr().err
    assert contents(folder) == before
    assert run([*arguments, "--resume"]) == 0
    after = contents(folder)
    assert after["checkpoints/00-policy/state.eqx"] == before["checkpoints/00-policy/state.eqx"]
    assert after["metrics.jsonl"] == before["metrics.jsonl"]


@pytest.fixture
def copied(workshop, at_work):
    """A run folder of the test's own."""

    def copy(algorithm):
        return shutil.copytree(workshop / algorithm, at_work / algorithm)

    return copy


@pytest.mark.parametrize("algorithm", ["dydiff", "diffuser"])
def test_evaluating_updates_the_summary_and_draws_the_paths(copied, algorithm, capsys):
    folder = copied(algorithm)
    before = read(folder)
    assert run(["evaluate", str(folder), "--episodes", "20", "--seed", "1", "--json"]) == 0
    summary = read(folder)
    assert json.loads(capsys.readouterr().out) == summary
    assert summary["episodes"] == 20
    assert summary["return"] != before["return"], "other start states"
    assert set(summary) == set(before)
    unchanged = set(before) - {"return", "normalized_score"}
    assert all(summary[name] == before[name] for name in unchanged)
    figures = {"episodes.png", "plans.png"} if algorithm == "diffuser" else {"episodes.png"}
    assert set(read(folder / "figures", "captions.json")) == figures
    for figure in figures:
        assert (folder / "figures" / figure).read_bytes().startswith(b"\x89PNG")


def test_evaluating_as_training_did_gives_the_same_returns(copied):
    """The same start states, the same policies: read back from disk they act bit for bit as before."""
    folder = copied("bc")
    before = read(folder)
    assert run(["evaluate", str(folder), "--episodes", "20"]) == 0
    assert read(folder)["return"] == before["return"]


def test_another_task_is_scored_by_its_own_references_and_leaves_the_run_alone(copied, capsys):
    folder = copied("bc")
    before = contents(folder)
    assert run(["evaluate", str(folder), "--task", "pointmaze/medium", "--episodes", "1", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["task"] == "pointmaze/medium"
    scores = get_task("pointmaze/medium").normalized_score(summary["return"]["per_seed"])
    np.testing.assert_allclose(scores, summary["normalized_score"]["per_seed"])
    assert contents(folder) == before


def test_fidelity_measures_every_policy_and_refinement_and_draws_them(copied, capsys):
    folder = copied("dydiff")
    assert run(["fidelity", str(folder), "--rollouts", "4", "--refinements", "1", "--json"]) == 0
    report = read(folder, "fidelity.json")
    assert json.loads(capsys.readouterr().out) == report
    assert (report["task"], report["horizon"], report["strength"]) == ("pointmaze/umaze", 16, 1.0)
    assert report["refine_from"] == "noise"
    found = {(row["policy"], row["refinement"]) for row in report["rows"]}
    assert found == {(policy, refinement) for policy in POLICIES for refinement in (0, 1)}
    for row in report["rows"]:
        assert row["data"] == "clean"
        assert row["rollouts"] == 4
        assert set(row["error"]) == set(row["error_half_width"]) == {"10"}
        assert row["error"]["10"] >= 0
        assert 0 <= row["legal"] <= 1
    assert len(report["verdict"]) == len(POLICIES)
    models = ("ensemble", "ensemble, sampled", "refined")
    examined = {(row["policy"], row["model"]) for row in report["worlds"]}
    assert examined == {(policy, model) for policy in ("data", "random", "trained") for model in models}
    for row in report["worlds"]:
        assert (row["rollouts"], row["samples"], row["ended"]) == (4, SAMPLES, 0)
        assert len(row["error_by_step"]) == 16
        assert all(0 <= row[name] <= 1 for name in ("end_accuracy", "known", "legal"))
    assert {f"rollouts_{policy}.png" for policy in POLICIES} <= set(read(folder / "figures", "captions.json"))
    assert run(["report", str(folder), "-o", str(folder.parent / "page.html")]) == 0
    page = (folder.parent / "page.html").read_text()
    assert report["verdict"][0].replace("'", "&#x27;") in page or report["verdict"][0] in page
    assert "State, reward, end and doubt" in page


def test_fidelity_of_a_model_that_only_draws_is_of_what_it_drew(at_work, capsys):
    folder = at_work / "mtdiff"
    assert run([*train_arguments("mtdiff", folder), "--json"]) == 0
    capsys.readouterr()
    assert run(["fidelity", str(folder), "--rollouts", "4", "--json"]) == 0
    report = read(folder, "fidelity.json")
    assert json.loads(capsys.readouterr().out) == report
    models = {row["model"]: row for row in report["worlds"]}
    assert list(models) == ["mtdiff, trajectories", "mtdiff, each transition"]
    for row in models.values():
        assert (row["policy"], row["samples"], row["coverage"]) == ("drawn", 1, None)
        assert all(0 <= row[name] <= 1 for name in ("end_accuracy", "known", "legal"))
    assert len(models["mtdiff, trajectories"]["error_by_step"]) == 8
    assert run(["report", str(folder), "-o", str(at_work / "page.html")]) == 0
    assert "the actions that it drew" in (at_work / "page.html").read_text()
    assert run(["fidelity", str(folder), "--strengths", "0"]) == 2
    assert "are of a trajectory world model" in capsys.readouterr().err


def test_fidelity_refines_as_the_run_does_unless_it_is_told_otherwise(copied, monkeypatch, capsys):
    begun = []

    def fake(folder, loaded, *arguments, **options):
        begun.append(loaded.settings.refine_from)
        return {"verdict": []}

    monkeypatch.setattr(fidelity, "fidelity_report", fake)
    monkeypatch.setattr(fidelity, "world_fidelity", lambda *arguments, **options: [])
    monkeypatch.setattr(fidelity, "world_verdict", lambda worlds: [])
    folder = str(copied("dydiff"))
    for asked in ([], ["--refine-from", "noise"], ["--refine-from", "rollout"]):
        assert run(["fidelity", folder, *asked]) == 0
    assert begun == ["noise", "noise", "rollout"]
    capsys.readouterr()
    assert run(["fidelity", str(copied("adept")), "--refine-from", "noise"]) == 2
    assert "--strengths and --refine-from are of a trajectory world model" in capsys.readouterr().err


def test_all_runs_stand_on_one_page(workshop, at_work, capsys):
    out = at_work / "page.html"
    assert run(["report", str(workshop), "-o", str(out), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert {entry["label"] for entry in result["runs"]} == {
        "BC", "TD3+BC", "IQL", "TD3+BC + DyDiff", "IQL + ADEPT", "Diffuser", "Hierarchical Diffuser",
    }  # fmt: skip
    page = out.read_text()
    for summary in (read(workshop / algorithm) for algorithm in SETTINGS):
        assert summary["label"] in page


def test_an_unfinished_run_cannot_be_evaluated(copied, capsys):
    folder = copied("bc")
    shutil.rmtree(folder / "checkpoints")
    assert run(["evaluate", str(folder)]) == 2
    assert "is not finished; finish it with --resume" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_a_failure_of_the_run_and_not_of_the_command(copied, capsys):
    folder = copied("bc")
    state = folder / "checkpoints" / "00-policy" / "state.eqx"
    state.write_bytes(state.read_bytes()[:100])
    before = contents(folder)
    assert run(["evaluate", str(folder)]) == 1
    error = capsys.readouterr().err
    assert "is damaged: state.eqx is cut short" in error
    assert error.count("\n") == 1
    assert contents(folder) == before


def test_only_runs_with_a_world_model_have_a_fidelity(workshop, at_work, capsys):
    assert run(["fidelity", str(workshop / "bc")]) == 2
    error = capsys.readouterr().err
    assert (
        "holds a run of bc, which has no world model; fidelity examines runs of dydiff, single_step, adept"
        in error
    )
    assert run(["fidelity", str(workshop / "dydiff"), "--seed", "2"]) == 2
    assert "--seed must be 0 to 1, got 2" in capsys.readouterr().err


def test_the_demo_keeps_runs_that_are_finished_and_shows_them_on_one_page(
    workshop, at_work, monkeypatch, capsys
):
    """All four were finished before, one of them not drawn: nothing is trained, and the page shows them all."""
    out = at_work / "demo"
    shutil.copytree(workshop, out)
    for name in ("bc", "td3bc", "dydiff"):
        save_figure(out / name, "episodes", new_figure(1, 1), "Drawn before.")
    assert not drawn(out / "diffuser")
    before = contents(out)
    monkeypatch.setattr(demo, "run", None)
    measured = {"verdict": ["Under the data's own actions the ensemble is right."]}
    monkeypatch.setattr(demo, "demo_fidelity", lambda *arguments: measured)
    assert run(["demo", "--out", str(out), "--dataset", ID, "--json"]) == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert [summary["algorithm"] for summary in result["summaries"]] == ["bc", "td3bc", "dydiff", "diffuser"]
    assert result["verdict"] == measured["verdict"]
    page = out / "report.html"
    assert result["report"] == str(page)
    assert "TD3+BC + DyDiff" in page.read_text()
    for label in ("BC", "TD3+BC", "TD3+BC + DyDiff"):
        assert f"{label}: already in" in printed.err
    assert "Diffuser: already in" not in printed.err
    assert "plans.png" in captions(out / "diffuser")
    assert drawn(out / "diffuser")
    after = contents(out)
    assert {name: after[name] for name in before} == before


def test_sampling_is_another_evaluation_and_leaves_the_run_alone(copied, capsys):
    folder = copied("iql")
    before = contents(folder)
    assert run(["evaluate", str(folder), "--episodes", "20", "--sample", "--json"]) == 0
    sampled = json.loads(capsys.readouterr().out)
    assert sampled["return"]["per_seed"] != read(folder)["return"]["per_seed"]
    assert contents(folder) == before


def test_off_policy_evaluation_stands_beside_the_truth(copied, capsys):
    folder = copied("iql")
    assert run(["evaluate", str(folder), "--fqe", "--fqe-steps", "10", "--episodes", "20", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == read(folder, "fqe.json")
    for name in ("estimate", "true", "error"):
        assert len(result[name]["per_seed"]) == 2
    differences = np.subtract(result["estimate"]["per_seed"], result["true"]["per_seed"])
    np.testing.assert_allclose(result["error"]["per_seed"], differences)


def test_off_policy_evaluation_of_a_planner_says_why_it_cannot(copied, capsys):
    assert run(["evaluate", str(copied("diffuser")), "--fqe"]) == 2
    assert "without memory" in capsys.readouterr().err


def test_a_world_model_judges_its_own_policies_beside_the_truth(copied, capsys):
    folder = copied("dydiff")
    words = ["evaluate", str(folder), "--in-world-model", "--episodes", "3", "--steps", "20", "--noises", "2"]
    assert run([*words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == read(folder, "in_world_model.json")
    assert (result["world"], result["steps"], result["rank_correlation"]) == ("dydiff", 20, None)
    differences = np.subtract(result["predicted"]["per_seed"], result["true"]["per_seed"])
    np.testing.assert_allclose(result["gap"]["per_seed"], differences)
    assert all(low <= high for low, high in result["noise_ci95"])


def test_a_world_model_judges_another_runs_policies(copied, capsys):
    """The prediction is the judge's, whose folder is only read."""
    folder, judge = copied("iql"), copied("dydiff")
    before = contents(judge)
    words = ["evaluate", str(folder), "--in-world-model", "--world-model", str(judge), "--episodes", "3"]
    assert run([*words, "--steps", "20", "--noises", "2"]) == 0
    assert "predicted" in capsys.readouterr().out
    assert read(folder, "in_world_model.json")["world"] == "dydiff"
    assert contents(judge) == before


@pytest.mark.parametrize(
    ("algorithm", "words", "message"),
    [
        (
            "iql",
            ["--in-world-model"],
            "a run of iql holds no world model; name a run that does with --world-model",
        ),
        ("diffuser", ["--in-world-model", "--world-model", "dydiff"], "without memory"),
        ("dydiff", ["--in-world-model", "--fqe"], "--fqe and --in-world-model are two evaluations"),
        ("iql", ["--world-model", "dydiff"], "--world-model goes with --in-world-model"),
        ("dydiff", ["--steps", "5"], "--steps goes with --in-world-model"),
        ("dydiff", ["--noises", "5"], "--noises goes with --in-world-model"),
        (
            "dydiff",
            ["--in-world-model", "--sample"],
            "--task, --sample and --contexts are for the real",
        ),
        (
            "iql",
            ["--fqe", "--task", "pointmaze/medium"],
            "--task, --sample and --contexts are for the real",
        ),
        ("dydiff", ["--in-world-model", "--noises", "0"], "noises must be at least 1"),
        ("dydiff", ["--in-world-model", "--steps", "0"], "steps must be at least 1"),
    ],
)
def test_what_cannot_be_judged_in_a_world_model_is_said(copied, capsys, algorithm, words, message):
    words = [str(copied(word)) if word == "dydiff" else word for word in words]
    folder = copied(algorithm)
    before = contents(folder)
    assert run(["evaluate", str(folder), *words]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert contents(folder) == before


def test_an_exported_policy_acts_as_the_run_does(copied, capsys):
    folder = copied("td3bc")
    assert run(["export", str(folder), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["format"], result["observation_size"], result["action_size"]) == ("numpy", 4, 2)
    observations = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    with np.load(result["path"]) as file:
        found = numpy_act(dict(file), observations)
    expected = [load_policy(folder).act(observation) for observation in observations]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seed", "7"], "has no seed 7; choose one of 0"),
        (["--batch-size", "0"], "batch_size must be at least 1, got 0"),
        (["-o", "missing/policy.npz"], "the folder missing does not exist"),
        (["-o", "taken.npz"], "taken.npz is there already"),
    ],
)
def test_what_cannot_be_exported_is_said_in_a_sentence(copied, arguments, message, capsys):
    folder = copied("td3bc")
    Path("taken.npz").write_bytes(b"mine")
    assert run(["export", str(folder), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert Path("taken.npz").read_bytes() == b"mine"


def test_a_planner_is_exported_as_a_program_and_not_for_numpy(copied, capsys):
    folder = copied("diffuser")
    assert run(["export", str(folder)]) == 2
    assert "export it with --format stablehlo" in capsys.readouterr().err
    assert run(["export", str(folder), "--format", "stablehlo"]) == 0
    assert (folder / "policy.zip").read_bytes().startswith(b"PK")


TRANSFERS = {
    "finetune": (["--finetune-on", "pointmaze/medium-v0", "--set", "finetune_steps=10"], "TD3+BC + fine-tuned"),
    "dara": (
        ["--target-dataset", "pointmaze/medium-v0", "--dara", "--set", "domain_steps=10",
         "--set", "dara.classifiers.width=8"],
        "TD3+BC + DARA",
    ),
}  # fmt: skip


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_a_policy_learned_from_two_systems_is_for_the_second(at_work, target_data, transfer, capsys):
    arguments, label = TRANSFERS[transfer]
    command = [*train_arguments("td3bc", at_work / "out"), *arguments, "--json"]
    assert run(command) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["label"], summary["dataset"], summary["target_dataset"]) == (
        label,
        ID,
        "pointmaze/medium-v0",
    )
    assert summary["task"] == "pointmaze/medium"
    assert run(["evaluate", str(at_work / "out"), "--episodes", "20", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["return"] == summary["return"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["td3bc", "--dara"], "--dara and --target-dataset go together"),
        (["bc", "--dara", "--target-dataset", ID], "bc heeds no rewards, which are all that DARA changes"),
        (["td3bc", "--target-dataset", ID], "--dara and --target-dataset go together"),
        (["td3bc", "--dara", "--target-dataset", ID, "--finetune-on", ID], "two ways to use a target's data"),
        (["veteran", "--finetune-on", ID], "veteran cannot learn from a source and a target"),
        (["td3bc", "--finetune-on", "hopper/random-v0"], "hopper/random-v0"),
    ],
)
def test_what_cannot_be_transferred_is_said_in_a_sentence(at_work, arguments, message, capsys):
    assert run(["train", *arguments, "--dataset", ID, "--out", "out"]) == 2
    assert message in capsys.readouterr().err
    assert not Path("out").exists()


def test_planning_is_measured_way_by_way_and_left_in_the_runs_folder(workshop, capsys, monkeypatch):
    """Two ways of the four: each compiles programs of its own."""
    folder = workshop / "hierarchical_diffuser"
    ways = bench_planning.trials
    monkeypatch.setattr(bench_planning, "trials", lambda *chain: ways(*chain)[::2])
    words = f"bench planning {folder} --calls 1 --batch 1 --episodes 1 --seconds 0.01 --json".split()
    assert run(words) == 0
    result = json.loads(capsys.readouterr().out)
    assert [(way["method"], way["calls"]) for way in result["ways"]] == [("DDPM", 3), ("DDIM", 1)]
    assert all(way["single_decisions_per_second"] > 0 for way in result["ways"])
    assert all(len(way["normalized_score"]["per_seed"]) == 1 for way in result["ways"])
    assert json.loads((folder / "planning.json").read_text()) == result
    assert (folder / "planning.png").stat().st_size > 5000


def test_ways_that_were_measured_before_a_stop_are_not_lost_and_an_earlier_table_stays_whole(
    copied, monkeypatch
):
    """The second way is cut off."""
    folder = copied("hierarchical_diffuser")
    (folder / "planning.json").write_text("an earlier table")
    measured = iter([5.0, 6.0])

    def fake(program, seconds):
        speed = next(measured, None)
        if speed is None:
            raise KeyboardInterrupt
        return SimpleNamespace(units_per_second=speed)

    monkeypatch.setattr(bench_planning, "measure", fake)
    with pytest.raises(KeyboardInterrupt):
        BenchPlanning(folder, calls=(1,), batch=1, episodes=0).run()
    (way,) = read(folder, "planning.unfinished.json")["ways"]
    assert (way["method"], way["single_decisions_per_second"], way["batch_decisions_per_second"]) == (
        "DDPM",
        5,
        6,
    )
    assert (folder / "planning.json").read_text() == "an earlier table"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{}/bc"], "draws no plans by a DDPM chain"),
        (["{}/nothing"], "nothing"),
        (["{}/hierarchical_diffuser", "--calls", "0"], "--calls must be numbers of at least 1, got [0]"),
        (["{}/hierarchical_diffuser", "--batch", "0"], "--batch must be at least 1, got 0"),
        (["{}/hierarchical_diffuser", "--episodes", "-1"], "--episodes must be at least 0, got -1"),
        (["{}/hierarchical_diffuser", "--seconds", "nan"], "--seconds must be a positive number, got nan"),
    ],
)
def test_a_planning_bench_that_cannot_be_is_refused(workshop, words, said, capsys):
    assert run(["bench", "planning", *(word.format(workshop) for word in words)]) == 2
    assert said in capsys.readouterr().err
