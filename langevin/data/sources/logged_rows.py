"""From the rows of a log to trajectories: where episodes end, and what their last successors are.

A log is a list of rows in the order of time. Most logs hold no next observation, only the next row's observation,
and that is no successor where an episode ends: it is the state after a reset. It is never used as one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32

from langevin.data.trajectories import BOUND_TOLERANCE, Trajectories
from langevin.errors import DatasetError

JOIN_TOLERANCE = 1e-5
"""Relative difference up to which a next observation is the next row's observation, rounded."""
MOST_JUMPS = 0.5
"""Share of rows that may fail to continue in the next row before the file counts as shuffled."""


@dataclass(frozen=True, eq=False)
class Field:
    """One field of a log, and what the file calls each of its columns (for errors and explanations)."""

    columns: tuple[str, ...]
    values: Float[np.ndarray, "rows columns"]


@dataclass(frozen=True, eq=False)
class LoggedRows:
    """A log as it stands in its file, one row a time step, units the log's own."""

    file: str
    """What errors call the file."""
    observations: Field
    actions: Field
    rewards: Field
    next_observations: Field | None
    """None where the log has none: the successor is then the next row's observation, inside an episode."""
    terminals: Bool[np.ndarray, " rows"]
    """True where the system ended the episode."""
    last: Bool[np.ndarray, " rows"]
    """True at every row that is its episode's last, whatever ended it."""
    first_line: int | None = None
    """Line of the first row in a text file, which errors then name; None where rows are numbered from 0."""

    def place(self, row: int | np.integer) -> str:
        """Words for where a row stands in the file."""
        return f"row {row}" if self.first_line is None else f"line {row + self.first_line}"


@dataclass(frozen=True, eq=False)
class Imported:
    """Trajectories and what was done to the log to get them."""

    trajectories: Trajectories
    rows: int
    """Rows of the file."""
    notes: tuple[str, ...]
    """What happened at the episodes' ends, in sentences."""


def to_trajectories(
    rows: LoggedRows,
    bounds: tuple[Float[np.ndarray, " action"], Float[np.ndarray, " action"]] | None,
    metadata: dict[str, Any],
    *,
    keep_short: bool = False,
    notes: Sequence[str] = (),
) -> Imported:
    """Cut the log into episodes and give every row its true successor.

    Without next observations the last row of an episode has no known successor. It is dropped, and the row above
    becomes a truncation; only where the system ended the episode is it kept, with its own observation in the
    successor's place, because its reward and its termination are facts and no value lies beyond it.

    `bounds` are the lowest and highest actions; None takes those found in the log. With `keep_short` an episode
    that holds no transition (one row without a successor) is left out, else refused. `notes` come first among the
    result's notes; all of them are kept in the metadata.

    **Raises:** `DatasetError` naming file, column and row for arrays that do not go together, values that are not
    finite, actions outside their bounds or without a range, rows in no order of time, and episodes without a
    transition.
    """
    _check_lengths(rows)
    _require_finite(rows, rows.observations, "observations")
    last = rows.last.copy()
    last[-1] = True
    early = rows.terminals & ~last
    if early.any():
        raise DatasetError(
            f"{rows.file}: {rows.place(np.argmax(early))} is terminal, but its episode goes on in the next row; "
            "end the episode there"
        )
    told = list(notes)
    if rows.next_observations is None:
        successors, kept, words = _next_rows(rows, last, keep_short)
        told += words
    else:
        _require_finite(rows, rows.next_observations, "next_observations")
        successors, jumped = _joined(rows, last)
        last |= jumped
        kept = np.ones(len(last), bool)
        if jumped.any():
            told.append(
                f"{_count(jumped.sum(), 'episode')} cut where the next observation is not the next row's "
                f"(first at {rows.place(np.argmax(jumped))})"
            )
    _require_finite(rows, rows.actions, "actions", kept)
    _require_finite(rows, rows.rewards, "rewards", kept)
    actions = rows.actions.values[kept]
    low, high = _bounds_found(rows, actions) if bounds is None else bounds
    _require_inside(rows, kept, np.asarray(low, np.float64), np.asarray(high, np.float64))
    episode = np.cumsum(np.concatenate([[0], last[:-1]]))[kept]
    closing = np.append(episode[1:] != episode[:-1], True)
    terminations = rows.terminals[kept]
    return Imported(
        trajectories=Trajectories(
            observations=rows.observations.values[kept],
            actions=actions,
            rewards=rows.rewards.values[kept, 0],
            terminations=terminations,
            truncations=closing & ~terminations,
            next_observations=successors[kept],
            episode_ends=np.flatnonzero(closing) + 1,
            action_low=low,
            action_high=high,
            metadata={**metadata, **({"notes": told} if told else {})},
        ),
        rows=len(last),
        notes=tuple(told),
    )


def jumps(
    observations: Float[np.ndarray, "rows observation"],
    next_observations: Float[np.ndarray, "rows observation"],
) -> Bool[np.ndarray, " rows"]:
    """Rows whose next observation is not the next row's observation, up to rounding; the last row is none."""
    joined = np.isclose(next_observations[:-1], observations[1:], JOIN_TOLERANCE, JOIN_TOLERANCE)
    return np.append(~joined.all(axis=1), False)


