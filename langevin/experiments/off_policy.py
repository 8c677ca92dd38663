"""What a run's policies are worth by their dataset alone, held against what they return in the simulator."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from rich.console import Console
from rich.table import Table

from langevin.data.sampling import transitions_of
from langevin.data.sources import open_dataset
from langevin.envs.tasks import Task
from langevin.evaluation.episodes import run_episodes
from langevin.evaluation.fitted_q import FittedQ, fitted_q_values
from langevin.evaluation.scores import bootstrap_interval
from langevin.experiments.runs import LoadedRun
from langevin.policies.base import Policy
from langevin.progress import AbstractProgress, SilentProgress

NEGLIGIBLE = 1e-3


def off_policy_report(
    loaded: LoadedRun,
    settings: FittedQ,
    *,
    episodes: int,
    seed: int,
    progress: AbstractProgress = SilentProgress(),  # noqa: B008 - stateless
) -> dict[str, Any]:
    """Fitted-Q evaluation of every seed, from the dataset's own episode starts, and the true discounted return.

    By the target's data where a run learned from two systems: it is the one that the policy is for.

    `true` and `error` are None for logs of a system without a simulator.
    """
    data = open_dataset(loaded.config.policy_dataset)
    transitions = transitions_of(data)
    starts = jnp.asarray(data.observations[data.episode_starts])
    values = fitted_q_values(
        loaded.policies, transitions, starts, loaded.system.spec(transitions), settings,
        key=jax.random.key(seed), progress=progress,
    )  # fmt: skip
    estimates = values.mean(axis=1)
    result: dict[str, Any] = {
        "discount": settings.discount,
        "steps": settings.steps,
        "seeds": list(loaded.config.seeds),
        "logged": float(logged_return(data.rewards, data.episode_starts, settings.discount)),
        "estimate": block(estimates),
        "true": None,
        "error": None,
    }
    if loaded.system.task.has_simulator:
        truth = true_returns(
            loaded.policies, loaded.system.task, np.asarray(starts), settings.discount,
            seeds=len(loaded.config.seeds), episodes=episodes, seed=seed, progress=progress,
        )  # fmt: skip
        result["true"], result["error"] = block(truth), block(estimates - truth)
    return result


def true_returns(
    policies: Policy,
    task: Task,
    starts: Float[np.ndarray, "starts observation"],
    discount: float,
    *,
    seeds: int,
    episodes: int,
    seed: int,
    progress: AbstractProgress = SilentProgress(),  # noqa: B008 - stateless
) -> Float[np.ndarray, " seeds"]:
    """Mean discounted return in the simulator, of every seed's policy from `episodes` of the logged starts.

    What fitted-Q evaluation estimates: it knows no end but a termination, so the task's clock does not stop an episode
    while steps beyond it still count.
    """
    chosen = starts[np.random.default_rng(seed).integers(len(starts), size=episodes)]
    found = run_episodes(
        policies, task, seeds=seeds, episodes=episodes, seed=seed, discount=discount, starts=chosen,
        steps=steps_that_count(discount, task.max_steps), progress=progress,
    )  # fmt: skip
    return found.returns.mean(axis=1)


def steps_that_count(discount: float, max_steps: int) -> int:
    """Steps until a discounted return lacks less than a thousandth of itself, at least `max_steps`.

    Without a discount there are no such; then `max_steps`.
    """
    if discount in (0.0, 1.0):
        return max_steps
    return max(max_steps, math.ceil(math.log(NEGLIGIBLE) / math.log(discount)))


def logged_return(rewards: np.ndarray, starts: np.ndarray, discount: float) -> float:
    """Mean discounted return of the logged episodes: what the behaviour itself was worth."""
    ends = np.append(starts[1:], len(rewards))
    returns = [
        (discount ** np.arange(end - start) * rewards[start:end]).sum()
        for start, end in zip(starts, ends, strict=True)
    ]
    return float(np.mean(returns))


def block(values: np.ndarray) -> dict[str, Any]:
    """Mean, interval over seeds and each seed's value."""
    values = np.asarray(values, np.float64)
    return {
        "mean": float(values.mean()),
        "ci95": list(bootstrap_interval([values]) or (None, None)),
        "per_seed": values.tolist(),
    }


def print_off_policy(result: dict[str, Any], console: Console) -> None:
    """A table of estimate, truth and error, a column a seed."""
    table = Table("discounted return", "mean", *(f"seed {seed}" for seed in result["seeds"]))
    for name, label in (("estimate", "from the data"), ("true", "in the simulator"), ("error", "error")):
        if result[name]:
            values = [result[name]["mean"], *result[name]["per_seed"]]
            table.add_row(label, *(f"{value:.2f}" for value in values))
    console.print(table)
    console.print(
        f"The logged behaviour returned {result['logged']:.2f}; discount {result['discount']}.",
        highlight=False,
    )
