"""What a run's policies are worth in a world model, held against what they return in the simulator."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import rankdata

from langevin.data.sampling import transitions_of
from langevin.data.trajectories import Trajectories
from langevin.dynamics.support import fit_support
from langevin.errors import UsageError
from langevin.evaluation.episodes import run_episodes
from langevin.evaluation.in_world import ImaginedEpisodes, Prediction, predict_returns
from langevin.evaluation.scores import bootstrap_interval, mean
from langevin.experiments.off_policy import block
from langevin.experiments.runs import LoadedRun, one_seed
from langevin.imagination.worlds import DynamicsWorld
from langevin.progress import AbstractProgress, SilentProgress
from langevin.training.algorithms.registry import ALGORITHMS, find_algorithm

LONGEST_PIECE = 99
"""Transitions imagined at once where a world model has no horizon of its own."""
FEWEST_TO_RANK = 3
"""Policies, for a rank correlation to say anything."""


def worlds_of(loaded: LoadedRun) -> list[DynamicsWorld]:
    """A run's world models, one a seed; without the penalties, halting or keeping that its learner is fed with.

    Raises UsageError for a run that learned none.
    """
    build = find_algorithm(loaded.config.algorithm).world
    if build is None or loaded.config.transfer:
        able = ", ".join(name for name, algorithm in ALGORITHMS.items() if algorithm.world)
        raise UsageError(
            f"a run of {loaded.config.algorithm} holds no world model; name a run that does with --world-model "
            f"(one of {able})"
        )
    return [
        build(loaded.settings, loaded.system, one_seed(loaded.result.states, index))
        for index in range(len(loaded.config.seeds))
    ]


def in_world_report(
    loaded: LoadedRun,
    judge: LoadedRun,
    logged: Trajectories,
    *,
    starts: int,
    noises: int,
    steps: int | None,
    seed: int,
    progress: AbstractProgress = SilentProgress(),  # noqa: B008 - stateless
) -> dict[str, Any]:
    """The predicted return of every seed's policy in the judge's world models, and the true one.

    Episodes start where logged ones did, the same for the model and the simulator, and last as long as the task's, or
    the longest logged one for a system that is not simulated here. Policy i is judged by world i (modulo their number).
    `true`, `gap` and `rank_correlation` are None without a simulator.
    """
    if judge.system.task.id != loaded.system.task.id:
        raise UsageError(
            f"the world model is of {judge.system.task.id} and the policy of {loaded.system.task.id}; "
            "choose runs of one task"
        )
    task, worlds = loaded.system.task, worlds_of(judge)
    settings = ImaginedEpisodes(
        steps=(task.max_steps or int(logged.episode_lengths().max())) if steps is None else steps,
        piece=getattr(judge.settings, "horizon", LONGEST_PIECE + 1) - 1,
        noises=noises,
    )
    support = fit_support(transitions_of(logged))
    rng = np.random.default_rng(seed)
    first = logged.observations[rng.choice(logged.episode_starts, starts)]
    predictions: list[Prediction] = []
    with progress.track(len(loaded.config.seeds), "episodes in the world model") as advance:
        for index in range(len(loaded.config.seeds)):
            policy, world = one_seed(loaded.policies, index), worlds[index % len(worlds)]
            predictions.append(
                predict_returns(
                    policy, world, support, jnp.asarray(first), settings, key=jax.random.key(seed)
                )
            )
            advance(1)
    result: dict[str, Any] = {
        "world": judge.config.algorithm,
        "steps": settings.steps,
        "starts": starts,
        "noises": noises,
        "seeds": list(loaded.config.seeds),
        "predicted": block(np.array([found.returns.mean() for found in predictions])),
        "noise_ci95": [noise_interval(found) for found in predictions],
        "left_the_data": [float(found.left.mean()) for found in predictions],
        "true": None,
        "gap": None,
        "rank_correlation": None,
    }
    if task.has_simulator:
        truth = run_episodes(
            loaded.policies, task, seeds=len(loaded.config.seeds), episodes=starts, seed=seed, starts=first,
            steps=settings.steps, progress=progress,
        ).returns.mean(axis=1)  # fmt: skip
        predicted = np.asarray(result["predicted"]["per_seed"])
        result |= {"true": block(truth), "gap": block(predicted - truth)}
        result["rank_correlation"] = rank_correlation(predicted, truth)
    return result


def noise_interval(found: Prediction) -> list[float | None]:
    """95% bootstrap interval of one policy's predicted return over noise seeds."""
    return list(bootstrap_interval([found.returns.mean(axis=1)], mean) or (None, None))


def rank_correlation(
    predicted: Sequence[float] | np.ndarray, truth: Sequence[float] | np.ndarray
) -> float | None:
    """Spearman's; None for fewer than three, and where either is the same for all."""
    if len(truth) < FEWEST_TO_RANK or len(set(predicted)) < 2 or len(set(truth)) < 2:
        return None
    return float(np.corrcoef(rankdata(predicted), rankdata(truth))[0, 1])


def print_in_world(result: dict[str, Any], console: Console) -> None:
    """A table of prediction, truth and gap, a row a seed."""
    table = Table("seed", "predicted", "95% over noise", "left the data", "true", "gap", title="Return")
    for index, seed in enumerate(result["seeds"]):
        low, high = result["noise_ci95"][index]
        truth, gap = (
            f"{result[name]['per_seed'][index]:.2f}" if result[name] else "" for name in ("true", "gap")
        )
        table.add_row(
            str(seed), f"{result['predicted']['per_seed'][index]:.2f}",
            "" if low is None else f"[{low:.2f}, {high:.2f}]", f"{result['left_the_data'][index]:.0%}", truth, gap,
        )  # fmt: skip
    console.print(table)
    if result["rank_correlation"] is not None:
        console.print(f"Rank correlation of the seeds: {result['rank_correlation']:.2f}", highlight=False)
