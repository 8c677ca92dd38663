"""`langevin fidelity RUN`: how far a run's world model can be trusted."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from langevin.data.sources import open_dataset
from langevin.errors import UsageError
from langevin.experiments.fidelity import fidelity_report
from langevin.experiments.runs import load_run, one_seed
from langevin.progress import BarProgress


@dataclass(frozen=True)
class Fidelity:
    """Measure a DyDiff run's world models against the simulator replaying the same actions.

    Examples:
    langevin fidelity runs/dydiff-td3bc-pointmaze-umaze-v0
    langevin fidelity runs/dydiff-td3bc-pointmaze-umaze-v0 --rollouts 256 --strengths 0 0.25 0.5 1
    """

    run_folder: tyro.conf.Positional[Path]
    """The folder of a finished DyDiff run."""
    rollouts: int = 128
    """Start states, drawn from the dataset."""
    refinements: int = 3
    """How often rollouts are refined."""
    strengths: tuple[float, ...] = ()
    """Conditioning strengths to measure beside the run's own."""
    seed: int = 0
    """Which of the run's seeds to examine, by its place."""
    json: bool = False
    """Print the result as one JSON object."""

    def run(self) -> dict[str, Any]:
        """Write fidelity.json and the figures into the run folder; print the verdict."""
        if self.rollouts < 2 or self.refinements < 1:
            raise UsageError(
                f"fidelity needs at least 2 rollouts and 1 refinement, got {self.rollouts} and {self.refinements}"
            )
        if any(not 0 <= strength <= 3 for strength in self.strengths):
            raise UsageError(f"strengths must lie between 0 and 3, got {list(self.strengths)}")
        loaded = load_run(self.run_folder)
        if loaded.config.algorithm != "dydiff" or loaded.settings.iterations == 0:
            raise UsageError(
                f"{self.run_folder} holds a run of {loaded.config.algorithm} without a trajectory world model; "
                "fidelity examines dydiff runs with iterations >= 1"
            )
        task = loaded.system.task
        if not task.has_simulator:
            raise UsageError(
                f"{self.run_folder} was trained on logs of a system without a simulator here; fidelity compares "
                "with the simulator"
            )
        if task.maze is None or task.drawn_goals:
            raise UsageError(
                f"{self.run_folder} was trained in {task.id}; fidelity's reference policies are those of the mazes "
                "with one goal"
            )
        if not 0 <= self.seed < len(loaded.config.seeds):
            raise UsageError(f"--seed must be 0 to {len(loaded.config.seeds) - 1}, got {self.seed}")
        report = fidelity_report(
            self.run_folder, loaded, one_seed(loaded.result.states, self.seed), open_dataset(loaded.config.dataset),
            rollouts=self.rollouts, strengths=self.strengths, refinements=self.refinements, progress=BarProgress(),
        )  # fmt: skip
        if self.json:
            print(json.dumps(report))
        else:
            console = Console()
            for sentence in report["verdict"]:
                console.print(f"• {sentence}", highlight=False)
            console.print(f"Table and figures are in {self.run_folder}", highlight=False)
        return report
