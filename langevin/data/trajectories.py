"""Logged experience: flat arrays of transitions and where each episode ends."""

from dataclasses import dataclass, field, fields, replace
from typing import Any, no_type_check

import numpy as np
from jaxtyping import Bool, Float32, Int64

from langevin.errors import DatasetError

# Actions are stored in float32: a bound may be passed by rounding, never by more.
BOUND_TOLERANCE = 1e-5


# The fields state what the checks below establish; arguments may be anything that converts to it.
@no_type_check
@dataclass(frozen=True, eq=False)
class Trajectories:
    """Episodes laid end to end, one row per transition, checked once when made.

    Arrays are converted to the stated types. Rows are environment steps; observations, actions and
    rewards are in the environment's own units.

    **Raises:** `DatasetError` naming the field and the row when an array has the wrong shape, holds NaN or
    infinite values, an action lies outside its bounds, an episode is empty, does not end in a termination or
    a truncation or has one before its end, or when two neighbouring rows of an episode do not join up.
    """

    observations: Float32[np.ndarray, "transitions observation"]
    actions: Float32[np.ndarray, "transitions action"]
    rewards: Float32[np.ndarray, " transitions"]
    terminations: Bool[np.ndarray, " transitions"]
    """True where the environment ended the episode: no value lies beyond."""
    truncations: Bool[np.ndarray, " transitions"]
    """True where only the clock (or the log) ended the episode: bootstrapping continues."""
    next_observations: Float32[np.ndarray, "transitions observation"]
    """The true successor of every row, also at the ends of episodes."""
    episode_ends: Int64[np.ndarray, " episodes"]
    """Row after each episode's last, so the last entry is the number of transitions."""
    action_low: Float32[np.ndarray, " action"]
    action_high: Float32[np.ndarray, " action"]
    metadata: dict[str, Any] = field(default_factory=dict)
    """JSON-able: id, task, reference_scores [random, expert], physics, recipe, seed, versions."""

    def __post_init__(self):
        for item in fields(self):
            if item.name in DTYPES:
                array = _converted(item.name, getattr(self, item.name), DTYPES[item.name])
                object.__setattr__(self, item.name, array)
        _check_shapes(self)
        _check_episodes(self)
        _check_values(self)

    @staticmethod
    def blank(
        observation_size: int,
        action_size: int,
        action_low: Float32[np.ndarray, " action"],
        action_high: Float32[np.ndarray, " action"],
        rows: int,
    ) -> "Trajectories":
        """One truncated episode of zeros: the shapes of a dataset without its data."""
        truncations = np.zeros(rows, bool)
        truncations[-1:] = True
        return Trajectories(
            observations=np.zeros((rows, observation_size), np.float32),
            actions=np.broadcast_to(np.clip(0, action_low, action_high), (rows, action_size)),
            rewards=np.zeros(rows, np.float32),
            terminations=np.zeros(rows, bool),
            truncations=truncations,
            next_observations=np.zeros((rows, observation_size), np.float32),
            episode_ends=np.array([rows]),
            action_low=action_low,
            action_high=action_high,
        )

    @property
    def transitions(self) -> int:
        return len(self.rewards)

    @property
    def episodes(self) -> int:
        return len(self.episode_ends)

    @property
    def observation_size(self) -> int:
        return self.observations.shape[1]

    @property
    def action_size(self) -> int:
        return self.actions.shape[1]

    @property
    def episode_starts(self) -> Int64[np.ndarray, " episodes"]:
        """First row of each episode."""
        return np.concatenate([[0], self.episode_ends[:-1]]).astype(np.int64)

    def episode_lengths(self) -> Int64[np.ndarray, " episodes"]:
        """Transitions in each episode."""
        return self.episode_ends - self.episode_starts

    def episode_returns(self) -> Float32[np.ndarray, " episodes"]:
        """Undiscounted sum of each episode's rewards, the last row's included."""
        return np.add.reduceat(self.rewards, self.episode_starts, dtype=np.float64).astype(np.float32)

    def select_episodes(self, episodes: Int64[np.ndarray, " chosen"]) -> "Trajectories":
        """The data of these episodes alone, in the order given."""
        starts, lengths = self.episode_starts[episodes], self.episode_lengths()[episodes]
        ends = np.cumsum(lengths)
        rows = np.arange(ends[-1]) + np.repeat(starts - (ends - lengths), lengths)
        flat = ("observations", "actions", "rewards", "terminations", "truncations", "next_observations")
        return replace(self, episode_ends=ends, **{name: getattr(self, name)[rows] for name in flat})


