"""`langevin fidelity RUN`: how far a run's world model can be trusted."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console

from langevin.data.sources import open_dataset
from langevin.errors import UsageError
from langevin.experiments.fidelity import fidelity_report, save_fidelity
from langevin.experiments.runs import LoadedRun, load_run, one_seed
from langevin.experiments.world_fidelity import world_fidelity
from langevin.progress import BarProgress
from langevin.report.world_fidelity import world_verdict
from langevin.training.algorithms.registry import ALGORITHMS, find_algorithm


@dataclass(frozen=True)
class Fidelity:
    """Measure a run's world model against the simulator replaying the same actions.

    A model that draws experience and answers no actions (synther, mtdiff, policy_guided) is held to those it drew.

    Examples:
    langevin fidelity runs/mopo-hopper-medium-v0
    langevin fidelity runs/synther-td3bc-pointmaze-umaze-v0
    langevin fidelity runs/dydiff-td3bc-pointmaze-umaze-v0
    langevin fidelity runs/dydiff-td3bc-pointmaze-umaze-v0 --rollouts 256 --strengths 0 0.25 0.5 1
    langevin fidelity runs/dydiff-td3bc-pointmaze-umaze-v0 --refine-from rollout
    """

    run_folder: tyro.conf.Positional[Path]
    """The folder of a finished run that learned a world model."""
    rollouts: int = 128
    """Start states, drawn from the dataset; of a model that answers no actions, windows that it draws."""
    refinements: int = 3
    """How often rollouts are refined."""
    strengths: tuple[float, ...] = ()
    """Conditioning strengths to measure beside the run's own."""
    refine_from: Literal["noise", "rollout"] | None = None
    """What refinements begin at; none: what the run's do."""
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
        algorithm = find_algorithm(loaded.config.algorithm)
        if algorithm.world is None and algorithm.draws is None:
            able = ", ".join(name for name, other in ALGORITHMS.items() if other.world or other.draws)
            raise UsageError(
                f"{self.run_folder} holds a run of {loaded.config.algorithm}, which has no world model; "
                f"fidelity examines runs of {able}"
            )
        if not loaded.system.task.has_simulator:
            raise UsageError(
                f"{self.run_folder} was trained on logs of a system without a simulator here; fidelity compares "
                "with the simulator"
            )
        if not 0 <= self.seed < len(loaded.config.seeds):
            raise UsageError(f"--seed must be 0 to {len(loaded.config.seeds) - 1}, got {self.seed}")
        if (self.strengths or self.refine_from) and not has_refinements(loaded):
            raise UsageError(
                "--strengths and --refine-from are of a trajectory world model in a maze with one goal; "
                f"{self.run_folder} has none"
            )
        if self.refine_from:
            loaded = replace(loaded, settings=replace(loaded.settings, refine_from=self.refine_from))
        states, data = one_seed(loaded.result.states, self.seed), open_dataset(loaded.config.dataset)
        report: dict[str, Any] = {"task": loaded.system.task.id, "algorithm": loaded.config.algorithm}
        if has_refinements(loaded):
            report |= fidelity_report(
                self.run_folder, loaded, states, data, rollouts=self.rollouts, strengths=self.strengths,
                refinements=self.refinements, progress=BarProgress(),
            )  # fmt: skip
        report["worlds"] = world_fidelity(
            loaded, states, data, rollouts=self.rollouts, progress=BarProgress()
        )
        save_fidelity(self.run_folder, report)
        if self.json:
            print(json.dumps(report))
        else:
            console = Console()
            for sentence in [*report.get("verdict", []), *world_verdict(report["worlds"])]:
                console.print(f"• {sentence}", highlight=False)
            console.print(f"Table and figures are in {self.run_folder}", highlight=False)
        return report


def has_refinements(loaded: LoadedRun) -> bool:
    """Whether a trajectory model refines rollouts in a maze with one goal, where reference policies are known."""
    task = loaded.system.task
    refines = loaded.config.algorithm == "dydiff" and loaded.settings.iterations > 0
    return refines and task.maze is not None and not task.drawn_goals
