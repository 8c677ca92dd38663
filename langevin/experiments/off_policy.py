"""What a run's policies are worth by their dataset alone, held against what they return in the simulator."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from langevin.data.sampling import transitions_of
from langevin.data.sources import open_dataset
from langevin.evaluation.episodes import run_episodes
from langevin.evaluation.fitted_q import FittedQ, fitted_q_values
from langevin.evaluation.scores import bootstrap_interval
from langevin.experiments.runs import LoadedRun
from langevin.progress import AbstractProgress, SilentProgress


def off_policy_report(
    loaded: LoadedRun,
    settings: FittedQ,
    *,
    episodes: int,
    seed: int,
    progress: AbstractProgress = SilentProgress(),  # noqa: B008 - stateless
) -> dict[str, Any]:
    """Fitted-Q evaluation of every seed, from the dataset's own episode starts, and the true discounted return.

    The estimate sees no end but a termination; the truth stops at the task's clock, of which a discount of 0.99 leaves
    4e-5 after 1,000 steps. `true` and `error` are None for logs of a system without a simulator.
    """
    data = open_dataset(loaded.config.dataset)
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
        found = run_episodes(
            loaded.policies, loaded.system.task, seeds=len(loaded.config.seeds), episodes=episodes, seed=seed,
            discount=settings.discount, progress=progress,
        )  # fmt: skip
        truth = found.returns.mean(axis=1)
        result["true"], result["error"] = block(truth), block(estimates - truth)
    return result


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
