"""`langevin data`: what is on disk, what can be made, and whether it can be trusted."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Column, Table

from langevin.data.checks import Finding, find
from langevin.data.endings import find_suspicious_ends
from langevin.data.sources import open_dataset
from langevin.data.sources.d4rl import published
from langevin.data.sources.minari import (
    datasets_folder,
    list_datasets,
    require_free,
    save_dataset,
)
from langevin.data.trajectories import Trajectories
from langevin.envs.agreement import find_disagreements
from langevin.envs.shift_effects import changed_fields, one_step_difference
from langevin.envs.shifts import ALMOST_NO_SHIFT
from langevin.envs.tasks import Task, find_task, get_task, never_terminates, task_of_dataset
from langevin.errors import UsageError
from langevin.experiments.behaviour_training import train_behaviour
from langevin.experiments.datasets import make_dataset, makeable_datasets
from langevin.experiments.online import OnlineTraining
from langevin.progress import AbstractProgress, BarProgress, SilentProgress

DatasetId = tyro.conf.Positional[str]
ObservationKeys = tuple[str, ...]


@dataclass(frozen=True)
class ListDatasets:
    """List the datasets on disk and those that can be made here.

    Example: langevin data list
    """

    json: bool = False
    """Print the result as one JSON object."""

    def run(self) -> dict[str, Any]:
        makeable, on_disk = makeable_datasets(), list_datasets()
        entries = {
            dataset_id: {
                "on_disk": dataset_id in on_disk,
                "can_be_made": dataset_id in makeable,
                "transitions": on_disk.get(dataset_id, {}).get("total_steps"),
                "episodes": on_disk.get(dataset_id, {}).get("total_episodes"),
                "description": makeable.get(dataset_id, ""),
            }
            for dataset_id in sorted({*makeable, *on_disk})
        }
        result = {"folder": str(datasets_folder()), "datasets": entries, "d4rl": sorted(published())}
        if self.json:
            return _print_json(result)
        table = Table(
            Column("id", no_wrap=True), Column("on disk", no_wrap=True), "langevin data make ID runs"
        )
        for dataset_id, entry in entries.items():
            size = (
                f"{_count(entry['transitions'])} in {_count(entry['episodes'])}" if entry["on_disk"] else ""
            )
            table.add_row(dataset_id, size, entry["description"])
        console = Console()
        console.print(table)
        console.print(
            f"On disk: transitions in episodes, kept in {datasets_folder()} (set MINARI_DATASETS_PATH to move them)."
        )
        console.print(
            f"Downloaded when named: minari:ID of Minari's server, and {len(result['d4rl'])} of D4RL's, as "
            "d4rl:hopper-medium-v2 (--json lists them).",
            highlight=False,
        )
        return result


@dataclass(frozen=True)
class Info:
    """Show a dataset's size, returns, scores and origin.

    Example: langevin data info pointmaze/umaze-v0
    """

    dataset: DatasetId
    """Dataset id, d4rl:NAME, minari:ID, a file in D4RL's layout, or the folder of a Minari dataset."""
    observation_keys: ObservationKeys = ()
    """Entries of a dictionary observation to use, in order."""
    json: bool = False
    """Print the result as one JSON object."""

    def run(self) -> dict[str, Any]:
        data = open_dataset(self.dataset, self.observation_keys, _progress(self.json))
        task = find_task(data.metadata, self.dataset)
        returns, lengths = data.episode_returns(), data.episode_lengths()
        result = {
            "id": data.metadata.get("id"),
            "task": task.id if task else None,
            "transitions": data.transitions,
            "episodes": data.episodes,
            "observation_size": data.observation_size,
            "action_size": data.action_size,
            "action_low": data.action_low.tolist(),
            "action_high": data.action_high.tolist(),
            "episode_length": _statistics(lengths),
            "return": _statistics(returns),
            "normalized_score": _statistics(task.normalized_score(returns)) if task else None,
            "terminated_episodes": int(data.terminations.sum()),
            "shift": _shift_words(task, data) if task and task.shifts else None,
            **{
                key: data.metadata.get(key)
                for key in (
                    "reference_scores",
                    "target_returns",
                    "physics",
                    "recipe",
                    "notes",
                    "seed",
                    "versions",
                )
            },
        }
        if self.json:
            return _print_json(result)
        table = Table("", "", show_header=False)
        for key, value in result.items():
            if value is not None:
                table.add_row(key.replace("_", " "), _words(value))
        Console().print(table)
        return result


