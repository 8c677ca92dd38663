"""`langevin bench planning RUN`: decisions a second, and what they are worth, by how plans are drawn."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from langevin.envs.stepping import make_simulator
from langevin.errors import UsageError
from langevin.evaluation.episodes import run_episodes
from langevin.evaluation.planning_speed import deciding, first_windows, renews, resampled, trials
from langevin.evaluation.scores import score_summary
from langevin.evaluation.speed import machine, measure
from langevin.experiments.runs import EVALUATION_SEED, LoadedRun, load_run, one_seed
from langevin.progress import AbstractProgress, BarProgress
from langevin.report.planning import near_the_full_chain, planning_figure
from langevin.report.style import save_png
from langevin.training.files import atomic_write


@dataclass(frozen=True)
class BenchPlanning:
    """Measure how fast a planner decides and what it scores, against the number of denoising steps.

    Examples:
    langevin bench planning runs/diffuser-hopper-medium-v0
    langevin bench planning runs/dmemm-pointmaze-umaze-v0 --calls 10 5 2 --episodes 50

    A decision is a plan drawn afresh, for one environment and for 64 at once; scores are of episodes in the simulator
    that replan as often as the run does. Writes planning.json and planning.png into the run's folder, and until all is
    measured planning.unfinished.json. Let nothing else run meanwhile.
    """

    run_folder: tyro.conf.Positional[Path]
    """A finished run of a planner."""
    calls: tuple[int, ...] = (10, 5, 3, 2, 1)
    """Network calls of a plan to try, beside the full chain's."""
    batch: int = 64
    """How many environments are planned for at once, beside a single one."""
    episodes: int = 20
    """Evaluation episodes a seed; 0 measures speed alone."""
    seconds: float = 3.0
    """How long to measure each speed, once it is warm."""
    json: bool = False
    """Print the result as one JSON object."""

    def run(self) -> dict[str, Any]:
        """Measure one way after another, write the files, print the table."""
        self.check()
        loaded = load_run(self.run_folder)
        result = self.measured(loaded, BarProgress())
        save_png(planning_figure(result), self.run_folder / "planning.png")
        self.unfinished.replace(self.run_folder / "planning.json")
        if self.json:
            print(json.dumps(result))
        else:
            print_planning(result, Console())
        return result

    def check(self) -> None:
        """Raises UsageError for options that cannot work."""
        if not self.calls or min(self.calls) < 1:
            raise UsageError(f"--calls must be numbers of at least 1, got {list(self.calls)}")
        if self.batch < 1:
            raise UsageError(f"--batch must be at least 1, got {self.batch}")
        if self.episodes < 0:
            raise UsageError(f"--episodes must be at least 0, got {self.episodes}")
        if not (math.isfinite(self.seconds) and self.seconds > 0):
            raise UsageError(f"--seconds must be a positive number, got {self.seconds}")

    def measured(self, loaded: LoadedRun, progress: AbstractProgress) -> dict[str, Any]:
        """Every way's speeds and score, ready for JSON, and written to `unfinished` one by one."""
        task, policies = loaded.system.task, loaded.policies
        first = one_seed(policies, 0)
        windows = first_windows(first)
        chain_steps = windows.process.schedule.betas.shape[-1]  # pyright: ignore[reportAttributeAccessIssue]
        starts = jnp.asarray(
            make_simulator(task, self.batch).reset(np.random.default_rng(EVALUATION_SEED)), jnp.float32
        )
        ways = trials(chain_steps, self.calls, renews(first))
        result: dict[str, Any] = {
            "run": str(self.run_folder),
            "algorithm": loaded.config.algorithm,
            "task": task.id,
            "machine": machine(),
            "batch": self.batch,
            "episodes": self.episodes,
            "seeds": list(loaded.config.seeds),
            "ways": [],
        }
        with progress.track(len(ways), "planning") as advance:
            for trial in ways:
                advance(0, f"{trial.label}, {trial.calls} calls")
                ours = eqx.filter_vmap(lambda policy, trial=trial: resampled(policy, trial.sampling))(
                    policies
                )
                row: dict[str, Any] = {"method": trial.label, "calls": trial.calls}
                for name, batch in (("single", 1), ("batch", self.batch)):
                    speed = measure(deciding(one_seed(ours, 0), starts[:batch]), self.seconds)
                    row[f"{name}_decisions_per_second"] = speed.units_per_second
                if self.episodes:
                    episodes = run_episodes(
                        ours,
                        task,
                        seeds=len(loaded.config.seeds),
                        episodes=self.episodes,
                        seed=EVALUATION_SEED,
                    )
                    row["normalized_score"] = score_summary(episodes.returns, task)["normalized_score"]
                result["ways"].append(row)
                atomic_write(self.unfinished, json.dumps(result, indent=1) + "\n")
                advance(1)
        return result

    @property
    def unfinished(self) -> Path:
        """Where the ways are while some are missing, so that an earlier planning.json stays whole."""
        return self.run_folder / "planning.unfinished.json"


def print_planning(result: dict[str, Any], console: Console) -> None:
    """The table, and the fastest way that scores as the full chain does."""
    table = Table("sampler", "calls", "decisions/s", f"of {result['batch']} at once", "score", "95% interval")
    for row in result["ways"]:
        score = row.get("normalized_score")
        low, high = score["ci95"] if score else (None, None)
        table.add_row(
            row["method"],
            str(row["calls"]),
            f"{row['single_decisions_per_second']:,.1f}",
            f"{row['batch_decisions_per_second']:,.0f}",
            f"{score['iqm']:.1f}" if score else "",
            f"{low:.1f} to {high:.1f}" if low is not None else "",
        )
    console.print(table)
    fastest = near_the_full_chain(result)
    if fastest:
        console.print(
            f"Within 2 points of the full chain, fastest: {fastest['method']}, {fastest['calls']} calls, "
            f"{fastest['single_decisions_per_second']:,.0f} decisions/s for one environment.",
            highlight=False,
        )
