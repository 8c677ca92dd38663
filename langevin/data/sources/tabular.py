"""Tables of logged steps, as trajectories: which columns are observations, actions, rewards and ends of episodes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from langevin.data.sources.d4rl import OPTIONAL, REQUIRED, find_published, from_arrays, has_d4rl_layout
from langevin.data.sources.logged_rows import Field, Imported, LoggedRows, to_trajectories
from langevin.data.sources.table_files import column_names, first_line, read_columns
from langevin.errors import DatasetError, UsageError, nearest

Bounds = tuple[Float[np.ndarray, " action"], Float[np.ndarray, " action"]]
TRUE, FALSE = ("1", "1.0", "true", "yes"), ("0", "0.0", "false", "no")


@dataclass(frozen=True)
class ColumnChoice:
    """Which columns hold what; lists of columns as "x*,y0"."""

    observations: str = ""
    """Columns of the observation in order: names and globs between commas."""
    actions: str = ""
    """Columns of the action."""
    reward: str = ""
    """Column of the reward."""
    next_observations: str = ""
    """Columns of the observation after the step, if the log has them."""
    episode: str = ""
    """Column that numbers or names the episodes; an episode's rows stand together."""
    terminal: str = ""
    """Column that is true where the system ended the episode (a fall, not a time limit)."""
    timeout: str = ""
    """Column that is true where only the clock, or the log, ended the episode."""
    one_episode: bool = False
    """The whole file is one episode."""


@dataclass(frozen=True)
class Understood:
    """An imported log with what was understood of its columns."""

    imported: Imported
    columns: tuple[tuple[str, tuple[str, ...]], ...]
    """For each field, the columns its dimensions come from, in order."""