DTYPES = {
    "observations": np.float32,
    "actions": np.float32,
    "rewards": np.float32,
    "terminations": np.bool_,
    "truncations": np.bool_,
    "next_observations": np.float32,
    "episode_ends": np.int64,
    "action_low": np.float32,
    "action_high": np.float32,
}


def _converted(name: str, values: Any, dtype: type) -> np.ndarray:
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise DatasetError(f"{name} is ragged: every row must have the same shape") from error
    if array.dtype == object or array.dtype.kind in "USVmMc":
        raise DatasetError(f"{name} must hold numbers, got {array.dtype}")
    if dtype is np.bool_ and array.dtype != np.bool_:
        wrong = np.flatnonzero((array != 0) & (array != 1))
        if wrong.size:
            raise DatasetError(f"{name} must be 0 or 1, got {array.flat[wrong[0]]} in row {wrong[0]}")
    if dtype is np.int64 and array.dtype.kind not in "iu":
        raise DatasetError(f"{name} must hold row numbers (integers), got {array.dtype}")
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ascontiguousarray(array, dtype)


def _check_shapes(data: Trajectories) -> None:
    for name in ("observations", "actions"):
        shape = getattr(data, name).shape
        if len(shape) != 2 or shape[1] == 0:
            raise DatasetError(f"{name} must have shape (transitions, size), got {shape}")
    rows, action_size = data.actions.shape
    expected = {
        "observations": (rows, data.observations.shape[1]),
        "next_observations": (rows, data.observations.shape[1]),
        "rewards": (rows,),
        "terminations": (rows,),
        "truncations": (rows,),
        "action_low": (action_size,),
        "action_high": (action_size,),
    }
    for name, shape in expected.items():
        if getattr(data, name).shape != shape:
            raise DatasetError(
                f"{name} must have shape {shape} to go with actions of shape {data.actions.shape}, "
                f"got {getattr(data, name).shape}"
            )


def _check_episodes(data: Trajectories) -> None:
    ends, rows = data.episode_ends, data.transitions
    if ends.ndim != 1 or ends.size == 0 or rows == 0:
        raise DatasetError("episode_ends is empty: a dataset needs at least one episode of one transition")
    lengths = np.diff(ends, prepend=0)
    if (lengths <= 0).any():
        episode = int(np.argmax(lengths <= 0))
        raise DatasetError(
            f"episode_ends row {episode}: episode {episode} is empty "
            f"(it ends before row {ends[episode]}, where it would start); drop it"
        )
    if ends[-1] != rows:
        raise DatasetError(f"episode_ends must end at {rows}, the number of transitions, got {ends[-1]}")
    closed = data.terminations | data.truncations
    last = ends - 1
    if not closed[last].all():
        episode = int(np.argmin(closed[last]))
        raise DatasetError(
            f"truncations row {last[episode]}: episode {episode} ends there with neither a termination nor a "
            "truncation; mark it truncated if the log merely stops"
        )
    inside = closed.copy()
    inside[last] = False
    if inside.any():
        row = int(np.argmax(inside))
        name = "terminations" if data.terminations[row] else "truncations"
        raise DatasetError(f"{name} row {row} is true before its episode's end; end the episode there")


def _check_values(data: Trajectories) -> None:
    for name in ("observations", "next_observations", "actions", "rewards", "action_low", "action_high"):
        finite = np.isfinite(getattr(data, name))
        if not finite.all():
            where = np.unravel_index(int(np.argmin(finite)), finite.shape)
            column = f", column {where[1]}" if len(where) == 2 else ""
            raise DatasetError(f"{name} row {where[0]}{column} is {getattr(data, name)[where]}, not a number")
    if (data.action_low >= data.action_high).any():
        column = int(np.argmax(data.action_low >= data.action_high))
        raise DatasetError(
            f"action_low row {column} is {data.action_low[column]}, not below action_high "
            f"{data.action_high[column]}"
        )
    slack = BOUND_TOLERANCE * (data.action_high - data.action_low)
    outside = (data.actions < data.action_low - slack) | (data.actions > data.action_high + slack)
    if outside.any():
        row, column = np.unravel_index(int(np.argmax(outside)), outside.shape)
        raise DatasetError(
            f"actions row {row}, column {column} is {data.actions[row, column]}, outside "
            f"[{data.action_low[column]}, {data.action_high[column]}]"
        )
    joined = (data.next_observations[:-1] == data.observations[1:]).all(axis=1)
    joined[data.episode_ends[:-1] - 1] = True
    if not joined.all():
        row = int(np.argmin(joined))
        raise DatasetError(
            f"next_observations row {row} differs from observations row {row + 1} of the same episode; "
            "end the episode where the log jumps"
        )
