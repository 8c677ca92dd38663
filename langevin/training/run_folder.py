"""A run folder's own papers: config.toml (what it takes to run it again) and summary.json (what came out)."""

import importlib.metadata
import json
import os
import platform
import subprocess
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax

from langevin.errors import UsageError
from langevin.training.files import atomic_write
from langevin.training.presets import from_toml, to_table, to_toml

_PACKAGES = ("langevin", "jax", "jaxlib", "equinox", "optax", "numpy", "gymnasium", "mujoco", "minari")
_PROVENANCE = ("versions", "commit", "machine")


def package_versions() -> dict[str, str]:
    """The versions of the packages that results depend on."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def machine_words() -> str:
    """What the run is computed on: accelerators, or the processor and its cores."""
    devices = jax.devices()
    if devices[0].platform != "cpu":
        return f"{len(devices)} x {devices[0].device_kind}"
    return f"{platform.machine()} CPU, {os.cpu_count()} cores"


def source_commit() -> str | None:
    """The git commit of Langevin's source, None when it is not a checkout of its own."""
    source = Path(__file__).parents[2]
    if not (source / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(source), "describe", "--always", "--abbrev=40", "--dirty"]
        described = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return described.stdout.strip() or None


@dataclass(frozen=True)
class RunConfig:
    """Everything needed to run a run again; the content of config.toml."""

    algorithm: str
    preset: str
    dataset: str
    """Dataset id or path."""
    task: str
    seeds: tuple[int, ...]
    settings: dict[str, Any]
    """The algorithm's configuration as `presets.to_table` gives it; `presets.from_table` turns it back."""
    observation_size: int
    action_size: int
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    """Action bounds per dimension, in the action's own units."""
    learns_endings: bool = False
    """Whether the world model learned when the system ends an episode, for want of a rule."""
    base: str | None = None
    """The learner an add-on stands on."""
    target_dataset: str | None = None
    """The dataset of the system that the policy is for, when it is not the one most was learned from."""
    transfer: str | None = None
    """How both datasets are learned from: finetune or dara."""
    command: str = ""
    """The command that makes this run."""
    dataset_metadata: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=package_versions)
    commit: str | None = field(default_factory=source_commit)
    machine: str = field(default_factory=machine_words)

    @property
    def policy_dataset(self) -> str:
        """The dataset of the system that the policy is for."""
        return self.target_dataset or self.dataset


def create_run_folder(folder: str | Path, run: RunConfig, *, resume: bool = False) -> None:
    """Make the folder with its config.toml, or, to resume, make sure that it is the same run.

    Raises UsageError when the folder is taken (without `resume`) or holds a run that differs, naming the
    first key that does. Other package versions than the run began with are allowed, with a warning.
    """
    folder, config = Path(folder), Path(folder) / "config.toml"
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; choose a folder for the run")
    if config.exists():
        if not resume:
            raise UsageError(f"{folder} already holds a run; go on with --resume, or choose another folder")
        _require_same(folder, read_run_config(folder), run)
        return
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty and holds no config.toml; choose another folder for the run")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the run folder {folder}: {error.strerror or error}") from error
    atomic_write(config, to_toml(run))


def read_run_config(folder: str | Path) -> RunConfig:
    """The config.toml of a run folder; UsageError when there is none or it is malformed."""
    path = Path(folder) / "config.toml"
    if not path.is_file():
        raise UsageError(f"{folder} is not a run folder (it has no config.toml)")
    return from_toml(RunConfig, path.read_text("utf-8"), str(path))


def write_summary(folder: str | Path, summary: Mapping[str, Any]) -> None:
    """Write summary.json whole, or leave the one that is there."""
    atomic_write(Path(folder) / "summary.json", json.dumps(summary, indent=1, allow_nan=False) + "\n")


def read_summary(folder: str | Path) -> dict[str, Any]:
    """The summary.json of a finished run; UsageError when there is none."""
    path = Path(folder) / "summary.json"
    if not path.is_file():
        raise UsageError(f"{folder} has no summary.json; finish the run, or evaluate it, first")
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise UsageError(f"{path} is not valid JSON ({error}); evaluate the run again") from error


def _require_same(folder: Path, old: RunConfig, new: RunConfig) -> None:
    before, now = _flat(to_table(old)), _flat(to_table(new))
    for key in before | now:
        if before.get(key) == now.get(key) or key == "command":
            continue
        was, asked = before.get(key, "nothing"), now.get(key, "nothing")
        if key.split(".")[0] in _PROVENANCE:
            warnings.warn(f"the run in {folder} began with {key} {was}, now {asked}", stacklevel=3)
        else:
            raise UsageError(
                f"the run in {folder} has {key} = {was}, not {asked}; resume it with its own settings, "
                "or choose another folder"
            )


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in table.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat
