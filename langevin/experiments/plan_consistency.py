"""Whether plans obey the system: one-step error of planned transitions under the simulator, by row and diffusion step.

    python -m langevin.experiments.plan_consistency runs/diffuser-hopper-medium-v0 runs/dmemm-hopper-medium-v0

The simulator is put into each planned state and given the planned action; where it goes is compared with the state
planned next. It is what DMEMM's transition loss and the off-dynamics planner's contexts are meant to better.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jaxtyping import Array, Float
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich.console import Console
from rich.table import Table

from langevin.data.sources import open_dataset
from langevin.diffusion.chain_sampler import ChainSampler
from langevin.diffusion.levels import Levels
from langevin.envs.stepping import make_simulator
from langevin.envs.tasks import Task
from langevin.errors import UsageError, require_at_least
from langevin.evaluation.planning_speed import first_windows
from langevin.experiments.runs import load_run, one_seed
from langevin.planners.receding import RecedingPlanner
from langevin.progress import BarProgress
from langevin.report.style import FONT_POINTS, color, new_figure, save_png, series_style, style_axes
from langevin.training.files import atomic_write


def stopped_after(sampler: ChainSampler, calls: int) -> ChainSampler:
    """The sampler that takes the clean estimate of its `calls`-th network call as the sample."""
    levels = sampler.levels
    cut = Levels(
        jnp.append(levels.signal[:calls], 1.0), jnp.append(levels.noise[:calls], 0.0), levels.times[:calls]
    )
    return dataclasses.replace(sampler, levels=cut, renewed_steps=0)


def drawn_plans(
    planner: RecedingPlanner, starts: Float[Array, "plans observation"]
) -> tuple[Float[np.ndarray, "plans horizon observation"], Float[np.ndarray, "plans horizon action"]]:
    """The plan that would be followed from each start; raw units."""
    keys = jax.random.split(jax.random.key(0), starts.shape[0])

    @eqx.filter_jit
    def draw(planner: RecedingPlanner, starts: Array) -> Array:
        return jax.lax.map(lambda at: planner.best(at[0], None, key=at[1]), (starts, keys), batch_size=16)

    rows = draw(planner, starts)
    scale = planner.windows.scale
    return np.asarray(scale.observations(rows)), np.asarray(scale.actions(rows))


def transition_errors(
    task: Task,
    observations: Float[np.ndarray, "plans horizon observation"],
    actions: Float[np.ndarray, "plans horizon action"],
    scale: Float[np.ndarray, " observation"],
) -> Float[np.ndarray, " transitions"]:
    """Root mean square, over plans and dimensions, of each planned transition's error in units of `scale`."""
    plans, horizon, size = observations.shape
    simulator = make_simulator(task, plans * (horizon - 1))
    simulator.set_state(observations[:, :-1].reshape(-1, size))
    reached = np.asarray(simulator.step(actions[:, :-1].reshape(plans * (horizon - 1), -1))[0])
    missed = (observations[:, 1:] - reached.reshape(plans, horizon - 1, size)) / scale
    return np.sqrt(np.square(missed).mean(axis=(0, 2)))


