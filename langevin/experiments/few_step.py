"""How few network calls a refinement needs: its error against the number of calls, for each sampler.

    python -m langevin.experiments.few_step --dataset pointmaze/umaze-200k-v0 --models runs/dydiff-gain/models

DyDiff's world models are trained if the folder does not hold them. States are refined once under given actions and held
against the simulator under the same actions: the data's own, and those of a good policy (the waypoint controller) in
the learned ensemble, as in `langevin fidelity`. The cheapest setting within a tenth of the best error is named.
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
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator
from rich.console import Console

from langevin.data.sources import open_dataset
from langevin.diffusion.samplers import Sampler, SamplerName
from langevin.diffusion.schedules import KarrasSchedule
from langevin.dynamics.ensemble import rollout
from langevin.envs.mazes import Maze
from langevin.envs.tasks import Task
from langevin.errors import UsageError, require_at_least
from langevin.evaluation.fidelity import closed_loop_policies, position_errors, simulate
from langevin.experiments.dydiff_gain import trained_models
from langevin.experiments.fidelity import whole_windows
from langevin.experiments.runs import task_of
from langevin.imagination.refinement import Refinement
from langevin.imagination.worlds import DyDiffWorld
from langevin.progress import BarProgress
from langevin.report.style import (
    FONT_POINTS,
    color,
    new_figure,
    save_png,
    series_style,
    style_axes,
    thousands,
)
from langevin.training.algorithms import dydiff
from langevin.training.algorithms.registry import load_settings
from langevin.training.algorithms.system import system_of
from langevin.training.compile_cache import enable_compile_cache
from langevin.training.files import atomic_write

Row = dict[str, Any]
NAMES: dict[SamplerName, str] = {"heun": "Heun", "dpm_solver": "DPM-Solver++ (2M)", "ddim": "DDIM"}
TOLERANCE = 0.1
"""Above the best error, as a share of it, that a cheaper setting may have."""


@dataclass(frozen=True)
class FewStep:
    """Error of refined trajectories by sampler and number of network calls."""

    dataset: str
    """Dataset id or path, of a maze."""
    models: Path = Path("runs/dydiff-gain/models")
    """Folder of the world models."""
    out: Path = Path("runs/few-step")
    """Where few_step.json and few_step.png go."""
    calls: tuple[int, ...] = (1, 2, 3, 5, 7, 9, 11, 15, 21, 33, 67)
    """Network calls a trajectory; Heun's method needs an odd number."""
    rollouts: int = 128
    """Trajectories of each policy."""
    seeds: int = 2
    """Samples of each trajectory."""
    strength: float = 1.0
    """Conditioning strength."""
    highest: float = 10.0
    """Noise level that sampling starts from."""
    dynamics_steps: int = 6_000
    """Updates of the ensemble."""
    world_model_steps: int = 3_000
    """Updates of the trajectory diffusion model."""

    def run(self) -> list[Row]:
        """Measure every setting, write the rows and the picture and print the table."""
        require_at_least(1, seeds=self.seeds, rollouts=self.rollouts, calls=min(self.calls))
        trajectories = open_dataset(self.dataset)
        task = task_of(trajectories, self.dataset)
        if task.maze is None:
            raise UsageError(f"errors are measured in a maze's cells, and {self.dataset} has no maze")
        overrides = {"dynamics_steps": self.dynamics_steps, "world_model_steps": self.world_model_steps}
        config = load_settings("dydiff", "td3bc", "cpu", self.dataset, overrides)
        config = dataclasses.replace(config, strength=self.strength)
        system, progress = system_of(task, trajectories), BarProgress()
        data = dydiff.prepare(config, trajectories)
        world = dydiff.learned_world(
            config, system, trained_models(config, system, data, self.models, progress)
        )
        assert isinstance(world, DyDiffWorld)
        starts, data_actions = whole_windows(trajectories, config.horizon, self.rollouts)
        actions = {"data": data_actions, "good": good_actions(world, task, starts, config.horizon)}
        true = {policy: simulate(task, np.asarray(starts), given) for policy, given in actions.items()}
        rows: list[Row] = []
        schedule = dataclasses.replace(config.schedule, highest=self.highest)
        samplers = [sampler for method in NAMES for sampler in with_calls(method, self.calls, schedule)]
        samplers.sort(key=lambda sampler: sampler.calls)
        self.out.mkdir(parents=True, exist_ok=True)
        with progress.track(len(samplers), "samplers") as advance:
            for sampler in samplers:
                refined = refine(
                    dataclasses.replace(world, refinement=Refinement(sampler)), starts, actions, self.seeds
                )
                rows += [
                    measure(sampler, task.maze, policy, refined[policy], true[policy]) for policy in true
                ]
                self.write(rows)
                advance(1)
        chosen, console = cheapest(overall(rows)), Console(width=140)
        console.print(table(rows), markup=False, highlight=False)
        console.print(
            f"cheapest within a tenth of the best: {NAMES[chosen['sampler']]}, {chosen['calls']} calls"
        )
        return rows

    def write(self, rows: list[Row]) -> None:
        """few_step.json and the picture, of what is measured so far."""
        report = {"settings": dataclasses.asdict(self), "rows": rows, "cheapest": cheapest(overall(rows))}
        atomic_write(self.out / "few_step.json", json.dumps(report, indent=1, default=str) + "\n")
        save_png(picture(rows), self.out / "few_step.png")


