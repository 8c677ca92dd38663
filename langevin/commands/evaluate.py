"""`langevin evaluate RUN`: episodes of a finished run's policies in the real environment."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console

from langevin.data.sources import open_dataset
from langevin.envs.tasks import get_task
from langevin.errors import UsageError
from langevin.evaluation.episodes import run_episodes
from langevin.evaluation.fitted_q import FittedQ
from langevin.evaluation.scores import score_summary
from langevin.experiments.in_world import in_world_report, print_in_world
from langevin.experiments.off_policy import off_policy_report, print_off_policy
from langevin.experiments.pictures import draw_episodes
from langevin.experiments.runs import EVALUATION_SEED, LoadedRun, load_run
from langevin.progress import BarProgress
from langevin.report.table import print_results
from langevin.training.files import atomic_write
from langevin.training.run_folder import read_summary, write_summary

NOISES = 5


@dataclass(frozen=True)
class Evaluate:
    """Run a trained policy in the real environment and update the run's summary, or judge it without one.

    Examples:
    langevin evaluate runs/td3bc-pointmaze-umaze-v0
    langevin evaluate runs/diffuser-pointmaze-umaze-v0 --episodes 200
    langevin evaluate runs/off_dynamics-hopper-leg_size-target-v0 --contexts return=1 dynamics=0.5 inverse=0
    langevin evaluate runs/iql-hopper-medium-v0 --fqe
    langevin evaluate runs/mopo-hopper-medium-v0 --in-world-model
    langevin evaluate runs/iql-hopper-medium-v0 --in-world-model --world-model runs/mopo-hopper-medium-v0
    """

    run_folder: tyro.conf.Positional[Path]
    """The folder of a finished run."""
    episodes: int = 100
    """Episodes a seed."""
    task: str | None = None
    """Evaluate in another task of the same shape; the run's summary is then left as it is."""
    sample: bool = False
    """Stochastic policies act by samples, not by their mode; the run's summary is then left as it is."""
    contexts: tuple[str, ...] = ()
    """NAME=VALUE: what a planner is told in place of its own contexts; the run's summary is then left as it is."""
    fqe: bool = False
    """Estimate the discounted return from the dataset alone (fitted-Q evaluation), beside the true one."""
    fqe_steps: int = 20_000
    """Updates of that estimate's critic."""
    in_world_model: bool = False
    """Predict the return in a learned world model, beside the true one."""
    world_model: Path | None = None
    """The run whose world model that is; without it the run's own."""
    noises: int | None = None
    """With --in-world-model: how often each start state is imagined, with other noise every time; without it 5."""
    steps: int | None = None
    """With --in-world-model: transitions of an episode at most; without it the task's."""
    seed: int = EVALUATION_SEED
    """Where start states are drawn from."""
    json: bool = False
    """Print the result as one JSON object."""

    def run(self) -> dict[str, Any]:
        """Evaluate, draw the paths, write summary.json, print the table."""
        if self.episodes < 1:
            raise UsageError(f"--episodes must be at least 1, got {self.episodes}")
        loaded = load_run(self.run_folder)
        if self.fqe and self.in_world_model:
            raise UsageError("--fqe and --in-world-model are two evaluations; ask for one at a time")
        if (self.fqe or self.in_world_model) and (self.task or self.sample or self.contexts):
            raise UsageError(
                "--task, --sample and --contexts are for the real environment; --fqe and --in-world-model judge the "
                "greedy policy in the run's own task"
            )
        if self.fqe:
            return self.evaluate_off_policy(loaded)
        if self.in_world_model:
            return self.evaluate_in_world(loaded)
        for name in ("world_model", "noises", "steps"):
            if getattr(self, name) is not None:
                raise UsageError(f"--{name.replace('_', '-')} goes with --in-world-model; add that")
        task = get_task(self.task) if self.task else loaded.system.task
        if task.observation_size != loaded.system.observation_size:
            raise UsageError(
                f"task {task.id} has {task.observation_size} observation dimensions, the run's policy "
                f"{loaded.system.observation_size}"
            )
        policies = loaded.told(dict(map(parse_context, self.contexts))) if self.contexts else loaded.policies
        episodes = run_episodes(
            policies, task, seeds=len(loaded.config.seeds), episodes=self.episodes, seed=self.seed,
            keep_observations=True, sample=self.sample, progress=BarProgress(),
        )  # fmt: skip
        summary = read_summary(self.run_folder) | score_summary(np.asarray(episodes.returns), task)
        summary |= {"episodes": self.episodes, "task": task.id}
        if self.task is None and not self.sample and not self.contexts:
            write_summary(self.run_folder, summary)
            draw_episodes(self.run_folder, task, loaded.policies, episodes)
        if self.json:
            print(json.dumps(summary))
        else:
            print_results([summary], Console())
        return summary

    def evaluate_off_policy(self, loaded: LoadedRun) -> dict[str, Any]:
        """Write fqe.json and print the estimate, beside the truth where there is a simulator."""
        settings = FittedQ(steps=self.fqe_steps)
        result = off_policy_report(
            loaded, settings, episodes=self.episodes, seed=self.seed, progress=BarProgress()
        )
        atomic_write(self.run_folder / "fqe.json", json.dumps(result, indent=1) + "\n")
        if self.json:
            print(json.dumps(result))
        else:
            print_off_policy(result, Console())
        return result

    def evaluate_in_world(self, loaded: LoadedRun) -> dict[str, Any]:
        """Write in_world_model.json and print the prediction, beside the truth where there is a simulator."""
        judge = load_run(self.world_model) if self.world_model else loaded
        result = in_world_report(
            loaded, judge, open_dataset(judge.config.dataset), starts=self.episodes,
            noises=NOISES if self.noises is None else self.noises, steps=self.steps, seed=self.seed,
            progress=BarProgress(),
        )  # fmt: skip
        result["world_model"] = str(self.world_model or self.run_folder)
        atomic_write(self.run_folder / "in_world_model.json", json.dumps(result, indent=1) + "\n")
        if self.json:
            print(json.dumps(result))
        else:
            print_in_world(result, Console())
        return result


def parse_context(text: str) -> tuple[str, float]:
    """ "dynamics=0.5" as a name and a number. Raises UsageError for anything else."""
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise UsageError(f"--contexts takes NAME=VALUE with a number, got {text!r}") from None
