"""From episode returns to a score with its interval.

A *run* is one trained seed. Its score is the mean over its evaluation episodes, because the return a policy
is worth is an expectation; episodes of one policy say nothing about how another training run would end, so
the interval is over seeds and over nothing else (Agarwal et al. 2021, "Deep Reinforcement Learning at the
Edge of the Statistical Precipice": stratified bootstrap, interquartile mean).

What the 95% interval covers: the interquartile mean over seeds, by the percentile bootstrap. With few seeds
it is coarse and too narrow. For normally distributed seeds it holds the truth about 50% of the time with 2
seeds, 75% with 3 (where it is just the range of the seeds), 91% with 5 and 94% with 10. One seed has no
interval.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from langevin.envs.tasks import Task
from langevin.errors import LangevinError

Statistic = Callable[[Float[np.ndarray, "*batch runs"]], Float[np.ndarray, "*batch"]]


def interquartile_mean(values: Float[np.ndarray, "*batch runs"]) -> Float[np.ndarray, "*batch"]:
    """Mean of the middle half along the last axis: the lowest and highest `runs // 4` values are left out.

    With fewer than four values none is left out and this is the mean, as in rliable.
    """
    count = values.shape[-1]
    if count == 0:
        raise ValueError("the interquartile mean needs at least one value, got none")
    outer = count // 4
    return np.asarray(np.sort(values, axis=-1)[..., outer : count - outer].mean(axis=-1))


def mean(values: Float[np.ndarray, "*batch runs"]) -> Float[np.ndarray, "*batch"]:
    """Mean along the last axis."""
    return np.asarray(values.mean(axis=-1))


def bootstrap_interval(
    strata: Sequence[Float[np.ndarray, " _"]],
    statistic: Statistic = interquartile_mean,
    *,
    level: float = 0.95,
    resamples: int = 20_000,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Percentile interval of `statistic` over runs, resampled with replacement within each stratum.

    `strata` holds one array of run scores a task (one array for one task); `statistic` is computed on the
    runs of all strata together. The same scores always give the same interval. None when a stratum has a
    single run: its spread is unknown, and an interval that leaves it out would look like knowledge.
    """
    if not strata:
        raise ValueError("the bootstrap needs at least one stratum, got none")
    if any(len(runs) < 2 for runs in strata):
        return None
    rng = np.random.default_rng(seed)
    drawn = [runs[rng.integers(len(runs), size=(resamples, len(runs)))] for runs in strata]
    statistics = statistic(np.concatenate(drawn, axis=-1))
    low, high = np.quantile(statistics, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def score_block(strata: Sequence[Float[np.ndarray, " _"]]) -> dict[str, Any]:
    """`{"mean", "iqm", "ci95": [low, high], "per_seed": [...]}` of run scores, one array a task.

    `ci95` is the interval of `iqm`; `[None, None]` when a task has one run. `per_seed` lists the runs task
    by task.
    """
    runs = np.concatenate(list(strata)).astype(np.float64)
    interval = bootstrap_interval([np.asarray(stratum, np.float64) for stratum in strata])
    return {
        "mean": float(mean(runs)),
        "iqm": float(interquartile_mean(runs)),
        "ci95": [None, None] if interval is None else list(interval),
        "per_seed": runs.tolist(),
    }


def score_summary(returns: Float[np.ndarray, "seeds episodes"], task: Task) -> dict[str, Any]:
    """The `normalized_score` and `return` blocks of a run's summary.json.

    `returns` are undiscounted episode returns in the task's reward units. Each episode is normalised first
    (100 (return - random) / (expert - random)) and statistics are taken of the normalised values: a spread
    must never go through that affine map, which would shift it by the random score.
    """
    returns = np.asarray(returns, np.float64)
    if returns.size == 0:
        raise LangevinError(
            f"no episode was evaluated (returns have shape {returns.shape}); evaluate at least one"
        )
    broken = np.argwhere(~np.isfinite(returns))
    if len(broken):
        row, episode = broken[0]
        raise LangevinError(
            f"the return of seed {row}, episode {episode} on {task.id} is {returns[row, episode]}; "
            "its policy or the simulator diverged, so look at that seed's losses in metrics.jsonl"
        )
    return {
        "normalized_score": score_block([task.normalized_score(returns).mean(axis=1)]),
        "return": score_block([returns.mean(axis=1)]),
    }


def aggregate_summary(per_seed: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """One score block over several tasks: `per_seed` maps task id to that task's normalised scores, one a
    seed.

    Seeds are resampled within their task (a stratum), the interquartile mean is over all tasks' runs
    together.
    """
    return score_block([np.asarray(scores, np.float64) for scores in per_seed.values()])
