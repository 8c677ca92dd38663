"""`langevin data import FILE --as ID`: a table of logged steps becomes a dataset, once it was understood."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from langevin.data.sources.minari import require_free, save_dataset
from langevin.data.sources.tabular import ColumnChoice, Understood, read_log
from langevin.data.trajectories import Trajectories
from langevin.envs.agreement import require_same_shapes
from langevin.envs.tasks import Task, find_task, get_task
from langevin.errors import DatasetError, UsageError

MOST_DIMENSIONS = 12
"""Dimensions of a field that the explanation shows one by one before it counts the others."""


@dataclass(frozen=True)
class Import:
    """Import logged steps from a CSV, Parquet, HDF5 or NPZ file, and say what was understood before writing.

    One row is one step, in the order of time. HDF5 files in D4RL's layout need no columns named.

    Examples:
    langevin data import log.csv --as tank/plant-v0 --observations 'x*' --actions u0,u1 --reward r --episode id
    langevin data import log.parquet --as tank/run-v1 --observations x --actions u --reward r --terminal fell --dry-run
    langevin data import hopper_medium-v2.hdf5 --as hopper/d4rl-medium-v2
    """

    file: tyro.conf.Positional[Path]
    """The file; its name must end in .csv, .tsv, .txt, .parquet, .hdf5, .h5, .hdf or .npz."""
    save_as: Annotated[str, tyro.conf.arg(name="as")]
    """Id of the new dataset, as tank/plant-v0."""
    columns: Annotated[ColumnChoice, tyro.conf.arg(name="")] = ColumnChoice()
    action_low: tuple[float, ...] = ()
    """Lowest action, one number for all or one each (default: the task's, else the lowest logged)."""
    action_high: tuple[float, ...] = ()
    """Highest action, likewise."""
    task: str = ""
    """Id of the task the log is of, if it is one that is known here."""
    dry_run: bool = False
    """Only explain; write nothing."""
    overwrite: bool = False
    """Replace the dataset of that id, if there is one, once the new one is whole."""
    json: bool = False
    """Print the result as one JSON object."""

    def run(self) -> dict[str, Any]:
        """Read, explain, and write unless `dry_run`; returns the explanation."""
        require_free(self.save_as, self.overwrite or self.dry_run)
        task = get_task(self.task) if self.task else find_task({}, self.save_as)
        bounds, bounds_from = self._bounds(task)
        metadata = {"id": self.save_as}
        if task:
            metadata |= {"task": task.id, "reference_scores": [task.random_score, task.expert_score]}
        understood = read_log(self.file, self.columns, bounds, metadata)
        data = understood.imported.trajectories
        task = task or find_task(data.metadata, self.save_as)
        if task:
            _require_of(task, data, self.file)
        result = {
            "id": self.save_as,
            "written": not self.dry_run,
            "path": None,
            "task": task.id if task else None,
            **explanation(understood),
            "bounds_from": bounds_from or _default_bounds(understood),
        }
        if not self.json:
            _print(result, understood, self.file)
        if not self.dry_run:
            result["path"] = str(save_dataset(data, self.save_as, self.overwrite))
        if self.json:
            print(json.dumps(result))
        else:
            said = (
                f"Wrote {self.save_as} to {result['path']}"
                if result["path"]
                else "Nothing written (--dry-run)."
            )
            Console(soft_wrap=True).print(said, markup=False, highlight=False)
        return result

    def _bounds(self, task: Task | None) -> tuple[tuple[np.ndarray, np.ndarray] | None, str]:
        """Lowest and highest action and who said so; None leaves it to the file."""
        if bool(self.action_low) != bool(self.action_high):
            raise UsageError("--action-low and --action-high go together; give both or neither")
        if self.action_low:
            return (np.array(self.action_low), np.array(self.action_high)), "--action-low and --action-high"
        if task:
            return (task.action_low, task.action_high), f"the task {task.id}"
        return None, ""


def _require_of(task: Task, data: Trajectories, file: Path) -> None:
    try:
        require_same_shapes(data, task)
    except DatasetError as error:
        raise DatasetError(
            f"{file}: {error}; name other columns, or another --task, or an --as that does not begin with {task.id}"
        ) from error


def explanation(understood: Understood) -> dict[str, Any]:
    """What was understood of the file, JSON-able: columns, sizes, lengths, returns, bounds, ends."""
    imported = understood.imported
    data = imported.trajectories
    lengths, returns = data.episode_lengths(), data.episode_returns()
    return {
        "columns": {role: list(names) for role, names in understood.columns},
        "rows": imported.rows,
        "transitions": data.transitions,
        "episodes": data.episodes,
        "episode_length": {
            "min": int(lengths.min()),
            "median": float(np.median(lengths)),
            "max": int(lengths.max()),
        },
        "return": {"min": float(returns.min()), "mean": float(returns.mean()), "max": float(returns.max())},
        "terminated_episodes": int(data.terminations.sum()),
        "action_low": data.action_low.tolist(),
        "action_high": data.action_high.tolist(),
        "notes": list(imported.notes),
    }


def _default_bounds(understood: Understood) -> str:
    d4rl = any(role == "terminals" for role, _ in understood.columns)
    return "D4RL's layout" if d4rl else "the lowest and highest logged action"


def _print(result: dict[str, Any], understood: Understood, file: Path) -> None:
    console = Console()
    data = understood.imported.trajectories
    title = f"Understood of {escape(str(file))}"
    columns = Table("field", "dimension", "column", "from", "to", title=title, title_justify="left")
    for role, names in understood.columns:
        for row in _dimensions(role, names, data):
            columns.add_row(*map(escape, row))
    console.print(columns)
    lengths, returns = result["episode_length"], result["return"]
    low, high = data.action_low, data.action_high
    rows = {
        "rows": f"{result['rows']:,}, of which {result['transitions']:,} become transitions",
        "episodes": f"{result['episodes']:,}, {lengths['min']} to {lengths['max']} steps, median {lengths['median']:g}",
        "returns": f"{returns['min']:.4g} to {returns['max']:.4g}, mean {returns['mean']:.4g}",
        "terminations": f"{result['terminated_episodes']:,} of {result['episodes']:,} episodes",
        "action bounds": f"{_span(low, high)} ({result['bounds_from']})",
        "task": result["task"] or "none known here: trained on, not scored",
    }
    table = Table("", "", show_header=False)
    for name, words in rows.items():
        table.add_row(name, words)
    for place, note in enumerate(understood.imported.notes):
        table.add_row("" if place else "episodes' ends", escape(note))
    console.print(table)


def _dimensions(role: str, names: tuple[str, ...], data: Trajectories) -> Iterator[tuple[str, ...]]:
    """A row of words for each dimension of a field: which column it is, and its range."""
    arrays = {
        "observations": data.observations,
        "actions": data.actions,
        "reward": data.rewards[:, None],
        "rewards": data.rewards[:, None],
        "next_observations": data.next_observations,
    }
    field = role.replace("_", " ")
    if role not in arrays:
        yield field, "", ", ".join(names), "", ""
        return
    values = arrays[role]
    size = values.shape[1]
    # Files in D4RL's layout have one name for a whole array.
    names = names if len(names) == size else tuple(f"{names[0]}[{place}]" for place in range(size))
    for place in range(min(size, MOST_DIMENSIONS)):
        low, high = values[:, place].min(), values[:, place].max()
        yield "" if place else field, str(place), names[place], f"{low:.4g}", f"{high:.4g}"
    if size > MOST_DIMENSIONS:
        yield "", f"to {size - 1}", f"… {names[-1]}", "", ""


def _span(low: np.ndarray, high: np.ndarray) -> str:
    if (low == low[0]).all() and (high == high[0]).all():
        return f"{low[0]:.4g} to {high[0]:.4g}"
    return ", ".join(f"{a:.4g} to {b:.4g}" for a, b in zip(low, high, strict=True))