def read_log(
    path: Path,
    choice: ColumnChoice,
    bounds: tuple[Float[np.ndarray, " low"], Float[np.ndarray, " high"]] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Understood:
    """Read a CSV, Parquet, HDF5 or NPZ file of logged steps, one row a step, in the order of time.

    HDF5 and NPZ files in D4RL's layout need no choice of columns. `bounds` are the lowest and the highest action,
    one number for all dimensions or one each; by default those of the data (D4RL's layout: -1 and 1). What becomes
    of the episodes' ends is told by `to_trajectories`. `metadata` is added to what the file tells.

    **Raises:** `UsageError` for columns that are not there, named twice or not enough; `DatasetError` naming file,
    column and row for data that cannot be used. Nothing is written in any case.
    """
    names = column_names(path)
    if choice == ColumnChoice() and has_d4rl_layout(names):
        wanted = [name for name in REQUIRED + OPTIONAL if name in names]
        arrays = read_columns(path, wanted)
        size = arrays["actions"].shape[1] if arrays["actions"].ndim == 2 else 1
        imported = from_arrays(arrays, path, find_published(path.name), _spread(bounds, size))
        imported.trajectories.metadata.update(metadata or {})
        return Understood(imported, tuple((name, (name,)) for name in wanted))
    chosen = _choose(path, names, choice)
    flags = [name for role in ("episode", "terminal", "timeout") for name in chosen[role]]
    wanted = [name for names in chosen.values() for name in names]
    arrays = read_columns(path, wanted, flags)
    line = first_line(path)
    _require_same_rows(path, arrays)
    fields = {
        role: _field(path, chosen[role], arrays)
        for role in ("observations", "actions", "reward", "next_observations")
        if chosen[role]
    }
    terminals, last = _ends(path, choice, chosen, arrays, len(fields["observations"].values), line)
    rows = LoggedRows(
        str(path),
        fields["observations"],
        fields["actions"],
        fields["reward"],
        fields.get("next_observations"),
        terminals,
        last,
        line,
    )
    columns = {role: [_bare(name) for name in field.columns] for role, field in fields.items()}
    columns |= {role: chosen[role] for role in ("episode", "terminal", "timeout") if chosen[role]}
    imported = to_trajectories(
        rows,
        _spread(bounds, fields["actions"].values.shape[1]),
        {
            "task": None,
            "reference_scores": None,
            "recipe": {"file": path.name, "columns": columns},
            **(metadata or {}),
        },
    )
    return Understood(imported, tuple((role, tuple(names)) for role, names in columns.items()))


def _choose(path: Path, names: list[str], choice: ColumnChoice) -> dict[str, list[str]]:
    """The columns of every role, each of which has none, one, or (observations, actions) several."""
    for role in ("observations", "actions", "reward"):
        if not getattr(choice, role):
            raise UsageError(f"--{role} is missing: say which columns of {path} hold it ({_some(names)})")
    roles = ("observations", "actions", "reward", "next_observations", "episode", "terminal", "timeout")
    chosen = {role: pick(getattr(choice, role), names, role, path) for role in roles}
    for role in ("reward", "episode", "terminal", "timeout"):
        if len(chosen[role]) > 1:
            raise UsageError(f"{_option(role)} must be one column, got {', '.join(chosen[role])}")
    # A reward may also be something observed; every other column has one meaning.
    owners: dict[str, str] = {}
    for role in ("observations", "actions", "next_observations", "episode", "terminal", "timeout"):
        for name in chosen[role]:
            if name in owners:
                raise UsageError(
                    f"column {name!r} of {path} is taken by {_option(owners[name])} and by {_option(role)}; "
                    "it can be only one of them"
                )
            owners[name] = role
    return chosen


def pick(wanted: str, names: Sequence[str], role: str, path: Path) -> list[str]:
    """The columns that a list of names and globs means, globs in the file's order.

    **Raises:** `UsageError` naming the nearest when a name or glob fits none, or a column is named twice.
    """
    chosen: list[str] = []
    for part in wanted.split(",") if wanted else ():
        name = part.strip()
        found = [name] if name in names else [known for known in names if fnmatchcase(known, name)]
        if not found:
            close = (
                f"there are {_some(names)}" if set("*?[") & set(name) or not name else nearest(name, names)
            )
            raise UsageError(f"{_option(role)}: {path} has no column {name!r}; {close}")
        for known in found:
            if known in chosen:
                raise UsageError(f"{_option(role)} names column {known!r} of {path} twice")
        chosen += found
    return chosen


def _ends(
    path: Path,
    choice: ColumnChoice,
    chosen: dict[str, list[str]],
    arrays: dict[str, np.ndarray],
    rows: int,
    line: int | None,
) -> tuple[Bool[np.ndarray, " rows"], Bool[np.ndarray, " rows"]]:
    """Terminal rows, and rows that are their episode's last."""
    place = lambda row: f"row {row}" if line is None else f"line {row + line}"
    flags = {
        role: _flag(path, chosen[role][0], arrays[chosen[role][0]], place)
        if chosen[role]
        else np.zeros(rows, bool)
        for role in ("terminal", "timeout")
    }
    if not chosen["episode"]:
        if not (chosen["terminal"] or chosen["timeout"] or choice.one_episode):
            raise UsageError(
                f"where do the episodes of {path} end? name a column with --episode, --terminal or --timeout, or say "
                "--one-episode"
            )
        return flags["terminal"], flags["terminal"] | flags["timeout"]
    if choice.one_episode:
        raise UsageError("--episode and --one-episode contradict each other; leave one out")
    name = chosen["episode"][0]
    last = _changes(path, name, arrays[name], place)
    early = flags["timeout"] & ~last
    if early.any():
        raise DatasetError(
            f"{path}: column {chosen['timeout'][0]!r}, {place(np.argmax(early))} is true, but its episode goes on in "
            "the next row; end the episode there"
        )
    return flags["terminal"], last


def _changes(path: Path, name: str, labels: np.ndarray, place: Any) -> Bool[np.ndarray, " rows"]:
    """Rows after which another episode stands; every episode must stand in one piece."""
    if labels.ndim != 1:
        raise DatasetError(f"{path}: column {name!r} (episode) must hold one value a row, got {labels.shape}")
    missing = np.array([label is None or label != label for label in labels.tolist()], bool)
    if missing.any():
        raise DatasetError(f"{path}: column {name!r} (episode), {place(np.argmax(missing))} is empty")
    if len(labels) == 0:
        return np.zeros(0, bool)
    last = np.append(labels[1:] != labels[:-1], True)
    starts = np.flatnonzero(np.concatenate([[True], last[:-1]]))
    seen: set[Any] = set()
    for start, label in zip(starts.tolist(), labels[starts].tolist(), strict=True):
        if label in seen:
            raise DatasetError(
                f"{path}: column {name!r} (episode), {place(start)}: episode {label} comes again after others; sort "
                "the rows by episode and time"
            )
        seen.add(label)
    return last


def _flag(path: Path, name: str, values: np.ndarray, place: Any) -> Bool[np.ndarray, " rows"]:
    if values.ndim != 1:
        raise DatasetError(f"{path}: column {name!r} must hold one value a row, got {values.shape}")
    if values.dtype == bool:
        return values
    words = np.array([str(value).strip().lower() for value in values.tolist()], dtype=object)
    true = np.isin(words, TRUE)
    wrong = ~true & ~np.isin(words, FALSE)
    if wrong.any():
        row = int(np.argmax(wrong))
        shown = "empty" if words[row] in ("none", "nan", "") else repr(values.tolist()[row])
        raise DatasetError(
            f"{path}: column {name!r}, {place(row)} is {shown}, neither true nor false (1 or 0)"
        )
    return true


def _field(path: Path, names: Sequence[str], arrays: dict[str, np.ndarray]) -> Field:
    """The columns side by side, each dimension with its column's name."""
    parts, columns = [], []
    for name in names:
        values = arrays[name]
        if values.dtype.kind not in "fiub" or values.ndim not in (1, 2):
            raise DatasetError(f"{path}: column {name!r} must hold numbers, got {_kind(values)}")
        single = values.ndim == 1
        parts.append(values[:, None] if single else values)
        columns += (
            [f"column {name!r}"] if single else [f"column {name!r}[{i}]" for i in range(values.shape[1])]
        )
    return Field(tuple(columns), np.concatenate(parts, axis=1).astype(np.float64))


def _require_same_rows(path: Path, arrays: dict[str, np.ndarray]) -> None:
    first = next(iter(arrays))
    for name, values in arrays.items():
        if values.ndim == 0 or len(values) != len(arrays[first]):
            rows = 0 if values.ndim == 0 else len(values)
            raise DatasetError(
                f"{path}: column {name!r} has {rows} rows, column {first!r} {len(arrays[first])}"
            )


def _spread(
    bounds: tuple[Float[np.ndarray, " low"], Float[np.ndarray, " high"]] | None, size: int
) -> Bounds | None:
    """Bounds for every dimension of the action, from one number for all or one each."""
    if bounds is None:
        return None
    low, high = (np.asarray(side, np.float64) for side in bounds)
    for name, side in (("--action-low", low), ("--action-high", high)):
        if side.size not in (1, size):
            raise UsageError(
                f"{name} must be one number, or one for each of the {size} actions, got {side.size}"
            )
        if not np.isfinite(side).all():
            raise UsageError(
                f"{name} must be finite, got {', '.join(f'{value:g}' for value in side.ravel())}"
            )
    low, high = np.broadcast_to(low, size), np.broadcast_to(high, size)
    if (low >= high).any():
        column = int(np.argmax(low >= high))
        raise UsageError(
            f"--action-low must lie below --action-high, got {low[column]:g} and {high[column]:g} for action {column}"
        )
    return low, high


def _option(role: str) -> str:
    return "--" + role.replace("_", "-")


def _bare(column: str) -> str:
    return column.removeprefix("column ").replace("'", "")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def _kind(values: np.ndarray) -> str:
    return "text" if values.dtype.kind in "OUST" else f"{values.dtype} of shape {values.shape}"
