"""Reading run folders: summary.json, config.toml, metrics.jsonl, figures, fidelity.json."""

import json
import math
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from langevin.errors import UsageError
from langevin.report.figures import CAPTIONS
from langevin.training.metrics import read_metrics

Record = dict[str, Any]


@dataclass(frozen=True)
class Picture:
    """A figure of a run and what it shows in a sentence."""

    path: Path
    caption: str


@dataclass(frozen=True)
class Run:
    """One finished run as it lies on disk. `metrics` are the lines of metrics.jsonl in order."""

    folder: Path
    summary: Record
    config: Record = field(default_factory=dict)
    metrics: list[Record] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    fidelity: Record | None = None

    @property
    def label(self) -> str:
        return str(self.summary.get("label") or self.summary["algorithm"])

    @property
    def dataset(self) -> str:
        return str(self.summary["dataset"])

    @property
    def seeds(self) -> int:
        return len(self.summary["normalized_score"]["per_seed"])

    @property
    def preset(self) -> str:
        return str(self.summary.get("preset") or "")

    @property
    def stopped(self) -> list[Record]:
        """The records that say a seed diverged and was stopped."""
        return [record for record in self.metrics if record.get("event") == "stopped"]


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Read run folders; a folder that only holds runs stands for all of them, in name order."""
    runs: list[Run] = []
    for folder in folders:
        folder = Path(folder)
        if not folder.is_dir():
            raise UsageError(f"{folder} is not a folder; give the folder that `langevin train --out` wrote")
        inner = sorted(path.parent for path in folder.glob("*/summary.json"))
        if not (folder / "summary.json").is_file() and not _looks_like_run(folder) and inner:
            runs += [read_run(path) for path in inner]
        else:
            runs.append(read_run(folder))
    return with_distinct_labels(list({run.folder.resolve(): run for run in runs}.values()))


def with_distinct_labels(runs: Sequence[Run]) -> list[Run]:
    """The same runs; those of one dataset that share a label are told apart by their folders' names."""
    counts = Counter((run.dataset, run.label) for run in runs)
    return [
        run
        if counts[run.dataset, run.label] == 1
        else replace(run, summary={**run.summary, "label": f"{run.label} ({run.folder.name})"})
        for run in runs
    ]


def read_run(folder: Path) -> Run:
    """Read one run folder; UsageError names the file (and line) that is missing or broken."""
    summary_path = folder / "summary.json"
    if not summary_path.is_file():
        if _looks_like_run(folder):
            raise UsageError(
                f"{folder} has no summary.json: the run has not ended; "
                "finish it with --resume, or score it with `langevin evaluate`"
            )
        raise UsageError(f"{folder} is not a run folder (it holds no summary.json and no config.toml)")
    config = _read_config(folder / "config.toml")
    summary = {"preset": config.get("preset")} | _read_json(summary_path)
    check_summary(summary, str(summary_path))
    fidelity_path = folder / "fidelity.json"
    fidelity = _read_json(fidelity_path) if fidelity_path.is_file() else None
    if fidelity is not None:
        check_fidelity(fidelity, str(fidelity_path))
    return Run(
        folder=folder,
        summary=summary,
        config=config,
        metrics=read_metrics(folder / "metrics.jsonl") if (folder / "metrics.jsonl").is_file() else [],
        pictures=_read_pictures(folder / "figures"),
        fidelity=fidelity,
    )


def check_summary(summary: Record, where: str) -> None:
    """UsageError that names the first field of a summary which is missing or has the wrong type."""
    for name in ("algorithm", "dataset"):
        if not isinstance(summary.get(name), str):
            raise _broken(where, name, "a string", summary.get(name))
    for name in ("steps", "episodes", "updates_per_second", "wall_seconds"):
        if summary.get(name) is not None and not _is_number(summary[name]):
            raise _broken(where, name, "a number", summary[name])
    if "normalized_score" in summary and summary["normalized_score"] is None:
        raise UsageError(
            f"{where} has no scores: the run's data were logged from a system without a simulator here; leave it "
            "out of the report and look at its metrics.jsonl"
        )
    for block in ("normalized_score", "return"):
        scores = summary.get(block)
        if not isinstance(scores, dict):
            raise _broken(where, block, "an object", scores)
        for name in ("mean", "iqm"):
            if not _is_number(scores.get(name)):
                raise _broken(where, f"{block}.{name}", "a number", scores.get(name))
        per_seed = scores.get("per_seed")
        if not (isinstance(per_seed, list) and per_seed and all(map(_is_number, per_seed))):
            raise _broken(where, f"{block}.per_seed", "a list of numbers, one a seed", per_seed)
        interval = scores.get("ci95")
        if not (
            isinstance(interval, list)
            and len(interval) == 2
            and all(_is_number(x) or x is None for x in interval)
        ):
            raise _broken(where, f"{block}.ci95", "[low, high] or [null, null]", interval)


