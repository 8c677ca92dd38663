"""Every dataset that can be made here: its size, its returns, what it costs to make, and what cloning it gives.

    python -m langevin.experiments.dataset_table --out runs/datasets
    python -m langevin.experiments.dataset_table hopper/medium-v0 --clone --out runs/datasets

A clone of one policy's data should return what the data did. It can only where it acts as randomly as they did, so
it is a Gaussian that acts by samples; beside it stands its mode, which is what other learners are judged by.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from jaxtyping import Bool
from rich.console import Console

from langevin.data.sources import open_dataset
from langevin.data.sources.minari import dataset_path, list_datasets, save_dataset
from langevin.data.trajectories import Trajectories
from langevin.envs.tasks import Task
from langevin.evaluation.episodes import run_episodes
from langevin.evaluation.scores import score_summary
from langevin.experiments.datasets import make_dataset, makeable_datasets
from langevin.experiments.runs import EVALUATION_SEED, RunRequest, load_run, run, task_of
from langevin.progress import AbstractProgress, BarProgress
from langevin.training.files import atomic_write

CLONE_SEEDS = (0, 1, 2)
CLONE_EPISODES = 50


@dataclass(frozen=True)
class DatasetTable:
    """Make what is missing, measure everything, write datasets.json and datasets.md."""

    datasets: tyro.conf.Positional[tuple[str, ...]] = ()
    """Ids (default: every one that can be made)."""
    clone: bool = False
    """Also train behaviour cloning on each, three seeds."""
    steps: int = 20_000
    """Gradient steps of the clone."""
    out: Path = Path("runs/datasets")
    """Where the table and the clones' runs go."""

    def run(self) -> dict[str, Any]:
        """The rows, by dataset; those measured before are kept."""
        self.out.mkdir(parents=True, exist_ok=True)
        file, progress, console = self.out / "datasets.json", BarProgress(), Console()
        rows = json.loads(file.read_text("utf-8")) if file.is_file() else {}
        for dataset_id in self.datasets or tuple(makeable_datasets()):
            row = rows.get(dataset_id) or measured(dataset_id, progress)
            if self.clone and "clone" not in row:
                row |= cloned(dataset_id, self.out / "clones" / dataset_id, self.steps, progress)
            rows[dataset_id] = row
            console.print(f"{dataset_id}: {row}", highlight=False)
            atomic_write(file, json.dumps(rows, indent=1).encode())
            atomic_write(self.out / "datasets.md", table(rows).encode())
        return rows


def measured(dataset_id: str, progress: AbstractProgress) -> dict[str, Any]:
    """Size, returns and score of a dataset, and the seconds it took if it had to be made."""
    seconds = None
    if dataset_id not in list_datasets():
        began = time.perf_counter()
        save_dataset(make_dataset(dataset_id, None, seed=0, progress=progress), dataset_id)
        seconds = time.perf_counter() - began
    data = open_dataset(dataset_id)
    task = task_of(data, dataset_id)
    returns = data.episode_returns()[complete(data, task)]
    files = dataset_path(dataset_id).rglob("*")
    return {
        "transitions": data.transitions,
        "episodes": data.episodes,
        "complete_episodes": len(returns),
        "return": [float(returns.mean()), float(returns.max())],
        "normalized_score": task.normalized_score(np.array([returns.mean(), returns.max()])).tolist(),
        "seconds": seconds,
        "bytes": sum(path.stat().st_size for path in files if path.is_file()),
    }


def complete(data: Trajectories, task: Task) -> Bool[np.ndarray, " episodes"]:
    """Episodes that ended by themselves or by the task's clock, not because the log stopped; all where none did."""
    whole = data.terminations[data.episode_ends - 1] | (data.episode_lengths() >= task.max_steps)
    return whole if whole.any() else np.ones(data.episodes, bool)


def cloned(dataset_id: str, out: Path, steps: int, progress: AbstractProgress) -> dict[str, Any]:
    """Mean return of Gaussian clones by samples and by their mode, with its interval over seeds."""
    request = RunRequest(
        "bc", dataset_id, out, seeds=CLONE_SEEDS, episodes=CLONE_EPISODES,
        overrides={"learner.gaussian": True, "steps": steps}, resume=out.exists(),
    )  # fmt: skip
    by_mode = run(request, progress=progress)["return"]
    loaded = load_run(out)
    episodes = run_episodes(
        loaded.policies, loaded.system.task, seeds=len(CLONE_SEEDS), episodes=CLONE_EPISODES, seed=EVALUATION_SEED,
        sample=True, progress=progress,
    )  # fmt: skip
    by_samples = score_summary(episodes.returns, loaded.system.task)["return"]
    return {"clone": by_samples, "clone_mode": by_mode, "clone_steps": steps}


def table(rows: dict[str, dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = [
        "| dataset | transitions | episodes | mean return | max | score of the mean | of the max | s to make | MB "
        "| clone (samples) | share of the data's | clone (mode) |",
        "| --- |" + " ---: |" * 11,
    ]
    for dataset_id, row in rows.items():
        mean, highest = row["return"]
        scores = row["normalized_score"]
        seconds = "" if row["seconds"] is None else f"{row['seconds']:.0f}"
        clone, share, mode = "", "", ""
        if "clone" in row:
            low, high = row["clone"]["ci95"]
            clone = f"{row['clone']['mean']:,.0f} [{low:,.0f}, {high:,.0f}]"
            share, mode = f"{row['clone']['mean'] / mean:.2f}", f"{row['clone_mode']['mean']:,.0f}"
        lines.append(
            f"| {dataset_id} | {row['transitions']:,} | {row['episodes']:,} | {mean:,.1f} | {highest:,.1f} "
            f"| {scores[0]:.1f} | {scores[1]:.1f} | {seconds} | {row['bytes'] / 1e6:.0f} | {clone} | {share} | {mode} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    tyro.cli(DatasetTable, description=__doc__).run()
