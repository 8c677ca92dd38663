"""What a learner gains from a world, beside what it gains from the true one: shares, and the table of a folder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from langevin.evaluation.scores import bootstrap_interval
from langevin.training.files import atomic_write

FIRST = ("base", "oracle", "ensemble")
"""Variants that every table begins with."""


def write_gains(folder: Path, diverged: Mapping[str, str]) -> dict[str, Any]:
    """Gather every variant that is finished in the folder into gain.json, and print the table of them.

    diverged: variants of which no seed came to an end, and the words that say so.
    """
    found = {path.parent.name: json.loads(path.read_text()) for path in folder.glob("*/summary.json")}
    order = {name: index for index, name in enumerate(FIRST)}
    results = {name: found[name] for name in sorted(found, key=lambda name: (order.get(name, 9), name))}
    shares = oracle_shares(results)
    table = {"results": results, "share_of_the_oracles_gain": shares, "diverged": dict(diverged)}
    atomic_write(folder / "gain.json", json.dumps(table, indent=1) + "\n")
    console = Console()
    for name, summary in results.items():
        console.print(line(name, summary, shares.get(name)), markup=False, highlight=False)
    for name, words in diverged.items():
        console.print(f"{name:<18} {words}", markup=False, highlight=False)
    return results


def line(name: str, summary: dict[str, Any], share: dict[str, Any] | None) -> str:
    """A variant's score and, where there is one, its share of the oracle's gain."""
    score = summary["normalized_score"]
    per_seed = " ".join(f"{value:.0f}" for value in score["per_seed"])
    low, high = score["ci95"]
    words = f"{name:<18} iqm {score['iqm']:6.1f} [{low:.1f}, {high:.1f}] seeds {per_seed}"
    if share is None:
        return words
    low, high = share["ci95"]
    return f"{words}; share of the oracle's gain {share['share']:.2f} [{low:.2f}, {high:.2f}]"


def oracle_shares(results: dict[str, Any]) -> dict[str, Any]:
    """(score - base) / (oracle - base) of the seeds' means, with a 95% bootstrap over the seeds of all three."""
    if not {"base", "oracle"} <= results.keys():
        return {}
    scores = {name: np.asarray(row["normalized_score"]["per_seed"]) for name, row in results.items()}
    base, oracle = scores["base"], scores["oracle"]

    def share(stacked: np.ndarray) -> np.ndarray:
        own, low, high = (
            part.mean(axis=-1)
            for part in np.split(stacked, [-base.size - oracle.size, -oracle.size], axis=-1)
        )
        return np.asarray((own - low) / (high - low))

    return {
        name: {
            "share": float(share(np.concatenate([own, base, oracle]))),
            "ci95": bootstrap_interval([own, base, oracle], share),
        }
        for name, own in scores.items() if name not in ("base", "oracle")
    }  # fmt: skip
