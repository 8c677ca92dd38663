"""A whole run: data in, a trained and evaluated run folder out; and back from a folder to its models."""

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float

from langevin.data.sources import open_dataset
from langevin.data.trajectories import Trajectories
from langevin.envs.tasks import LOGGED, Task, find_task, get_task, logged_task
from langevin.evaluation.episodes import Episodes, run_episodes
from langevin.evaluation.scores import score_summary
from langevin.planners.slider import with_contexts
from langevin.policies.base import Policy
from langevin.progress import AbstractProgress, SilentProgress
from langevin.training.algorithms.registry import (
    TransferName,
    find_algorithm,
    label_of,
    load_settings,
    require_datasets,
)
from langevin.training.algorithms.system import System, system_of
from langevin.training.loop import train
from langevin.training.metrics import FirstWarning, read_metrics
from langevin.training.presets import from_table, to_table
from langevin.training.results import TrainingResult, load_results
from langevin.training.run_folder import RunConfig, create_run_folder, read_run_config, write_summary
from langevin.training.stage import Stage

EVALUATION_SEED = 10_000
"""Start states of evaluation episodes are drawn from here: never a seed of training."""
LEARNING_CURVE_POINTS = 8
LEARNING_CURVE_EPISODES = 20
CHUNK_STEPS = 250


@dataclass(frozen=True)
class RunRequest:
    """What to train, on what, and how often."""

    algorithm: str
    dataset: str
    out: Path
    base: str | None = None
    preset: str = "cpu"
    seeds: tuple[int, ...] = (0, 1, 2)
    episodes: int = 100
    """Evaluation episodes a seed at the end."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    resume: bool = False
    target_dataset: str | None = None
    transfer: TransferName | None = None
    """How to learn from `dataset` and `target_dataset` both; the policy is for the target's task."""
    learning_curve: bool = True
    """Whether policies are evaluated along the way, where the algorithm has a curve to show, or the last one alone."""


@dataclass(frozen=True)
class LoadedRun:
    """A finished run: its settings, its stages and what came of them, stacked over seeds."""

    config: RunConfig
    settings: Any
    system: System
    stages: list[Stage]
    result: TrainingResult

    @property
    def policies(self) -> Policy:
        """The last stage's policies, stacked over seeds."""
        return self.result.policies(self.stages)

    def told(self, contexts: Mapping[str, float]) -> Policy:
        """The policies told other contexts than their own (`slider.with_contexts`); UsageError where none are told."""
        algorithm = find_algorithm(self.config.algorithm, self.config.transfer)  # pyright: ignore[reportArgumentType]
        bounds = algorithm.contexts(self.settings) if algorithm.contexts else {}
        return with_contexts(self.policies, bounds, contexts)


