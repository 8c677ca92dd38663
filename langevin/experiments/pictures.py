"""The pictures a run leaves in its folder, each with a caption."""

from pathlib import Path

import jax
import numpy as np

from langevin.envs.tasks import Task
from langevin.evaluation.episodes import Episodes, run_episodes
from langevin.experiments.runs import EVALUATION_SEED, load_run
from langevin.planners.goal_planner import PlannerPolicy
from langevin.policies.base import Policy
from langevin.progress import AbstractProgress, SilentProgress
from langevin.report.figures import captions, save_figure
from langevin.report.mazes import draw_paths, plans_and_paths
from langevin.report.style import new_figure

SHOWN_PATHS = 30
SHOWN_PLANS = 6
LAST_DRAWN = "episodes.png"


def drawn(folder: Path) -> bool:
    """Whether all of a maze run's pictures are in its folder: the last of them has its caption."""
    return LAST_DRAWN in captions(folder)


def draw_run(folder: Path, *, episodes: int, progress: AbstractProgress | None = None) -> None:
    """Run some episodes of a finished run and draw them."""
    loaded = load_run(folder)
    found = run_episodes(
        loaded.policies, loaded.system.task, seeds=len(loaded.config.seeds), episodes=episodes,
        seed=EVALUATION_SEED, keep_observations=True, progress=progress or SilentProgress(),
    )  # fmt: skip
    draw_episodes(folder, loaded.system.task, loaded.policies, found)


def draw_episodes(folder: Path, task: Task, policies: Policy, episodes: Episodes) -> None:
    """The first seed's episodes in the maze; for a planner also its plans beside what was driven."""
    if task.maze is None or episodes.observations is None:
        return
    driven = episodes.observations[0, ..., :2]
    score = float(task.normalized_score(episodes.returns[0]).mean())
    if isinstance(policies, PlannerPolicy):
        plan = jax.tree.map(lambda leaf: np.asarray(leaf[0]), episodes.first_memories)
        ahead = np.arange(plan.observations.shape[1]) <= plan.goal_row[:, None]
        plans = np.where(ahead[..., None], plan.observations[..., :2], np.nan)[:SHOWN_PLANS]
        figure = plans_and_paths(task.maze, plans, driven[:SHOWN_PLANS])
        words = "the plan drawn at the start of an episode (dashed) and the path then driven"
        if policies.replan_every:
            words += f", planning anew every {policies.replan_every} steps"
        save_figure(folder, "plans", figure, f"One seed: {words}.")
    shown = driven[:SHOWN_PATHS]
    figure = new_figure(4.2, 4.2)
    draw_paths(figure.subplots(), task.maze, shown)
    caption = (
        f"{len(shown)} evaluation episodes of one seed in the simulator "
        f"(normalised score of that seed {score:.0f}); dots are starts, the star is the goal."
    )
    save_figure(folder, Path(LAST_DRAWN).stem, figure, caption)