def check_fidelity(fidelity: Record, where: str) -> None:
    """UsageError that names the first part of a fidelity report which is missing or has the wrong type."""
    for name in ("rows", "curves", "verdict", "worlds"):
        if not isinstance(fidelity.get(name, []), list):
            raise _broken(where, name, "a list", fidelity[name])
    for place, row in enumerate(fidelity.get("worlds", [])):
        _check_world_row(row, f"{where}: `worlds[{place}]`")
    for place, row in enumerate(fidelity.get("rows", [])):
        if (
            not isinstance(row, dict)
            or not isinstance(row.get("error"), dict)
            or not _is_number(row.get("legal"))
        ):
            raise _broken(where, f"rows[{place}]", "an object with `error` by step and `legal`", row)
        for name in ("model", "policy"):
            if not isinstance(row.get(name), str):
                raise _broken(where, f"rows[{place}].{name}", "a string", row.get(name))
        if row.get("strength") is not None and not _is_number(row["strength"]):
            raise _broken(where, f"rows[{place}].strength", "a number", row["strength"])
        if row["model"] != "ensemble" and not _is_number(row.get("refinement")):
            raise _broken(where, f"rows[{place}].refinement", "a number", row.get("refinement"))
        if not isinstance(row.get("error_half_width", {}), dict):
            raise _broken(where, f"rows[{place}].error_half_width", "an object", row["error_half_width"])
        if not all(step.isdigit() and _is_number(error) for step, error in row["error"].items()):
            raise _broken(where, f"rows[{place}].error", "numbers by step", row["error"])
    for place, curve in enumerate(fidelity.get("curves", [])):
        errors = curve.get("error_by_step") if isinstance(curve, dict) else None
        if not (isinstance(errors, list) and errors and all(map(_is_number, errors))):
            raise _broken(where, f"curves[{place}].error_by_step", "a list of numbers", errors)
        for name in ("low", "high"):
            band = curve.get(name)
            if band is not None and not (
                isinstance(band, list) and len(band) == len(errors) and all(map(_is_number, band))
            ):
                raise _broken(where, f"curves[{place}].{name}", f"a list of {len(errors)} numbers", band)


WORLD_NUMBERS = ("reward_error", "reward_spread", "end_accuracy", "end_error", "known")


def _check_world_row(row: Any, where: str) -> None:
    """UsageError for a row of `worlds` without a number that the page shows."""
    if not isinstance(row, dict) or not all(isinstance(row.get(name), str) for name in ("policy", "model")):
        raise _broken(where, "policy, model", "strings", row)
    for name in WORLD_NUMBERS:
        if not _is_number(row.get(name)):
            raise _broken(where, name, "a number", row.get(name))
    for name in ("error", "coverage"):
        found = row.get(name)
        if name == "coverage" and found is None:
            continue
        if not (isinstance(found, dict) and found and all(map(_is_number, found.values()))):
            raise _broken(where, name, "numbers by step", found)
    errors = row.get("error_by_step")
    if not (isinstance(errors, list) and len(errors) > 1 and all(map(_is_number, errors))):
        raise _broken(where, "error_by_step", "a list of numbers", errors)


def _broken(where: str, name: str, expected: str, got: Any) -> UsageError:
    shown = "nothing" if got is None else repr(got)[:60]
    return UsageError(
        f"{where}: `{name}` should be {expected}, got {shown}; write the file again with its command"
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _looks_like_run(folder: Path) -> bool:
    return (folder / "config.toml").is_file() or (folder / "metrics.jsonl").is_file()


def _read_json(path: Path) -> Record:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is not valid JSON ({error}); write it again with its command") from error
    if not isinstance(value, dict):
        raise UsageError(
            f"{path} holds {type(value).__name__}, not an object; write it again with its command"
        )
    return value


def _read_config(path: Path) -> Record:
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(
            f"{path} is not valid TOML ({error}); restore it, or delete it to report without it"
        ) from error


def _read_pictures(folder: Path) -> list[Picture]:
    """In the order of their captions, those without one last."""
    captions_path = folder / CAPTIONS
    captions = _read_json(captions_path) if captions_path.is_file() else {}
    pictures = []
    order = {name: place for place, name in enumerate(captions)}
    for path in sorted(folder.glob("*.png"), key=lambda path: (order.get(path.name, len(order)), path.name)):
        caption = str(captions.get(path.name) or path.stem.replace("_", " ").replace("-", " ").capitalize())
        pictures.append(Picture(path, caption))
    return pictures