@dataclass(frozen=True)
class Make:
    """Make a dataset in the simulator, without a download: the same seed gives the same files.

    Example: langevin data make pointmaze/umaze-v0 --transitions 200000

    Example: langevin data make pointmaze/umaze-v0 --action-noise 0.5 --as pointmaze/umaze-noisy-v0

    Example: langevin data make hopper/leg_size/target-v0 --behaviour runs/diffuser-hopper
    """

    dataset: DatasetId
    """Dataset id, one of `langevin data list`."""
    transitions: int | None = None
    """Environment steps to collect (default: 1,000,000; 10,000 of a target set; a replay's own number)."""
    seed: int = 0
    """Seed of goals, starts and noise."""
    action_noise: float = 0.0
    """Standard deviation of Gaussian noise on the actions, clipped after it (D4RL's noisy data: 0.5)."""
    save_as: Annotated[str, tyro.conf.arg(name="as")] = ""
    """Another id of the same task to keep the dataset under, as pointmaze/umaze-noisy-v0."""
    behaviour: Path | None = None
    """For a robot: a behaviour policy's file or a finished run that acts in place of the recipe's policy."""
    overwrite: bool = False
    """Replace the dataset of that id, if there is one, once the new one is whole."""
    json: bool = False
    """Print the result as one JSON object."""

    def run(self) -> dict[str, Any]:
        target = self.save_as or self.dataset
        if self.save_as and task_of_dataset(target) is not task_of_dataset(self.dataset):
            raise UsageError(f"{target} names another task than {self.dataset}; keep the beginning of the id")
        require_free(target, self.overwrite)
        began = time.perf_counter()
        data = make_dataset(
            self.dataset, self.transitions, self.seed, self.action_noise, self.behaviour, _progress(self.json)
        )
        path = save_dataset(data, target, self.overwrite)
        result = {
            "id": target,
            "path": str(path),
            "transitions": data.transitions,
            "episodes": data.episodes,
            "seed": self.seed,
            "action_noise": self.action_noise,
            "seconds": round(time.perf_counter() - began, 2),
        }
        if self.json:
            return _print_json(result)
        if (task := task_of_dataset(target)).id in ALMOST_NO_SHIFT:
            Console().print(f"[yellow]warning[/] {ALMOST_NO_SHIFT[task.id]}")
        Console().print(
            f"Made {target}: {data.transitions:,} transitions in {data.episodes:,} episodes, "
            f"{result['seconds']} s, in {path}"
        )
        return result


@dataclass(frozen=True)
class TrainBehaviour:
    """Train a robot's behaviour policies, medium and expert, with SAC in the simulator. It takes hours.

    Example: langevin data train-behaviour hopper --out runs/behaviour-hopper
    """

    task: tyro.conf.Positional[str]
    """A robot: hopper, walker2d or halfcheetah."""
    steps: int = 2_000_000
    """Environment steps at most; it ends when three evaluations reach the expert reference's return."""
    seed: int = 0
    """Seed of networks, starts and noise."""
    copies: int = 16
    """Environments side by side."""
    updates_a_step: float = 0.5
    """Gradient steps for each environment step."""
    out: Path | None = None
    """Folder (default: runs/behaviour-TASK)."""
    resume: bool = False
    """Go on with the training in the folder."""
    json: bool = False
    """Print the result as one JSON object."""

    def run(self) -> dict[str, Any]:
        task = get_task(self.task)
        if task.robot is None:
            raise UsageError(f"{self.task} is no robot; its data are made by a hand-written controller")
        settings = OnlineTraining(
            steps=self.steps, seed=self.seed, copies=self.copies, updates_a_step=self.updates_a_step
        )
        folder = self.out or Path("runs") / f"behaviour-{task.id.replace('/', '-')}"
        result = train_behaviour(task, settings, folder, resume=self.resume, progress=_progress(self.json))
        if self.json:
            return _print_json(result)
        Console().print(f"Wrote {', '.join(result['files'])} after {result['steps']:,} steps.")
        return result


