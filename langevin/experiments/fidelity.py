"""The fidelity of a run's world models: rows, curves, pictures and a verdict, written into its folder."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from langevin.data.sampling import sample_windows, transitions_of, windows_of
from langevin.data.trajectories import Trajectories
from langevin.errors import UsageError
from langevin.evaluation.fidelity import (
    Refinements,
    error_curve,
    examine,
    fidelity_rows,
    held_where_halted,
    verdict,
)
from langevin.experiments.runs import LoadedRun
from langevin.imagination.halting import fit_halt
from langevin.imagination.worlds import DyDiffWorld, acting
from langevin.progress import AbstractProgress, SilentProgress
from langevin.report.figures import save_figure
from langevin.report.mazes import two_panel_rollouts
from langevin.training.algorithms.dydiff import fit_edge, learned_world
from langevin.training.files import atomic_write

SHOWN_ROLLOUTS = 64


def fidelity_report(
    folder: Path,
    loaded: LoadedRun,
    states: dict[str, Any],
    trajectories: Trajectories,
    *,
    rollouts: int,
    strengths: Sequence[float] = (),
    refinements: int = 3,
    progress: AbstractProgress | None = None,
) -> dict[str, Any]:
    """Examine one seed's models under every policy and strength; draw the figures.

    Every row is measured twice, as the models draw it and held where it leaves the data. Verdict and figures are at
    the run's own conditioning strength. Raises UsageError when no episode is as long as the horizon.
    """
    progress = progress or SilentProgress()
    task, settings = loaded.system.task, loaded.settings
    starts, data_actions = whole_windows(trajectories, settings.horizon, rollouts)
    transitions = transitions_of(trajectories)
    halt = fit_halt(transitions, settings.halt_margin, settings.patience)
    world = learned_world(settings, loaded.system, states, edge=fit_edge(settings, transitions))
    assert isinstance(world, DyDiffWorld)
    last = loaded.stages[-1]
    assert last.policy is not None
    trained = acting(last.policy(states[last.name], states).greedy())
    recipe = loaded.config.dataset_metadata.get("recipe", {})
    data = "noisy" if float(recipe.get("action_noise", 0) or 0) > 0 else "clean"
    rows: list[dict[str, Any]] = []
    own: dict[str, Refinements] = {}
    everything = dict.fromkeys([settings.strength, *strengths])
    with progress.track(len(everything), "fidelity") as advance:
        for strength in everything:
            examined = examine(
                replace(world, strength=float(strength)), task, starts, data_actions, trained,
                refinements=refinements, key=jax.random.key(0),
            )  # fmt: skip
            kept = world.edge is not None
            held = {name: held_where_halted(found, halt, kept=kept) for name, found in examined.items()}
            for policy in examined:
                for halted, found in ((False, examined[policy]), (True, held[policy])):
                    rows += fidelity_rows(
                        task, policy, found, data=data, strength=float(strength), halted=halted
                    )
            refined = held if settings.halt else examined
            own = own or {policy: ensemble_then(examined[policy], refined[policy]) for policy in examined}
            advance(1)
    own_rows = [row for row in rows if row["strength"] == settings.strength]
    report = {
        "task": task.id,
        "horizon": int(data_actions.shape[1]),
        "strength": settings.strength,
        "refine_from": settings.refine_from,
        "halt": settings.halt,
        "rows": rows,
        "curves": [
            error_curve(task, policy, found, index, "ensemble" if index == 0 else f"refined, k = {index}")
            for policy, found in own.items()
            for index in range(refinements + 1)
        ],
        "verdict": verdict(own_rows),
    }
    for policy, found in own.items():
        draw_rollouts(folder, loaded, policy, found)
    return report


def save_fidelity(folder: Path, report: dict[str, Any]) -> None:
    """Write fidelity.json, which the report page reads."""
    atomic_write(folder / "fidelity.json", json.dumps(report, indent=1, allow_nan=False) + "\n")


def ensemble_then(ensemble: Refinements, refined: Refinements) -> Refinements:
    """The first's rollouts before refinement, the second's after it."""
    return Refinements(
        [ensemble.observations[0], *refined.observations[1:]], [ensemble.actions[0], *refined.actions[1:]]
    )


def draw_rollouts(folder: Path, loaded: LoadedRun, policy: str, found: Refinements) -> None:
    """Ensemble rollouts left, refined right (DyDiff, Figures 8 and 9)."""
    maze = loaded.system.task.maze
    assert maze is not None
    left, right = (np.asarray(found.observations[index])[:SHOWN_ROLLOUTS, :, :2] for index in (0, 1))
    figure = two_panel_rollouts(maze, left, right, titles=("Ensemble", "Refined once"))
    strength, halt = loaded.settings.strength, loaded.settings.halt
    refined = {"noise": "refined once from noise", "rollout": "kept to the data and refined once"}
    save_figure(
        folder, f"rollouts_{policy}", figure,
        f"{len(left)} imagined rollouts of {left.shape[1]} states under the {policy} policy: the ensemble's left, "
        f"{refined[loaded.settings.refine_from]} at conditioning strength {strength:g}"
        f"{' and halted at the edge of the data' if halt else ''} right.",
    )  # fmt: skip


def whole_windows(
    trajectories: Trajectories, horizon: int, count: int
) -> tuple[Float[Array, "rollouts observation"], Float[Array, "rollouts horizon action"]]:
    """Start states and actions of `count` windows that no padding shortens.

    Raises UsageError when no episode is as long as the horizon.
    """
    batch = sample_windows(windows_of(trajectories, horizon), 4 * count, key=jax.random.key(1))
    whole = np.flatnonzero(np.asarray(batch.mask.all(axis=1)))[:count]
    if not len(whole):
        raise UsageError(f"no episode is as long as the horizon of {horizon} steps; use longer episodes")
    return batch.observations[whole, 0], batch.actions[whole]