@dataclass(frozen=True)
class PlanConsistency:
    """Draw plans of finished runs from states of their data, and replay their transitions in the simulator."""

    run_folders: tyro.conf.Positional[tuple[Path, ...]]
    """Finished runs of planners whose rows are single steps with actions."""
    plans: int = 64
    """Plans of each run."""
    out: Path = Path("runs/plan-consistency")
    """Where consistency.json and consistency.png go."""

    def run(self) -> dict[str, Any]:
        """Measure, write and print."""
        require_at_least(1, plans=self.plans)
        if not self.run_folders:
            raise UsageError("name at least one finished run of a planner")
        self.out.mkdir(parents=True, exist_ok=True)
        rows = []
        for folder in self.run_folders:
            rows.append(self.measured(folder))
            atomic_write(self.out / "consistency.json", json.dumps(rows, indent=1) + "\n")
            save_png(consistency_figure(rows), self.out / "consistency.png")
        print_consistency(rows, Console())
        return {"runs": rows}

    def measured(self, folder: Path) -> dict[str, Any]:
        """One run's errors: in units of the data's one-step changes, so that a plan that stands still has 1."""
        loaded = load_run(folder)
        planner = one_seed(loaded.policies, 0)
        windows = first_windows(planner)
        if not isinstance(planner, RecedingPlanner) or windows.stride != 1 or not windows.plans_actions:
            raise UsageError(
                f"{folder}: plans of {loaded.config.algorithm} in {loaded.system.task.id} are not rows of single steps "
                "with their actions, so no simulator can replay them; choose diffuser, dmemm or off_dynamics on a robot"
            )
        source, target = loaded.config.dataset, loaded.config.target_dataset
        data = open_dataset(target or source)
        chosen = np.random.default_rng(0).choice(data.transitions, self.plans, replace=False)
        starts = jnp.asarray(data.observations[chosen])
        change = data.next_observations - data.observations
        scale = np.maximum(np.sqrt(np.square(change).mean(axis=0)), 1e-8)
        calls = planner.sampler.levels.times.size
        task, by_call = loaded.system.task, {}
        with BarProgress().track(calls, f"{folder.name}: plans") as advance:
            for stop in range(1, calls + 1):
                cut = dataclasses.replace(planner, sampler=stopped_after(planner.sampler, stop))
                by_call[stop] = transition_errors(task, *drawn_plans(cut, starts), scale).tolist()
                advance(1)
        return {
            "run": str(folder),
            "label": line_label(loaded.config.algorithm, source, target),
            "plans": self.plans,
            "by_row": by_call[calls],
            "by_call": {str(stop): float(np.mean(errors)) for stop, errors in by_call.items()},
        }


def line_label(algorithm: str, source: str, target: str | None) -> str:
    """What a run is called in the table and the picture: its algorithm, and all that it learned from."""
    return f"{algorithm}, {source} to {target}" if target else f"{algorithm}, {source}"


def print_consistency(rows: list[dict[str, Any]], console: Console) -> None:
    """Errors of the first, the middle and the last planned transition, and of all."""
    table = Table("run", "first", "middle", "last", "all")
    for row in rows:
        errors = row["by_row"]
        shown = (errors[0], errors[len(errors) // 2], errors[-1], float(np.mean(errors)))
        table.add_row(row["label"], *(f"{error:.2f}" for error in shown))
    console.print(table)
    console.print(
        "One-step error under the simulator, 1 = as far as the data move in a step.", highlight=False
    )


def consistency_figure(rows: list[dict[str, Any]]) -> Figure:
    """Error by row of the finished plan, and of the clean estimate by network call."""
    figure = new_figure(8.4, 3.2)
    by_row, by_call = figure.subplots(1, 2)
    style_axes(by_row, xlabel="row of the plan", ylabel="one-step error", title="Finished plans")
    style_axes(by_call, xlabel="network calls", ylabel="one-step error", title="While they are drawn")
    for index, row in enumerate(rows):
        style = series_style(index)
        look = {"color": style.color, "linestyle": style.dash, "label": row["label"], "linewidth": 1.3}
        by_row.plot(range(1, len(row["by_row"]) + 1), row["by_row"], **look)
        calls = [int(call) for call in row["by_call"]]
        by_call.plot(calls, list(row["by_call"].values()), marker=style.marker, markersize=3.5, **look)
    for ax in (by_row, by_call):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_ylim(bottom=0)
        ax.axhline(1, color=color("muted"), linewidth=0.7, linestyle=":")
    by_row.legend(frameon=False, fontsize=FONT_POINTS - 1, labelcolor=color("ink"))
    return figure


if __name__ == "__main__":
    tyro.cli(PlanConsistency, description=__doc__).run()
