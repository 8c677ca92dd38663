"""Run folders with invented numbers: every score, curve and picture made here is synthetic."""

import json
from pathlib import Path

import numpy as np
import tomli_w

from langevin.envs.tasks import task_of_dataset
from langevin.evaluation.scores import score_summary

LEVELS = {"bc": 8.0, "td3bc": 27.0, "dydiff": 84.0, "diffuser": 119.0}
LABELS = {"bc": "BC", "td3bc": "TD3+BC", "dydiff": "TD3+BC + DyDiff", "diffuser": "Planner, waypoints"}


def fake_run(
    folder: Path,
    algorithm: str = "td3bc",
    *,
    dataset: str = "pointmaze/umaze-v0",
    seeds: int = 3,
    episodes: int = 50,
    preset: str = "cpu",
    points: int = 20,
) -> Path:
    """Write a plausible finished run and return its folder."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(len(algorithm) + seeds)
    task = task_of_dataset(dataset)
    level = LEVELS.get(algorithm, 50.0)
    spread = 3.0 if algorithm == "diffuser" else 18.0
    ends = level + spread * rng.normal(size=seeds)
    per_return = (task.expert_score - task.random_score) / 100
    returns = task.random_score + per_return * (ends[:, None] + 10 * rng.normal(size=(seeds, episodes)))
    steps = 4_000 if algorithm == "diffuser" else 100_000
    summary = {
        "algorithm": algorithm,
        "label": LABELS.get(algorithm, algorithm),
        "dataset": dataset,
        "task": task.id,
        "seeds": list(range(seeds)),
        "steps": steps,
        "episodes": episodes,
        "preset": preset,
        "updates_per_second": {"diffuser": 24.6, "bc": 1210.0}.get(algorithm, 412.0),
        "wall_seconds": {"diffuser": 173.0, "bc": 41.0}.get(algorithm, 247.0),
        **score_summary(returns, task),
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    config = {
        "command": f"langevin train {algorithm} --dataset {dataset} --preset {preset} --seeds {seeds}",
        "machine": {"cpu": "2 cores (invented)", "memory_gb": 8},
        "versions": {"langevin": "0.1.0", "jax": "0.10.2"},
        "commit": "0123456789abcdef0123",
    }
    (folder / "config.toml").write_bytes(tomli_w.dumps(config).encode())
    with open(folder / "metrics.jsonl", "w") as lines:
        for point in range(1, points + 1):
            share = point / points
            for seed in range(seeds):
                where = {"stage": "policy", "step": int(share * steps), "seed": seed}
                where["seconds"] = round(share * summary["wall_seconds"], 2)
                losses = {"critic/loss": 4 * np.exp(-3 * share) + 0.1 * rng.random(), "actor/loss": -share}
                if algorithm == "dydiff":
                    losses["imagination/reward"] = 0.02 + 0.4 * share**2 + 0.02 * rng.random()
                lines.write(json.dumps(where | {name: float(value) for name, value in losses.items()}) + "\n")
                score = ends[seed] * (1 - np.exp(-4 * share)) / (1 - np.exp(-4)) + 6 * rng.normal() * (
                    1 - share
                )
                evaluation = {
                    "evaluation/normalized_score": float(score),
                    "evaluation/return": float(task.random_score + per_return * score),
                    "evaluation/reward_per_step": float(0.02 + 0.22 * share + 0.02 * rng.random()),
                    "evaluation/episodes": 10,
                }
                lines.write(json.dumps(where | evaluation) + "\n")
    return folder


def fake_fidelity(
    strengths: tuple[float, ...] = (0.0, 0.5, 1.0),
    data: tuple[str, ...] = ("clean",),
    policies: tuple[str, ...] = ("data", "medium", "good", "random"),
) -> dict:
    """A fidelity report in which refinement trades accuracy for legality."""
    rows, curves = [], []
    steps = np.arange(100)
    hardness = {"data": 0.02, "medium": 0.6, "good": 0.8, "random": 1.0}
    hardness = {policy: hardness[policy] for policy in policies}
    for source in data:
        for policy, hard in hardness.items():
            error = {str(step): round(2.6 * hard * (step / 99) ** 2 + 0.001, 4) for step in (10, 50, 99)}
            legal = round(1 - 0.75 * hard, 2)
            for strength in strengths:
                shared = {"data": source, "policy": policy, "strength": strength, "rollouts": 128}
                rows.append(shared | {"model": "ensemble", "refinement": 0, "error": error, "legal": legal})
                for refinement in (1, 2, 3):
                    prior = 1 - strength
                    refined = {
                        k: round(0.05 + v * (0.7 + 0.5 * prior) * 0.95**refinement, 4)
                        for k, v in error.items()
                    }
                    share = min(1.0, legal + (1 - legal) * (0.3 + 0.6 * prior) + 0.02 * refinement)
                    half_width = {step: round(0.1 * value, 4) for step, value in refined.items()}
                    rows.append(
                        shared
                        | {"model": "refined", "refinement": refinement, "legal": round(share, 3)}
                        | {"error": refined, "error_half_width": half_width}
                    )
    for policy, hard in hardness.items():
        for label, factor in (("ensemble", 1.0), ("refined 1x", 0.8), ("refined 2x", 0.7)):
            floor = 0.0005 if label == "ensemble" else 0.02
            errors = (steps > 0) * floor + 2.6 * hard * factor * (steps / 99) ** 2
            curves.append(
                {
                    "label": label,
                    "policy": policy,
                    "error_by_step": errors.tolist(),
                    "low": (0.6 * errors).tolist(),
                    "high": (1.5 * errors).tolist(),
                }
            )
    return {
        "task": "pointmaze/umaze",
        "horizon": 99,
        "rows": rows,
        "curves": curves,
        "verdict": [
            "On the data's own actions trust the ensemble: its error stays below 0.06 cells for 99 steps.",
            "Off the data trust neither beyond about 20 steps.",
        ],
    }
