"""Behaviour policies of the robots: SAC in the simulator, kept at a third of the expert's return and at the end."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from langevin.envs.behaviour_policies import BehaviourPolicy, save_behaviour
from langevin.envs.robot_datasets import episode_return
from langevin.envs.tasks import Task
from langevin.experiments.online import OnlineRun, OnlineTraining, medium_return, train_online
from langevin.policies.sac import SACState
from langevin.progress import AbstractProgress
from langevin.report.figures import save_figure
from langevin.report.style import color, new_figure
from langevin.training.files import atomic_write

LAST_EVALUATIONS = 3
RETURN_EPISODES = 50


@dataclass(frozen=True)
class BehaviourFiles:
    """Where a training leaves what it made."""

    folder: Path
    robot: str

    def policy(self, level: str) -> Path:
        return self.folder / f"{self.robot}-{level}.npz"


def behaviour_from(state: SACState, origin: dict[str, Any]) -> BehaviourPolicy:
    """The actor's weights, as a policy that acts in NumPy."""
    layers = state.actor.network.layers
    return BehaviourPolicy(
        tuple(np.asarray(layer.weight) for layer in layers),
        tuple(np.asarray(layer.bias) for layer in layers),
        origin,
    )


def train_behaviour(
    task: Task,
    settings: OnlineTraining,
    folder: Path,
    *,
    resume: bool,
    progress: AbstractProgress,
) -> dict[str, Any]:
    """Train until the mean of the last three evaluations is the expert reference's return, or until the steps are over.

    Writes ROBOT-medium.npz at the first evaluation that reaches a third of the reference, ROBOT-expert.npz at the end,
    log.jsonl and the learning curve. Evaluations are of the mode; the returns kept with a policy are of its samples.
    """
    assert task.robot is not None
    files = BehaviourFiles(folder, task.robot.name)
    medium = medium_return(task)

    def look(run: OnlineRun, row: dict[str, float]) -> bool:
        if row["return"] >= medium and not files.policy("medium").exists():
            keep(run, files.policy("medium"), "medium")
        recent = [entry["return"] for entry in run.log[-LAST_EVALUATIONS:]]
        return len(recent) == LAST_EVALUATIONS and float(np.mean(recent)) >= task.expert_score

    run = train_online(settings, task, folder, resume=resume, progress=progress, on_evaluation=look)
    origin = keep(run, files.policy("expert"), "expert")
    draw_curve(folder, task, run.log)
    return {
        "task": task.id,
        "steps": run.steps,
        "updates": run.updates,
        "last_returns": [entry["return"] for entry in run.log[-LAST_EVALUATIONS:]],
        "expert": origin,
        "files": [str(path) for path in (files.policy("medium"), files.policy("expert")) if path.exists()],
    }


def keep(run: OnlineRun, path: Path, level: str) -> dict[str, Any]:
    """Write the policy as it is now, with where it comes from; returns that."""
    settings = run.settings
    origin: dict[str, Any] = {
        "task": run.task.id, "level": level, "algorithm": "SAC", "seed": settings.seed, "steps": run.steps,
        "updates": run.updates, "copies": settings.copies, "updates_a_step": settings.updates_a_step,
    }  # fmt: skip
    policy = behaviour_from(run.state, origin)
    for name, mode in (("return_of_samples", False), ("return_of_mode", True)):
        act = lambda observations, rng, mode=mode: policy.act(observations, rng, mode)
        origin[name] = round(episode_return(run.task, act, seed=0, episodes=RETURN_EPISODES), 1)
    save_behaviour(path, BehaviourPolicy(policy.weights, policy.biases, origin))
    atomic_write(path.with_suffix(".json"), json.dumps(origin, indent=1) + "\n")
    return origin


def draw_curve(folder: Path, task: Task, log: list[dict[str, float]]) -> None:
    """The return of the mode along the training."""
    figure = new_figure(6.0, 3.2)
    ax = figure.subplots()
    ax.plot([row["steps"] / 1e6 for row in log], [row["return"] for row in log], color=color("blue"))
    ax.axhline(task.expert_score, color=color("ink"), linewidth=0.8, linestyle=":")
    ax.text(0, task.expert_score, " D4RL's expert reference", va="bottom", fontsize="small")
    ax.set_ylim(top=1.1 * max(task.expert_score, *(row["return"] for row in log)))
    ax.set_xlabel("million environment steps")
    ax.set_ylabel("return")
    save_figure(
        folder, "learning_curve", figure, f"SAC in {task.id}: return of the mode, 10 episodes an evaluation."
    )
