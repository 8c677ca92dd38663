"""The off-dynamics planner's own experiment: masses, contexts between two systems, the table, and a tiny run."""

import dataclasses
import json
import math

import numpy as np
import pytest

from langevin.envs.robot_model import robot_model
from langevin.envs.tasks import TASKS, get_task
from langevin.errors import DivergedError, UsageError
from langevin.evaluation.workloads import noise
from langevin.experiments.off_dynamics import (
    VARIANTS,
    OffDynamics,
    interpolated,
    of_mass,
    picture,
    table,
    total_mass,
)
from langevin.training.algorithms.registry import ALGORITHMS, LEARNERS


@pytest.mark.parametrize(
    ("mass", "dynamics", "inverse"), [(14.0, -1, 0.3), (10.5, 0, 0.15), (7.0, 1, 0), (3.0, 1, 0)]
)
def test_contexts_go_from_the_sources_to_the_targets_and_no_further(mass, dynamics, inverse):
    found = interpolated(mass, 14.0, 7.0, {"dynamics": -1.0, "inverse": 0.3})
    np.testing.assert_allclose([found["dynamics"], found["inverse"]], [dynamics, inverse], atol=1e-12)


@pytest.mark.parametrize("mass", [3.0, 9.0])
def test_a_robot_can_have_any_mass_and_the_named_ones_are_the_papers(mass):
    source, target = get_task("halfcheetah"), get_task("halfcheetah/total_mass")
    assert total_mass(source) == pytest.approx(14)
    assert total_mass(target) == pytest.approx(7)
    task = of_mass(target, mass)
    assert total_mass(task) == pytest.approx(mass)
    assert task.normalized_score(1000.0) == source.normalized_score(1000.0)
    inertia = lambda task: robot_model(task.robot, task.physics, task.shifts).body_inertia
    np.testing.assert_allclose(inertia(task), inertia(source) * mass / 14, rtol=1e-6)


def test_masses_are_a_robots():
    with pytest.raises(UsageError, match="masses are a robot's"):
        total_mass(get_task("pointmaze/umaze"))


def test_the_variants_are_those_of_the_papers_table_and_ablation():
    contexts = {name: tuple(variant.settings.get("contexts", ())) for name, variant in VARIANTS.items()}
    assert contexts["r"] == ("return",)
    assert contexts["r_onehot"] == ("return", "domain")
    assert contexts["r_ds"] == contexts["r_ds_ia"] == ("return", "dynamics")
    assert contexts["off_dynamics"] == ("return", "dynamics", "inverse")
    assert VARIANTS["r_ds_ia"].settings["action"] == "inverse"
    assert all(variant.algorithm in ALGORITHMS for variant in VARIANTS.values())
    assert all(VARIANTS[f"{name}_dara"].algorithm in LEARNERS for name in ("cql", "bcq"))


def row(label, score, low):
    block = {
        "iqm": score,
        "mean": score,
        "ci95": [low, None if low is None else 9.0],
        "per_seed": [score, 1.0],
    }
    return {"label": label, "steps": 1_500, "normalized_score": block, "returns_by_mass": [block, block]}


def test_the_table_says_what_is_missing_and_why():
    rows = {
        "a": row("A", 5.04, 2.0),
        "b": {"label": "B", "missing": "no such thing"},
        "c": row("C", 3.0, None),
    }
    assert table(rows).splitlines()[2:] == [
        "| A | 1,500 | 5.0 [2.0, 9.0] | 5.0 1.0 |",
        "| B | | none: no such thing | |",
        "| C | 1,500 | 3.0 | 3.0 1.0 |",
    ]
    lines = picture((7.0, 14.0), rows).axes[0].get_lines()
    assert [line.get_label() for line in lines] == ["A", "C"]
    np.testing.assert_allclose(lines[1].get_xydata(), [[7, 3], [14, 3]])


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"variants": ("bq_dara",)}, "did you mean bcq_dara"), ({"scale": 0.0}, "--scale must be above 0"),
     ({"seeds": 0}, "seeds must be at least 1"), ({"scale": math.nan}, "--scale must be above 0")],
)  # fmt: skip
def test_what_cannot_be_run_is_said_before_anything_is_trained(settings, words, tmp_path):
    with pytest.raises(UsageError, match=words):
        OffDynamics("hopper/medium-v0", "hopper/leg_size/target-v0", tmp_path / "out", **settings).run()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("asked", "kept"),
    [({}, ["r"]), ({"scale": 0.5, "variants": ("bcq_dara",)}, ["r"]), ({"episodes": 3}, []), ({"seeds": 4}, []),
     ({"masses": (7.0,)}, []), ({"target": "halfcheetah/torso_size/target-v0"}, [])],
)  # fmt: skip
def test_rows_stay_in_the_table_that_were_evaluated_alike(asked, kept, tmp_path):
    settings = {
        "source": "halfcheetah/random-v0",
        "target": "halfcheetah/total_mass/target-v0",
        "out": tmp_path,
    }
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "summary.json").write_text("{}")
    removed = row("R+one-hot", 4.0, 1.0)
    OffDynamics(**settings).write(
        {"r": row("R", 5.0, 2.0), "r_onehot": removed, "r_ds": {"label": "R+DS", "missing": "why"}}
    )
    assert list(OffDynamics(**(settings | asked)).kept()) == kept


def test_a_variant_that_diverged_has_a_row_that_says_so(tmp_path, monkeypatch):
    def trained(self, variant, folder):
        raise DivergedError("every seed diverged (seed 0: planner/loss)")

    monkeypatch.setattr(OffDynamics, "trained", trained)
    found = OffDynamics("s", "t", tmp_path).row(VARIANTS["r"], tmp_path, TASKS["halfcheetah"], (1.0, 2.0))
    assert found == {"missing": "every seed diverged (seed 0: planner/loss)"}


SMALL = (
    "planner.width=8", "planner.multipliers=[1]", "planner.kernel=3", "planner.horizon=4", "planner.batch_size=4",
    "planner.chain.steps=2", "sampling.steps=2", "classifier.batch_size=8", "inverse.batch_size=8",
)  # fmt: skip


@pytest.fixture
def short_cheetahs(monkeypatch):
    """Noise in place of both datasets, and episodes of five steps."""
    shortened = {name: dataclasses.replace(task, max_steps=5) for name, task in TASKS.items()}
    monkeypatch.setattr("langevin.envs.tasks.TASKS", shortened)
    for module in ("runs", "off_dynamics"):
        opened = lambda name, progress=None: noise(17, 6, rows=1_000)
        monkeypatch.setattr(f"langevin.experiments.{module}.open_dataset", opened)


@pytest.mark.slow
def test_a_tiny_run_writes_its_table_picture_and_numbers_and_is_kept(short_cheetahs, tmp_path):
    experiment = OffDynamics(
        "halfcheetah/random-v0", "halfcheetah/total_mass/target-v0", tmp_path / "out",
        variants=("off_dynamics",), masses=(3.0,), scale=1e-3, set=SMALL, seeds=1, episodes=2,
    )  # fmt: skip
    rows = experiment.run()
    assert len(rows["off_dynamics"]["returns_by_mass"]) == 1
    written = json.loads((tmp_path / "out" / "off_dynamics.json").read_text())
    assert written["rows"]["off_dynamics"] == rows["off_dynamics"]
    assert (tmp_path / "out" / "off_dynamics.png").stat().st_size > 1000
    assert (tmp_path / "out" / "off_dynamics" / "figures" / "contexts.png").is_file()
    assert experiment.run() == rows
    assert rows["off_dynamics"]["steps"] == 8
