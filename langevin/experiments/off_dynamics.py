"""The off-dynamics planner's own experiments: its table and ablation on one setting, and masses between two it knows.

    python -m langevin.experiments.off_dynamics --source hopper/medium-expert-v0 --target hopper/leg_size/target-v0
    python -m langevin.experiments.off_dynamics --source halfcheetah/medium-expert-v0 \
        --target halfcheetah/total_mass/target-v0 --masses 3 4 5 6 7 8 9 10 11 12 13 14

Every variant is trained at its own preset, all steps times `--scale`, and evaluated in the target's task from the same
start states. A run that is finished is kept and one that was stopped goes on; the table is of all that was
evaluated alike in the folder.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from matplotlib.figure import Figure
from rich.console import Console

from langevin.data.sources import open_dataset
from langevin.envs.shifts import PhysicsShift
from langevin.envs.tasks import Task, get_task
from langevin.errors import DivergedError, UsageError, nearest, require_at_least
from langevin.evaluation.episodes import run_episodes
from langevin.evaluation.scores import score_summary
from langevin.experiments.runs import EVALUATION_SEED, LoadedRun, RunRequest, load_run, run, task_of
from langevin.planners.off_dynamics_contexts import BOUNDS, CONTEXTS, WANTED
from langevin.policies.base import Policy
from langevin.progress import BarProgress
from langevin.report.style import FONT_POINTS, color, new_figure, save_png, series_style, style_axes
from langevin.training.algorithms.registry import TransferName, load_settings
from langevin.training.compile_cache import enable_compile_cache
from langevin.training.files import atomic_write

METHOD = "off_dynamics"
LABEL_OF_SOURCE = BOUNDS["dynamics"][0]
EVALUATED_BY = ("source", "target", "masses", "seeds", "episodes")
"""Settings that a row's scores depend on, besides its run."""
STEP_SETTINGS = ("steps", "classifier_steps", "inverse_steps", "finetune_steps", "domain_steps")


@dataclass(frozen=True)
class Variant:
    """One row of the table: an algorithm, what it learns from, and what is changed of its preset."""

    label: str
    algorithm: str
    transfer: TransferName | None = None
    data: str = "both"
    """both, or source or target alone."""
    settings: Mapping[str, Any] = field(default_factory=dict)


def ablation(label: str, *contexts: str, action: str = "planned") -> Variant:
    """The planner told these contexts alone."""
    return Variant(label, METHOD, settings={"contexts": list(contexts), "action": action})


VARIANTS: dict[str, Variant] = {
    METHOD: ablation("off-dynamics planner (R+DS+ID)", "return", "dynamics", "inverse"),
    "dynamics_score": Variant(
        "off-dynamics planner, score of dynamics alone", METHOD, settings={"score": "dynamics"}
    ),
    "r": ablation("R", "return"),
    "r_onehot": ablation("R+one-hot", "return", "domain"),
    "r_ds": ablation("R+DS", "return", "dynamics"),
    "r_ds_ia": ablation("R+DS+inverse action", "return", "dynamics", action="inverse"),
    "diffuser_source": Variant("Diffuser, source", "diffuser", data="source"),
    "diffuser_target": Variant("Diffuser, target", "diffuser", data="target"),
    "diffuser_finetune": Variant("Diffuser, fine-tuned", "diffuser", "finetune"),
    "cql_finetune": Variant("CQL, fine-tuned", "cql", "finetune"),
    "bcq_finetune": Variant("BCQ, fine-tuned", "bcq", "finetune"),
    "cql_dara": Variant("CQL + DARA", "cql", "dara"),
    "bcq_dara": Variant("BCQ + DARA", "bcq", "dara"),
}
"""Table I's columns and Fig. 2's bars. Whatever cannot be trained here has a row that says why."""