def with_calls(method: SamplerName, calls: tuple[int, ...], schedule: KarrasSchedule) -> list[Sampler]:
    """The samplers of a method that make exactly so many network calls; Heun's makes two a step but for the last."""
    steps = [(count + 1) // 2 for count in calls if count % 2] if method == "heun" else list(calls)
    return [Sampler(method, dataclasses.replace(schedule, steps=count)) for count in steps]


def good_actions(
    world: DyDiffWorld, task: Task, starts: Float[Array, "rollouts observation"], horizon: int
) -> Float[Array, "rollouts horizon action"]:
    """What the waypoint controller does in the learned ensemble."""
    act = closed_loop_policies(task)["good"]
    return eqx.filter_jit(rollout)(act, world.dynamics, starts, horizon, key=jax.random.key(1))[1]


def refine(
    world: DyDiffWorld,
    starts: Float[Array, "rollouts observation"],
    actions: dict[str, Float[Array, "rollouts horizon action"]],
    seeds: int,
) -> dict[str, Float[np.ndarray, "seeds rollouts horizon observation"]]:
    """Samples of the states under every policy's actions."""
    together = jnp.concatenate(list(actions.values()))
    # States are drawn from noise here: of a rollout only the first one counts.
    standing = jnp.repeat(starts[:, None], together.shape[1], axis=1)
    rollouts = jnp.concatenate([standing] * len(actions))
    refined = refine_all(world, rollouts, together, jax.random.split(jax.random.key(2), seeds))
    return dict(zip(actions, np.split(np.asarray(refined), len(actions), axis=1), strict=True))


@eqx.filter_jit
def refine_all(world: DyDiffWorld, rollouts: Array, actions: Array, keys: Array) -> Array:
    """One sample of all trajectories a key."""
    return jax.lax.map(lambda key: world.refine(rollouts, actions, key=key), keys)


def measure(
    sampler: Sampler,
    maze: Maze,
    policy: str,
    refined: Float[np.ndarray, "seeds rollouts horizon observation"],
    true: Float[np.ndarray, "rollouts horizon observation"],
) -> Row:
    """Position error in cells, over all steps after the first and at the last, and share with no state in a wall.

    The half-width is of a 95% interval over trajectories; the samples of one count as one.
    """
    errors = np.mean([position_errors(sample, true)[:, 1:] for sample in refined], axis=0)
    legal = np.asarray(maze.legal(refined[..., :2]).all(axis=-1))
    return {
        "sampler": sampler.method,
        "steps": sampler.schedule.steps,
        "calls": sampler.calls,
        "policy": policy,
        "error": float(errors.mean()),
        "half_width": float(1.96 * errors.mean(axis=1).std() / np.sqrt(len(errors))),
        "last_error": float(errors[:, -1].mean()),
        "legal": float(legal.mean()),
    }


def overall(rows: list[Row]) -> list[Row]:
    """One row a setting: errors and legal shares averaged over policies."""
    settings = sorted({(row["sampler"], row["steps"], row["calls"]) for row in rows}, key=in_order)
    averaged = []
    for sampler, steps, calls in settings:
        own = [row for row in rows if (row["sampler"], row["calls"]) == (sampler, calls)]
        means = {
            name: float(np.mean([row[name] for row in own])) for name in ("error", "last_error", "legal")
        }
        averaged.append({"sampler": sampler, "steps": steps, "calls": calls, **means})
    return averaged


def in_order(setting: tuple[SamplerName, int, int]) -> tuple[int, int]:
    """By method, then by calls."""
    return list(NAMES).index(setting[0]), setting[2]


def cheapest(rows: list[Row]) -> Row:
    """The row of fewest calls whose error is within TOLERANCE of the best; of equals the one with the least error."""
    best = min(row["error"] for row in rows)
    near = [row for row in rows if row["error"] <= (1 + TOLERANCE) * best]
    return min(near, key=lambda row: (row["calls"], row["error"]))


def table(rows: list[Row]) -> str:
    """Markdown: a line a setting, the policies side by side."""
    policies = list(dict.fromkeys(row["policy"] for row in rows))
    columns = [f"{policy}: {name}" for policy in policies for name in ("error", "last step", "legal")]
    lines = [
        f"| sampler | calls | {' | '.join(columns)} | both |",
        "| --- |" + " ---: |" * (len(columns) + 2),
    ]
    for setting in overall(rows):
        own = [row for row in rows if all(row[key] == setting[key] for key in ("sampler", "calls"))]
        words = [
            f"{row['error']:.3f} ± {row['half_width']:.3f} | {row['last_error']:.3f} | {row['legal']:.0%}"
            for row in own
        ]
        name = NAMES[setting["sampler"]]
        lines.append(f"| {name} | {setting['calls']} | {' | '.join(words)} | {setting['error']:.3f} |")
    return "\n".join(lines)


def picture(rows: list[Row]) -> Figure:
    """Error against calls, a panel a policy, and the legal share of both."""
    titles = {"data": "The data's own actions", "good": "A good policy's actions"}
    figure = new_figure(10.0, 3.3)
    *errors, legal = figure.subplots(1, 3)
    for ax, policy in zip(errors, titles, strict=True):
        style_axes(ax, xlabel="network calls", ylabel="position error (cells)", title=titles[policy])
        for index, method in enumerate(NAMES):
            own = [row for row in rows if (row["sampler"], row["policy"]) == (method, policy)]
            draw_line(ax, own, "error", index, NAMES[method])
        ax.set_yscale("log")
        ax.set_yticks([0.1, 0.2, 0.5, 1, 2])
        ax.yaxis.set_major_formatter(FuncFormatter(thousands))
        ax.yaxis.set_minor_locator(NullLocator())
    style_axes(
        legal, xlabel="network calls", ylabel="share with no state in a wall", title="Legal, both policies"
    )
    for index, method in enumerate(NAMES):
        draw_line(
            legal, [row for row in overall(rows) if row["sampler"] == method], "legal", index, NAMES[method]
        )
    legal.set_ylim(0, 1.02)
    legal.legend(loc="center right", frameon=False, fontsize=FONT_POINTS - 1, labelcolor=color("ink"))
    return figure


def draw_line(ax: Axes, rows: list[Row], name: str, index: int, label: str) -> None:
    """One sampler's line over calls, if it was measured, with the interval where the rows have one."""
    if not rows:
        return
    style = series_style(index)
    calls, values = ([row[key] for row in rows] for key in ("calls", name))
    ax.plot(
        calls, values, color=style.color, linestyle=style.dash, marker=style.marker, markersize=4, label=label
    )
    if name == "error" and "half_width" in rows[0]:
        low, high = ([row[name] + sign * row["half_width"] for row in rows] for sign in (-1, 1))
        ax.fill_between(calls, low, high, color=style.color, alpha=0.12, linewidth=0)
    ax.set_xscale("log")
    ax.set_xticks([1, 2, 5, 10, 20, 67])
    ax.xaxis.set_major_formatter(FuncFormatter(thousands))
    ax.xaxis.set_minor_locator(NullLocator())


if __name__ == "__main__":
    enable_compile_cache()
    tyro.cli(FewStep, description=__doc__).run()