def run(
    request: RunRequest, trajectories: Trajectories | None = None, progress: AbstractProgress | None = None
) -> dict[str, Any]:
    """Train, evaluate the last policy in the real environment, write summary.json and return it.

    The policy evaluated is the last one of training; no checkpoint is chosen by its score. Logs of a system that
    has no simulator here are trained on all the same; their summary has no scores.
    Raises UsageError for settings, data or a folder that cannot be used.
    """
    progress = progress or SilentProgress()
    algorithm = find_algorithm(request.algorithm, request.transfer)
    require_datasets(request.algorithm, algorithm, request.transfer, request.target_dataset)
    datasets = [trajectories or open_dataset(request.dataset, progress=progress)]
    if request.target_dataset is not None:
        datasets.append(open_dataset(request.target_dataset, progress=progress))
    trajectories = datasets[-1]
    task = task_of(trajectories, request.target_dataset or request.dataset)
    system = system_of(task, *datasets)
    if algorithm.imagines and not task.has_simulator and trajectories.terminations.any():
        system = dataclasses.replace(system, learns_endings=True)
    settings = load_settings(
        request.algorithm, request.base, request.preset, request.dataset, request.overrides, request.transfer
    )
    stages = algorithm.stages(settings, system)
    create_run_folder(request.out, run_config(request, settings, system, datasets), resume=request.resume)
    policy_steps = stages[-1].steps
    trained = train(
        stages,
        algorithm.prepare(settings, *datasets),
        request.seeds,
        request.out,
        chunk_steps=CHUNK_STEPS,
        evaluate=evaluator(task, len(request.seeds)) if task.has_simulator else None,
        evaluate_every=max(policy_steps // LEARNING_CURVE_POINTS // CHUNK_STEPS, 1) * CHUNK_STEPS
        if request.learning_curve and algorithm.learning_curve else None,
        resume=request.resume,
        progress=progress,
        writers=[FirstWarning(algorithm.warning, warnings.warn)] if algorithm.warning else [],
    )  # fmt: skip
    scores: dict[str, Any] = {"episodes": 0, "normalized_score": None, "return": None}
    if task.has_simulator:
        episodes = run_episodes(
            trained.policies(stages), task, seeds=len(request.seeds), episodes=request.episodes,
            seed=EVALUATION_SEED, progress=progress,
        )  # fmt: skip
        scores = {"episodes": request.episodes, **score_summary(episodes.returns, task)}
    if algorithm.figures:
        draw_figures(request.out, algorithm.figures(trained.states))
    remarks = algorithm.remarks(read_metrics(request.out / "metrics.jsonl")) if algorithm.remarks else []
    for remark in remarks:
        warnings.warn(remark, stacklevel=2)
    summary = {
        "algorithm": request.algorithm,
        "label": label_of(request.algorithm, request.base, request.transfer),
        "dataset": request.dataset,
        **({"target_dataset": request.target_dataset} if request.target_dataset else {}),
        "task": task.id,
        "preset": request.preset,
        "seeds": list(request.seeds),
        "stopped_seeds": sorted(trained.stopped),
        "steps": policy_steps,
        **scores,
        **({"remarks": remarks} if remarks else {}),
        "updates_per_second": trained.updates_per_second,
        "wall_seconds": trained.seconds,
    }
    write_summary(request.out, summary)
    return summary


def draw_figures(folder: Path, figures: Mapping[str, tuple[Any, str]]) -> None:
    """Pictures by name, each with its caption, into the run's folder."""
    from langevin.report.figures import save_figure  # and with it matplotlib, only for who draws

    for name, (figure, caption) in figures.items():
        save_figure(folder, name, figure, caption)


def load_run(folder: Path) -> LoadedRun:
    """A finished run's models, without its dataset.

    Raises UsageError when the folder holds no finished run, LangevinError when a checkpoint is damaged.
    """
    config = read_run_config(folder)
    system = System(
        load_task(config),
        config.observation_size,
        config.action_size,
        np.asarray(config.action_low, np.float32),
        np.asarray(config.action_high, np.float32),
        config.learns_endings,
    )
    algorithm = find_algorithm(config.algorithm, config.transfer)  # pyright: ignore[reportArgumentType]
    settings = from_table(algorithm.config_class(config.base), config.settings, str(folder))
    stages = algorithm.stages(settings, system)
    blank = system.blank_data(1_000)
    data_like = algorithm.prepare(settings, *[blank] * (2 if config.target_dataset else 1))
    return LoadedRun(config, settings, system, stages, load_results(folder, stages, data_like, config.seeds))


def one_seed(states: Any, index: int) -> Any:
    """The states of one seed out of a stack."""
    return jax.tree.map(lambda leaf: leaf[index] if eqx.is_array(leaf) else leaf, states)


def task_of(trajectories: Trajectories, dataset: str) -> Task:
    """The dataset's task, from its metadata or its id; for logs of another system what the data tell of it."""
    return find_task(trajectories.metadata, dataset) or logged_task(
        trajectories.observation_size, trajectories.action_low, trajectories.action_high
    )


def load_task(config: RunConfig) -> Task:
    """The task of a run, from its config.toml."""
    if config.task != LOGGED:
        return get_task(config.task)
    low, high = (np.asarray(bound, np.float32) for bound in (config.action_low, config.action_high))
    return logged_task(config.observation_size, low, high)


def evaluator(task: Task, seeds: int):
    """Short evaluations for the learning curve, always from the same start states."""

    def evaluate(policies: Policy, stage: str, step: int) -> list[dict[str, float]]:
        episodes = run_episodes(
            policies, task, seeds=seeds, episodes=LEARNING_CURVE_EPISODES, seed=EVALUATION_SEED + 1
        )
        return [evaluation_record(task, episodes, index) for index in range(seeds)]

    return evaluate


def evaluation_record(task: Task, episodes: Episodes, index: int) -> dict[str, float]:
    """One seed's line in metrics.jsonl."""
    returns: Float[np.ndarray, " episodes"] = episodes.returns[index]
    return {
        "evaluation/return": float(returns.mean()),
        "evaluation/normalized_score": float(task.normalized_score(returns).mean()),
        "evaluation/reward_per_step": float((returns / episodes.lengths[index]).mean()),
        "evaluation/episodes": float(returns.size),
    }


def run_config(
    request: RunRequest, settings: Any, system: System, datasets: Sequence[Trajectories]
) -> RunConfig:
    """config.toml's content: everything needed to run it again."""
    algorithm = find_algorithm(request.algorithm)
    base = (request.base or algorithm.default_base) if algorithm.takes_base else None
    return RunConfig(
        algorithm=request.algorithm,
        base=base,
        preset=request.preset,
        dataset=request.dataset,
        task=system.task.id,
        seeds=tuple(request.seeds),
        settings=to_table(settings),
        observation_size=system.observation_size,
        action_size=system.action_size,
        action_low=tuple(map(float, system.action_low)),
        action_high=tuple(map(float, system.action_high)),
        learns_endings=system.learns_endings,
        dataset_metadata=datasets[0].metadata,
        target_dataset=request.target_dataset,
        transfer=request.transfer,
        command=command_line(request, base),
    )


def command_line(request: RunRequest, base: str | None) -> str:
    """The command that makes this run; it stands in config.toml and on the report page."""
    words = [f"langevin train {request.algorithm} --dataset {request.dataset}"]
    words += [f"--base {base}"] if base else []
    if request.transfer == "finetune":
        words += [f"--finetune-on {request.target_dataset}"]
    elif request.transfer == "dara":
        words += [f"--target-dataset {request.target_dataset} --dara"]
    elif request.target_dataset is not None:
        words += [f"--target-dataset {request.target_dataset}"]
    words += [f"--preset {request.preset} --seeds {len(request.seeds)} --episodes {request.episodes}"]
    words += [f"--set {key}={value}" for key, value in request.overrides.items()]
    return " ".join([*words, f"--out {request.out}"])
