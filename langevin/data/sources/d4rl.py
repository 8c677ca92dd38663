"""D4RL's datasets (Fu et al., 2020): by name, fetched when they are not there, or as a file in D4RL's layout.

The layout: HDF5 with `observations`, `actions`, `rewards`, `terminals` and, in most files, `timeouts` and
`next_observations`, one row a time step, episodes end to end. What D4RL publishes stands in `d4rl.toml`.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from langevin.data.sources.download import download, require_checksum
from langevin.data.sources.logged_rows import Field, Imported, LoggedRows, jumps, to_trajectories
from langevin.errors import DatasetError, UsageError, nearest
from langevin.progress import AbstractProgress

REQUIRED = ("observations", "actions", "rewards", "terminals")
OPTIONAL = ("timeouts", "next_observations")


@dataclass(frozen=True)
class Family:
    """What D4RL registers for the datasets of one environment."""

    task: str
    observation_size: int
    action_size: int
    max_steps: int
    """Environment steps after which D4RL truncates an episode."""
    reference_scores: tuple[float, float]
    """Returns of the random and of the expert policy, in reward units."""
    physics: str
    goal: tuple[int, int] | None = None
    """maze2d only: the cell (row, column) that is rewarded, and the file's coordinates of its centre."""


@dataclass(frozen=True)
class Published:
    """One dataset that D4RL publishes."""

    name: str
    url: str
    family: Family
    sha256: str
    """Hexadecimal; "" where nobody publishes one."""

    @property
    def file(self) -> str:
        return self.url.rsplit("/", 1)[1]


@cache
def published() -> dict[str, Published]:
    """Every dataset of `d4rl.toml`, by name."""
    table = tomllib.loads(files("langevin.data.sources").joinpath("d4rl.toml").read_text("utf-8"))
    families = {name: Family(**_tuples(row)) for name, row in table["families"].items()}
    return {
        name: Published(name, table["server"] + row["file"], families[row["family"]], row.get("sha256", ""))
        for name, row in table["datasets"].items()
    }


def d4rl_folder() -> Path:
    """Where D4RL itself keeps its files, so that those already there are used: `D4RL_DATASET_DIR` or its default."""
    chosen = os.environ.get("D4RL_DATASET_DIR")
    return Path(chosen).expanduser() if chosen else Path.home() / ".d4rl" / "datasets"


def open_d4rl(name: str, progress: AbstractProgress | None = None) -> Imported:
    """The D4RL dataset of that name, as hopper-medium-v2, downloaded if it is not in `d4rl_folder()`.

    **Raises:** `UsageError` naming the nearest names; `LangevinError` when it cannot be downloaded or its checksum
    differs from the published one; `DatasetError` as `read_d4rl`.
    """
    if name not in published():
        raise UsageError(f"D4RL dataset {name!r} is not known; {nearest(name, published())}")
    dataset = published()[name]
    path = d4rl_folder() / dataset.file
    if path.exists():
        advice = "delete it to download it again, or open it by its path to use it as it is"
        require_checksum(path, dataset.sha256, str(path), advice)
    else:
        download(dataset.url, path, dataset.sha256, progress)
    return read_d4rl(path, dataset)


def read_d4rl(path: Path, dataset: Published | None = None) -> Imported:
    """A file in D4RL's layout; what D4RL registers for it is found by the file's name when not given.

    **Raises:** `DatasetError` naming file, field and row when the file is not HDF5, is cut off or malformed, or holds
    another task's data than its name says.
    """
    return from_arrays(read_arrays(path), path, dataset or find_published(path.name))


def find_published(file_name: str) -> Published | None:
    """The published dataset that a file of that name holds: D4RL's own file name, or the dataset's name."""
    stem = file_name.rsplit(".", 1)[0]
    for dataset in published().values():
        if file_name == dataset.file or stem == dataset.name:
            return dataset
    return None