@dataclass(frozen=True)
class OffDynamics:
    """Train and evaluate the variants on one pair of datasets; write the table, and a picture if masses are given."""

    source: str
    """Dataset id of the system with much data."""
    target: str
    """Dataset id of the system that policies are for."""
    out: Path = Path("runs/off-dynamics")
    """One run folder a variant, off_dynamics.json, off_dynamics.md and off_dynamics.png."""
    variants: tuple[str, ...] = tuple(VARIANTS)
    """Which to train, in order."""
    masses: tuple[float, ...] = ()
    """Total masses in kg at which the variants are evaluated too, the planner told contexts between both systems'."""
    preset: str = "cpu"
    """Which settings each variant starts from."""
    scale: float = 1.0
    """Times every number of gradient steps."""
    set: tuple[str, ...] = ()
    """KEY=VALUE: change one setting of the off-dynamics planner."""
    seeds: int = 3
    """Seeds of each: 0, 1, …"""
    episodes: int = 50
    """Evaluation episodes a seed, and at each mass."""

    def run(self) -> dict[str, Any]:
        """Train what is missing, evaluate, write and print."""
        require_at_least(1, seeds=self.seeds, episodes=self.episodes)
        if not self.scale > 0:
            raise UsageError(f"--scale must be above 0, got {self.scale}")
        for name in self.variants:
            if name not in VARIANTS:
                raise UsageError(f"--variants {name} is none of them; {nearest(name, VARIANTS)}")
        source, target = (task_of(open_dataset(name), name) for name in (self.source, self.target))
        ends = (total_mass(source), total_mass(target)) if self.masses else (math.nan, math.nan)
        self.out.mkdir(parents=True, exist_ok=True)
        rows = self.kept()
        for name in self.variants:
            if name not in rows:
                found = self.row(VARIANTS[name], self.out / name, target, ends)
                rows[name] = {"label": VARIANTS[name].label} | found
            rows = {key: rows[key] for key in VARIANTS if key in rows}
            self.write(rows)
        Console().print(table(rows), markup=False, highlight=False)
        return rows

    def kept(self) -> dict[str, Any]:
        """Rows of the folder's last table that were evaluated as is asked for now, and whose runs are still there."""
        path = self.out / "off_dynamics.json"
        if not path.is_file():
            return {}
        report = json.loads(path.read_text())
        if any(report["settings"][name] != self.settings()[name] for name in EVALUATED_BY):
            return {}
        return {
            name: row
            for name, row in report["rows"].items()
            if "steps" in row and (self.out / name / "summary.json").is_file()
        }

    def settings(self) -> dict[str, Any]:
        """These settings, ready for JSON."""
        return json.loads(json.dumps(dataclasses.asdict(self), default=str))

    def row(self, variant: Variant, folder: Path, target: Task, ends: tuple[float, float]) -> dict[str, Any]:
        """A variant's score on the target and its returns by mass; or why there are none."""
        try:
            loaded = self.trained(variant, folder)
        except (UsageError, DivergedError) as error:
            return {"missing": str(error)}
        found: dict[str, Any] = {"steps": updates_of(loaded)} | self.evaluated(loaded.policies, target)
        if self.masses:
            found["returns_by_mass"] = [
                self.evaluated(told_for_mass(loaded, mass, *ends), of_mass(target, mass))["return"]
                for mass in self.masses
            ]
        return found

    def trained(self, variant: Variant, folder: Path) -> LoadedRun:
        """The finished run of a variant, trained if it is not there."""
        from langevin.commands.train import parse_setting

        if not (folder / "summary.json").is_file():
            alone = {"source": self.source, "target": self.target}.get(variant.data)
            changed = dict(map(parse_setting, self.set)) if variant.algorithm == METHOD else {}
            request = RunRequest(
                variant.algorithm, alone or self.source, folder, preset=self.preset, seeds=tuple(range(self.seeds)),
                episodes=1, resume=folder.exists(), target_dataset=None if alone else self.target,
                transfer=variant.transfer, learning_curve=False,
                overrides=self.scaled(variant) | dict(variant.settings) | changed,
            )  # fmt: skip
            run(request, progress=BarProgress())
        return load_run(folder)

    def scaled(self, variant: Variant) -> dict[str, int]:
        """All numbers of gradient steps that the variant's preset has, times the scale."""
        settings = load_settings(variant.algorithm, None, self.preset, self.source, {}, variant.transfer)
        named = [name for name in STEP_SETTINGS if hasattr(settings, name)]
        return {name: max(1, round(self.scale * getattr(settings, name))) for name in named}

    def evaluated(self, policies: Policy, task: Task) -> dict[str, Any]:
        """Scores from the start states that every variant begins in."""
        episodes = run_episodes(
            policies,
            task,
            seeds=self.seeds,
            episodes=self.episodes,
            seed=EVALUATION_SEED,
            progress=BarProgress(),
        )
        return score_summary(np.asarray(episodes.returns), task)

    def write(self, rows: dict[str, Any]) -> None:
        """The rows that there are so far, as JSON, as a table and as a picture."""
        report = {"settings": self.settings(), "masses": list(self.masses), "rows": rows}
        atomic_write(self.out / "off_dynamics.json", json.dumps(report, indent=1) + "\n")
        atomic_write(self.out / "off_dynamics.md", table(rows))
        if self.masses:
            save_png(picture(self.masses, rows), self.out / "off_dynamics.png")