@dataclass(frozen=True)
class Check:
    """Check that a dataset is well formed and agrees with its task, and say what deserves a look.

    Examples:
    langevin data check pointmaze/umaze-v0
    langevin data check pointmaze/umaze-v0 --page check.html
    """

    dataset: DatasetId
    """Dataset id, d4rl:NAME, minari:ID, a file in D4RL's layout, or the folder of a Minari dataset."""
    observation_keys: ObservationKeys = ()
    """Entries of a dictionary observation to use, in order."""
    page: Path | None = None
    """Also write the findings with pictures (returns, coverage, actions, ends) to this HTML page."""
    json: bool = False
    """Print the result as one JSON object."""

    def run(self) -> dict[str, Any]:
        if self.page:
            # Matplotlib takes longer to import than the other commands to run.
            from langevin.report.page import require_place

            require_place(self.page)
        data = open_dataset(self.dataset, self.observation_keys, _progress(self.json))
        task = find_task(data.metadata, self.dataset)
        findings = [*find(data), *_against(task, data)]
        warnings = sum(finding.level == "warning" for finding in findings)
        result = {
            "id": data.metadata.get("id"),
            "task": task.id if task else None,
            "well_formed": True,
            "warnings": warnings,
            "findings": [asdict(finding) for finding in findings],
            "page": str(self.page) if self.page else None,
        }
        if self.page:
            from langevin.report.data_check import write_check_page

            write_check_page(data, task, findings, self.page, self.dataset)
        if self.json:
            return _print_json(result)
        console = Console()
        for finding in findings:
            style = "yellow" if finding.level == "warning" else "default"
            console.print(f"[{style}]{finding.level:8}[/] {finding.field}: {finding.message}")
        compared = f"compared with task {task.id}" if task else "belongs to no task known here"
        console.print(f"Well formed, {compared}; {warnings} warnings.")
        seen = f"Pictures are in {self.page}" if self.page else "Pictures of all this: --page check.html"
        console.print(seen, markup=False, highlight=False)
        return result


def _against(task: Task | None, data: Trajectories) -> Iterator[Finding]:
    """Findings about how episodes end, and about what a known task would have logged."""
    if task is None:
        yield from find_suspicious_ends(data)
    else:
        yield from find_disagreements(data, task)
        yield from find_suspicious_ends(data, task.max_steps, task.termination is not never_terminates)


def _progress(silent: bool) -> AbstractProgress:
    return SilentProgress() if silent else BarProgress()


def _statistics(values: Sequence[float] | np.ndarray) -> dict[str, float]:
    array = np.asarray(values, np.float64)
    return {
        "mean": round(float(array.mean()), 4),
        "std": round(float(array.std()), 4),
        "min": round(float(array.min()), 4),
        "median": round(float(np.median(array)), 4),
        "max": round(float(array.max()), 4),
    }


def _shift_words(task: Task, data: Trajectories) -> dict[str, Any]:
    """What the shift changes against the source, and how far one step of the data's own actions leads elsewhere."""
    changes = {
        f"{change['field']} {change['name']}".strip(): f"{change['before']:g} -> {change['after']:g}"
        for change in changed_fields(task)
    }
    difference = one_step_difference(task, data.observations, data.actions)
    warning = {"warning": ALMOST_NO_SHIFT[task.id]} if task.id in ALMOST_NO_SHIFT else {}
    return {
        **changes,
        "mean one-step difference": f"{difference:.4f} standard deviations of a step",
        **warning,
    }


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key.replace('_', ' ')} {_words(entry)}" for key, entry in value.items())
    if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        return "; ".join(value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _print_json(result: dict[str, Any]) -> dict[str, Any]:
    print(json.dumps(result))
    return result
