"""Does a world model know which policies are better? Predicted against true returns, and their rank correlation.

    python -m langevin.experiments.trust runs/mopo-hopper runs/bc-hopper runs/td3bc-hopper runs/iql-hopper

Every seed of every run is a policy. Beside the world model's prediction stands fitted-Q evaluation's with --fqe.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from matplotlib.figure import Figure
from rich.console import Console

from langevin.data.sources import open_dataset
from langevin.errors import UsageError
from langevin.evaluation.fitted_q import FittedQ
from langevin.experiments.in_world import in_world_report, rank_correlation
from langevin.experiments.off_policy import off_policy_report
from langevin.experiments.runs import EVALUATION_SEED, load_run
from langevin.progress import BarProgress
from langevin.report.style import color, new_figure, save_png, series_style, style_axes
from langevin.training.compile_cache import enable_compile_cache
from langevin.training.files import atomic_write

STAYS = 0.5
"""A policy stays in the data if fewer than this share of its imagined episodes leave them."""


@dataclass(frozen=True)
class Trust:
    """Judge the policies, write trust.json, trust.md and trust.png."""

    world_model: tyro.conf.Positional[Path]
    """The run whose world model judges."""
    policies: tyro.conf.Positional[tuple[Path, ...]]
    """Runs whose policies are judged."""
    starts: int = 50
    """Episodes of each policy: start states of the dataset."""
    noises: int = 5
    """How often each start is imagined."""
    fqe: int = 0
    """Updates of fitted-Q evaluation beside the world model; 0 leaves it out."""
    out: Path = Path("runs/trust")
    """Where the results go."""

    def run(self) -> dict[str, Any]:
        """One row a policy, and the rank correlations over all of them."""
        if not self.policies:
            raise UsageError("name at least one run whose policies are to be judged, after the world model's")
        judge, progress, names = load_run(self.world_model), BarProgress(), distinct_names(self.policies)
        logged = open_dataset(judge.config.dataset)
        rows: list[dict[str, Any]] = []
        for folder in self.policies:
            loaded = load_run(folder)
            found = in_world_report(
                loaded, judge, logged, starts=self.starts, noises=self.noises, steps=None, seed=EVALUATION_SEED,
                progress=progress,
            )  # fmt: skip
            if found["true"] is None:
                raise UsageError(f"{folder} is of a system without a simulator here; there is no true return")
            values = off_policy_report(
                loaded, FittedQ(steps=self.fqe), episodes=self.starts, seed=EVALUATION_SEED, progress=progress
            ) if self.fqe else None  # fmt: skip
            rows += [policy_row(names[folder], found, values, index) for index in range(len(found["seeds"]))]
        result = {"world_model": str(self.world_model), "algorithm": judge.config.algorithm, "policies": rows}
        result |= {"rank_correlation": correlations(rows)}
        self.out.mkdir(parents=True, exist_ok=True)
        atomic_write(self.out / "trust.json", json.dumps(result, indent=1) + "\n")
        atomic_write(self.out / "trust.md", table(rows))
        save_png(picture(rows), self.out / "trust.png")
        Console().print(
            f"rank correlation over {len(rows)} policies: {result['rank_correlation']}", highlight=False
        )
        return result


def distinct_names(folders: tuple[Path, ...]) -> dict[Path, str]:
    """What is left of each folder's path without the part that all of them share."""
    shared = os.path.commonpath([folder.absolute().parent for folder in folders])
    return {folder: folder.absolute().relative_to(shared).as_posix() for folder in folders}


def policy_row(name: str, found: dict[str, Any], values: dict[str, Any] | None, index: int) -> dict[str, Any]:
    """One policy's numbers."""
    row = {
        "policy": f"{name}, seed {found['seeds'][index]}",
        "predicted": found["predicted"]["per_seed"][index],
        "noise_ci95": found["noise_ci95"][index],
        "true": found["true"]["per_seed"][index],
        "left_the_data": found["left_the_data"][index],
    }
    if values is not None:
        row |= {
            "fqe": values["estimate"]["per_seed"][index],
            "true_discounted": values["true"]["per_seed"][index],
        }
    return row


def correlations(rows: list[dict[str, Any]]) -> dict[str, float | None]:
    """Spearman's rank correlation with the true return, of each estimate; of the model also where it may know."""
    ranked = lambda rows, name, truth: rank_correlation(
        *([row[key] for row in rows] for key in (name, truth))
    )
    staying = [row for row in rows if row["left_the_data"] < STAYS]
    found = {
        "world model": ranked(rows, "predicted", "true"),
        f"world model, the {len(staying)} policies that stay in the data": ranked(
            staying, "predicted", "true"
        ),
    }
    if "fqe" in rows[0]:
        found["fitted-Q evaluation"] = ranked(rows, "fqe", "true_discounted")
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown, best policy first; predictions with their 95% interval over noise seeds."""
    names = [name for name in rows[0] if name not in ("policy", "noise_ci95")]
    lines = [f"| policy | {' | '.join(name.replace('_', ' ') for name in names)} |"]
    lines.append("| --- |" + " ---: |" * len(names))
    for row in sorted(rows, key=lambda row: -row["true"]):
        lines.append(f"| {row['policy']} | {' | '.join(cell(row, name) for name in names)} |")
    return "\n".join(lines) + "\n"


def cell(row: dict[str, Any], name: str) -> str:
    """ "1,370.2 [1,351.0, 1,390.4]"; one noise seed has no interval."""
    if name == "left_the_data":
        return f"{row[name]:.0%}"
    low, high = row["noise_ci95"]
    interval = "" if name != "predicted" or low is None else f" [{low:,.1f}, {high:,.1f}]"
    return f"{row[name]:,.1f}{interval}"


def picture(rows: list[dict[str, Any]]) -> Figure:
    """Predicted over true return, a mark a policy with its interval over noise, a sign a run; on the line the model is
    right."""
    figure = new_figure(4.8, 4.2)
    ax = figure.subplots()
    style_axes(ax, xlabel="true return", ylabel="predicted return", title="")
    runs = list(dict.fromkeys(row["policy"].rsplit(",", 1)[0] for row in rows))
    for place, run in enumerate(runs):
        own, style = [row for row in rows if row["policy"].rsplit(",", 1)[0] == run], series_style(place)
        ax.plot(
            [row["true"] for row in own], [row["predicted"] for row in own], style.marker, color=style.color,
            markersize=6, label=run,
        )  # fmt: skip
        known = [row for row in own if row["noise_ci95"][0] is not None]
        lows, highs = ([row["noise_ci95"][end] for row in known] for end in (0, 1))
        ax.vlines([row["true"] for row in known], lows, highs, color=style.color, linewidth=1)
    ends = [min(row["true"] for row in rows), max(row["true"] for row in rows)]
    ax.plot(ends, ends, "-", color=color("ink"), linewidth=1, label="as predicted")
    ax.legend(frameon=False, fontsize=8)
    return figure


if __name__ == "__main__":
    enable_compile_cache()
    tyro.cli(Trust, description=__doc__).run()
