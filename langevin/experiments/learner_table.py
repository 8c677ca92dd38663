"""Every learner on every dataset at one budget: the table that the published orders are read against.

    python -m langevin.experiments.learner_table --learners bc td3bc iql --datasets hopper/medium-v0 --steps 100000

A run that is finished is kept and one that was stopped goes on, so the table can grow over days.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from langevin.errors import UsageError
from langevin.experiments.runs import RunRequest, run
from langevin.progress import BarProgress
from langevin.training.algorithms.registry import find_algorithm
from langevin.training.files import atomic_write
from langevin.training.run_folder import read_summary

ROBOTS = ("hopper", "halfcheetah", "walker2d")
LEVELS = ("random", "medium", "medium-replay", "medium-expert")
MAZES = ("pointmaze/umaze-v0", "pointmaze/medium-v0", "pointmaze/large-v0")
DATASETS = (*(f"{robot}/{level}-v0" for robot in ROBOTS for level in LEVELS), *MAZES)
TEN_PERCENT = "bc-10%"


@dataclass(frozen=True)
class LearnerTable:
    """Train what is missing and write learners.md and learners.json."""

    learners: tuple[str, ...] = ("bc", TEN_PERCENT, "td3bc", "iql", "cql", "sac")
    """Algorithms; bc-10% clones the best tenth of the episodes."""
    datasets: tuple[str, ...] = DATASETS
    """Dataset ids."""
    steps: int = 100_000
    """Gradient steps of each."""
    seeds: int = 3
    """Seeds of each: 0, 1, …"""
    episodes: int = 50
    """Evaluation episodes a seed."""
    out: Path = Path("runs/learners")
    """One run folder a cell."""

    def run(self) -> dict[str, dict[str, Any]]:
        """The summaries, by learner and dataset."""
        if self.seeds < 2:
            raise UsageError(f"--seeds must be at least 2, for an interval needs a spread; got {self.seeds}")
        for learner in self.learners:
            find_algorithm(algorithm_of(learner))
        self.out.mkdir(parents=True, exist_ok=True)
        cells: dict[str, dict[str, Any]] = {}
        for dataset in self.datasets:
            for learner in self.learners:
                cells.setdefault(learner, {})[dataset] = self.cell(learner, dataset)
                atomic_write(self.out / "learners.json", json.dumps(cells, indent=1) + "\n")
                atomic_write(self.out / "learners.md", table(cells, self.datasets))
        return cells

    def cell(self, learner: str, dataset: str) -> dict[str, Any]:
        """The summary of one run, trained if it is not there."""
        folder = self.out / learner / dataset
        if (folder / "summary.json").is_file():
            return read_summary(folder)
        overrides: dict[str, Any] = {"steps": self.steps}
        if learner == TEN_PERCENT:
            overrides["best_share"] = 0.1
        request = RunRequest(
            algorithm_of(learner), dataset, folder, seeds=tuple(range(self.seeds)), episodes=self.episodes,
            overrides=overrides, resume=folder.exists(),
        )  # fmt: skip
        return run(request, progress=BarProgress())


def algorithm_of(learner: str) -> str:
    """The algorithm behind a column's name."""
    return "bc" if learner == TEN_PERCENT else learner


def table(cells: dict[str, dict[str, Any]], datasets: tuple[str, ...]) -> str:
    """Interquartile means of normalised scores with their intervals, a row a dataset."""
    lines = [f"| dataset | {' | '.join(cells)} |", "| --- |" + " ---: |" * len(cells)]
    for dataset in datasets:
        words = [score(cells[learner].get(dataset)) for learner in cells]
        lines.append(f"| {dataset} | {' | '.join(words)} |")
    return "\n".join(lines) + "\n"


def score(summary: dict[str, Any] | None) -> str:
    """ "44.1 [43.0, 45.2]", or nothing where there is no run."""
    if summary is None:
        return ""
    block = summary["normalized_score"]
    return f"{block['iqm']:.1f} [{block['ci95'][0]:.1f}, {block['ci95'][1]:.1f}]"


if __name__ == "__main__":
    tyro.cli(LearnerTable, description=__doc__).run()