def _joined(
    rows: LoggedRows, last: Bool[np.ndarray, " rows"]
) -> tuple[Float32[np.ndarray, "rows observation"], Bool[np.ndarray, " rows"]]:
    """Next observations that equal the next row's bit for bit inside an episode, and where an episode jumps."""
    assert rows.next_observations is not None
    observations = rows.observations.values.astype(np.float32)
    successors = rows.next_observations.values.astype(np.float32)
    jumped = jumps(observations, successors) & ~last
    inside = ~last & ~jumped
    if jumped.sum() > MOST_JUMPS * max(len(last) - last.sum(), 1):
        raise DatasetError(
            f"{rows.file}: next observations are not those of the next row in {jumped.sum()} of {len(last)} rows "
            f"(first at {rows.place(np.argmax(jumped))}); bring the rows into the order of time"
        )
    successors[inside] = observations[np.flatnonzero(inside) + 1]
    return successors, jumped


def _next_rows(
    rows: LoggedRows, last: Bool[np.ndarray, " rows"], keep_short: bool
) -> tuple[Float32[np.ndarray, "rows observation"], Bool[np.ndarray, " rows"], list[str]]:
    """Successors by a shift inside each episode, which rows are kept, and what was done, in words."""
    observations = rows.observations.values.astype(np.float32)
    successors = observations.copy()
    successors[:-1][~last[:-1]] = observations[1:][~last[:-1]]
    kept = ~last | rows.terminals
    first = np.concatenate([[True], last[:-1]])
    empty = first & ~kept
    if empty.any() and not keep_short:
        raise DatasetError(
            f"{rows.file}: {_count(empty.sum(), 'episode')} of a single row (first at "
            f"{rows.place(np.argmax(empty))}) without a next observation: a transition needs two; drop them, or name "
            "the columns of the next observations"
        )
    if not kept.any():
        raise DatasetError(f"{rows.file}: no row has a known successor, so it holds no transition")
    words = []
    if not kept.all():
        words.append(
            f"{_count((~kept).sum(), 'last row')} dropped, whose successor was not logged: the file has no next "
            "observations, and the next row is after a reset"
        )
    if empty.any():
        words.append(f"{_count(empty.sum(), 'episode')} of a single row held no transition")
    if rows.terminals.any():
        words.append(
            f"{_count(rows.terminals.sum(), 'terminal row')} kept with their own observation in the successor's "
            "place: value ends there, but a world model must not learn these successors"
        )
    return successors, kept, words


def _check_lengths(rows: LoggedRows) -> None:
    count = len(rows.observations.values)
    if count == 0:
        raise DatasetError(f"{rows.file} holds no rows")
    fields = {"actions": rows.actions, "rewards": rows.rewards, "next observations": rows.next_observations}
    for name, field in fields.items():
        if field is not None and len(field.values) != count:
            raise DatasetError(f"{rows.file}: {name} have {len(field.values)} rows, observations {count}")
    for name, flags in (("terminals", rows.terminals), ("ends of episodes", rows.last)):
        if len(flags) != count:
            raise DatasetError(f"{rows.file}: {name} have {len(flags)} rows, observations {count}")
    following = rows.next_observations
    if following is not None and following.values.shape[1] != rows.observations.values.shape[1]:
        raise DatasetError(
            f"{rows.file}: next observations have {following.values.shape[1]} columns, "
            f"observations {rows.observations.values.shape[1]}; name them in the same order"
        )


def _require_finite(
    rows: LoggedRows, field: Field, name: str, kept: Bool[np.ndarray, " rows"] | None = None
) -> None:
    with np.errstate(over="ignore"):
        wrong = ~np.isfinite(field.values.astype(np.float32))
    if kept is not None:
        wrong &= kept[:, None]
    if wrong.any():
        row, column = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
        raise DatasetError(
            f"{rows.file}: {field.columns[column]} ({name}), {rows.place(row)} is "
            f"{field.values[row, column]:g}, not a finite number of single precision; mend it or drop its episode"
        )


def _bounds_found(
    rows: LoggedRows, actions: Float[np.ndarray, "rows action"]
) -> tuple[np.ndarray, np.ndarray]:
    low, high = actions.min(axis=0), actions.max(axis=0)
    stuck = low.astype(np.float32) >= high.astype(np.float32)
    if stuck.any():
        column = int(np.argmax(stuck))
        raise DatasetError(
            f"{rows.file}: {rows.actions.columns[column]} (actions) is always {low[column]:g}, which gives no "
            "bounds; give the lowest and the highest action (--action-low, --action-high), or leave it out"
        )
    return low, high


def _require_inside(
    rows: LoggedRows,
    kept: Bool[np.ndarray, " rows"],
    low: Float[np.ndarray, " action"],
    high: Float[np.ndarray, " action"],
) -> None:
    slack = BOUND_TOLERANCE * (high - low)
    values = rows.actions.values
    outside = ((values < low - slack) | (values > high + slack)) & kept[:, None]
    if outside.any():
        row, column = np.unravel_index(int(np.argmax(outside)), outside.shape)
        raise DatasetError(
            f"{rows.file}: {rows.actions.columns[column]} (actions), {rows.place(row)} is {values[row, column]:g}, "
            f"outside [{low[column]:g}, {high[column]:g}]; mend it, or give wider bounds"
        )


def _count(number: int | np.integer, thing: str) -> str:
    return f"{number:,} {thing}" + ("" if number == 1 else "s")