def has_d4rl_layout(names: Any) -> bool:
    """Whether arrays of these names are a D4RL dataset (terminals may be missing: the error says so)."""
    return {"observations", "actions", "rewards"} <= set(names)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of D4RL's layout that the HDF5 file holds, by name, untouched.

    **Raises:** `DatasetError` when the file is not there, not HDF5, or cut off.
    """
    import h5py

    if not path.is_file():
        raise DatasetError(f"there is no file {path}")
    try:
        with h5py.File(path, "r") as file:
            found = {name: file.get(name) for name in REQUIRED + OPTIONAL}
            return {name: item[()] for name, item in found.items() if isinstance(item, h5py.Dataset)}
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise DatasetError(
            f"{path} cannot be read as HDF5 ({_first_line(error)}); it is damaged or cut off: fetch it again"
        ) from error


def from_arrays(
    arrays: Mapping[str, np.ndarray],
    path: Path,
    dataset: Published | None,
    bounds: tuple[Float[np.ndarray, " action"], Float[np.ndarray, " action"]] | None = None,
) -> Imported:
    """Trajectories from the arrays of D4RL's layout, one row a time step.

    Without `timeouts`, episodes end at terminals, after the registered number of steps, and wherever next
    observations do not continue. `bounds` of the actions default to D4RL's -1 and 1.

    **Raises:** `DatasetError` naming file, field and row.
    """
    file, family = str(path), dataset.family if dataset else None
    for name in REQUIRED:
        if name not in arrays:
            raise DatasetError(
                f"{file} has no {name!r}; a file in D4RL's layout needs {', '.join(REQUIRED)}, and "
                "`langevin data import` takes others"
            )
    for name, values in arrays.items():
        if values.ndim == 0:
            raise DatasetError(f"{file}: {name} is a single value, not one a row")
    _require_rows(file, arrays)
    observations = _matrix(file, "observations", arrays["observations"])
    actions = _matrix(file, "actions", arrays["actions"])
    rewards = _matrix(file, "rewards", _column(arrays["rewards"]))
    following = (
        _matrix(file, "next_observations", arrays["next_observations"])
        if "next_observations" in arrays
        else None
    )
    terminals = _flags(file, "terminals", arrays["terminals"])
    timeouts = _flags(file, "timeouts", arrays["timeouts"]) if "timeouts" in arrays else None
    notes = []
    if dataset and family:
        _require_size(file, "observations", observations, family.observation_size, f"{dataset.name} has")
        _require_size(file, "actions", actions, family.action_size, f"{dataset.name} has")
    if family and family.goal:
        if timeouts is None:
            raise DatasetError(f"{file} has no 'timeouts', and only they say where maze2d's episodes end")
        if terminals.any():
            notes.append(
                f"{terminals.sum():,} 'terminals' taken as timeouts: no state ends a maze2d episode, they mark goals"
            )
            timeouts, terminals = timeouts | terminals, np.zeros_like(terminals)
    last = terminals.copy()
    if timeouts is not None:
        last |= timeouts
    else:
        last, note = _cut_without_timeouts(file, family, following, observations, last)
        notes.append(note)
    if bounds is None:
        bounds = _d4rl_bounds(file, actions, family)
    return to_trajectories(
        LoggedRows(file, observations, actions, rewards, following, terminals, last),
        bounds,
        _metadata(path, dataset),
        keep_short=True,
        notes=notes,
    )


def _cut_without_timeouts(
    file: str,
    family: Family | None,
    following: Field | None,
    observations: Field,
    terminals: Bool[np.ndarray, " rows"],
) -> tuple[Bool[np.ndarray, " rows"], str]:
    """Rows that end an episode where no timeout says so, and how that was found."""
    if family is None and following is None:
        raise DatasetError(
            f"{file} has neither 'timeouts' nor 'next_observations', and its name is not one of D4RL's: where its "
            "episodes are cut off cannot be known; add timeouts, or rename the file as D4RL does"
        )
    if following is None:
        last, jumping = terminals, ""
    else:
        _require_size(file, "next_observations", following, observations.values.shape[1], "observations have")
        last = terminals | jumps(observations.values, following.values)
        jumping = " and where next observations do not continue"
    if family is None:
        return last, f"the file has no timeouts: episodes end at terminals{jumping}"
    starts = np.flatnonzero(np.concatenate([[True], last[:-1]]))
    rows = np.arange(len(last))
    step = rows - starts[np.searchsorted(starts, rows, side="right") - 1]
    clock = (step + 1) % family.max_steps == 0
    note = f"the file has no timeouts: episodes end at terminals, after {family.max_steps} steps{jumping}"
    return last | clock, note


def _d4rl_bounds(file: str, actions: Field, family: Family | None) -> tuple[np.ndarray, np.ndarray]:
    beyond = np.abs(actions.values) > 1.001
    if family is None and beyond.any():
        row, column = np.unravel_index(int(np.argmax(beyond)), beyond.shape)
        raise DatasetError(
            f"{file}: {actions.columns[column]}, row {row} is {actions.values[row, column]:g}, beyond D4RL's bounds of "
            "-1 and 1; give the bounds with `langevin data import`"
        )
    ones = np.ones(actions.values.shape[1], np.float32)
    return -ones, ones


def _metadata(path: Path, dataset: Published | None) -> dict[str, Any]:
    if dataset is None:
        return {"id": path.stem, "task": None, "reference_scores": None, "recipe": {"file": path.name}}
    family = dataset.family
    return {
        "id": f"d4rl:{dataset.name}",
        "task": family.task,
        "reference_scores": list(family.reference_scores),
        "physics": family.physics,
        "recipe": {"source": "D4RL", "dataset": dataset.name, "file": path.name},
        **({"goal": list(family.goal)} if family.goal else {}),
    }


def _column(values: np.ndarray) -> np.ndarray:
    return values[:, None] if values.ndim == 1 else values


def _matrix(file: str, name: str, values: np.ndarray) -> Field:
    if values.dtype.kind not in "fiub":
        raise DatasetError(f"{file}: {name} must hold numbers, got {values.dtype}")
    if values.ndim != 2 or values.shape[1] == 0 or (name == "rewards" and values.shape[1] != 1):
        expected = "(rows,)" if name == "rewards" else "(rows, size)"
        raise DatasetError(f"{file}: {name} must have the shape {expected}, got {values.shape}")
    return Field(tuple(f"{name} column {column}" for column in range(values.shape[1])), values)


def _flags(file: str, name: str, values: np.ndarray) -> Bool[np.ndarray, " rows"]:
    if values.dtype.kind not in "fiub":
        raise DatasetError(f"{file}: {name} must be true or false, got {values.dtype}")
    flat = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
    if flat.ndim != 1:
        raise DatasetError(f"{file}: {name} must have the shape (rows,), got {values.shape}")
    wrong = (flat != 0) & (flat != 1)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DatasetError(f"{file}: {name}, row {row} is {flat[row]}, neither 0 nor 1")
    return flat.astype(bool)


def _require_rows(file: str, arrays: Mapping[str, np.ndarray]) -> None:
    count = len(arrays["observations"])
    if count == 0:
        raise DatasetError(f"{file} holds no rows")
    for name, values in arrays.items():
        if len(values) != count:
            raise DatasetError(f"{file}: {name} have {len(values)} rows, observations {count}")


def _require_size(file: str, name: str, field: Field, size: int, owner: str) -> None:
    if field.values.shape[1] != size:
        raise DatasetError(
            f"{file}: {name} have {field.values.shape[1]} columns, but {owner} {size}; rename the file if it holds "
            "something else"
        )


def _tuples(row: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