def updates_of(loaded: LoadedRun) -> int:
    """Gradient steps of what acts, on the source and on the target."""
    return sum(stage.steps for stage in loaded.stages if stage.name in ("source", "policy"))


def total_mass(task: Task) -> float:
    """Of a robot's bodies, kg. Raises UsageError for a task without a robot."""
    from langevin.envs.robot_model import robot_model  # MuJoCo, for who asks for masses

    if task.robot is None:
        raise UsageError(f"masses are a robot's, and task {task.id} has none; leave out --masses")
    return float(robot_model(task.robot, task.physics, task.shifts).body_mass.sum())


def of_mass(task: Task, mass: float) -> Task:
    """A robot's task as it is without shifts, but for its total mass in kg; scored on the same references."""
    assert task.robot is not None
    source = get_task(task.robot.name, task.physics)
    shift = PhysicsShift("total_mass", value=mass)
    return dataclasses.replace(source, id=f"{source.id}/total_mass={mass:g}", shifts=(shift,))


def told_for_mass(loaded: LoadedRun, mass: float, source: float, target: float) -> Policy:
    """The policies told the contexts of a mass; a method that is told none acts as it does."""
    if loaded.config.algorithm != METHOD:
        return loaded.policies
    typical = np.asarray(loaded.result.states["policy"].diagnostics.typical).mean(axis=0)[0]
    sources = {
        "dynamics": LABEL_OF_SOURCE,
        "domain": LABEL_OF_SOURCE,
        "inverse": float(typical[CONTEXTS.index("inverse")]),
    }
    wanted = interpolated(mass, source, target, sources)
    return loaded.told({name: wanted[name] for name in loaded.settings.contexts if name in wanted})


def interpolated(mass: float, source: float, target: float, sources: Mapping[str, float]) -> dict[str, float]:
    """Contexts scaled linearly with the mass between the source's and what is asked of the target (Section V-D).

    Beyond either of the two masses they stay what they are there.
    """
    share = float(np.clip((source - mass) / (source - target), 0, 1))
    return {name: (1 - share) * value + share * WANTED[name] for name, value in sources.items()}  # pyright: ignore


def table(rows: Mapping[str, Any]) -> str:
    """Markdown: a row a variant, with the interquartile mean of its normalised scores and its interval."""
    lines = ["| variant | updates | normalised score on the target | seeds |", "| --- | ---: | ---: | --- |"]
    for row in rows.values():
        if "missing" in row:
            lines.append(f"| {row['label']} | | none: {row['missing']} | |")
            continue
        score = row["normalized_score"]
        low, high = score["ci95"]
        interval = f" [{low:.1f}, {high:.1f}]" if low is not None else ""
        seeds = " ".join(f"{value:.1f}" for value in score["per_seed"])
        lines.append(f"| {row['label']} | {row['steps']:,} | {score['iqm']:.1f}{interval} | {seeds} |")
    return "\n".join(lines) + "\n"


def picture(masses: tuple[float, ...], rows: Mapping[str, Any]) -> Figure:
    """Mean return by mass, a line a variant, with the interval where there is one (Fig. 3)."""
    figure = new_figure(5.6, 3.6)
    ax = figure.subplots()
    style_axes(
        ax, xlabel="total mass (kg)", ylabel="mean return", title="Between and beyond two known masses"
    )
    drawn = [row for row in rows.values() if row.get("returns_by_mass")]
    for index, row in enumerate(drawn):
        style, found = series_style(index), row["returns_by_mass"]
        means = [entry["mean"] for entry in found]
        ax.plot(
            masses, means, color=style.color, linestyle=style.dash, marker=style.marker, markersize=4,
            label=row["label"],
        )  # fmt: skip
        low, high = ([entry["ci95"][side] for entry in found] for side in (0, 1))
        if None not in low + high:
            ax.fill_between(masses, low, high, color=style.color, alpha=0.12, linewidth=0)
    ax.legend(frameon=False, fontsize=FONT_POINTS - 1, labelcolor=color("ink"))
    return figure


if __name__ == "__main__":
    enable_compile_cache()
    tyro.cli(OffDynamics, description=__doc__).run()
