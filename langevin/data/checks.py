"""What a careful person would look at before training on a dataset."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int64

from langevin.data.trajectories import Trajectories

SATURATION_WARNING = 0.5
"""Share of rows with an action at its bound above which a squashed Gaussian policy gets into trouble."""
DUPLICATE_WARNING = 0.01


@dataclass(frozen=True)
class Finding:
    """One thing found: a `note` is for information, a `warning` deserves a look before training."""

    level: Literal["note", "warning"]
    field: str
    message: str


def find(trajectories: Trajectories) -> list[Finding]:
    """Findings about the data alone; malformed data never get this far (see `Trajectories`)."""
    return [
        *_lengths(trajectories),
        *_ends(trajectories),
        *_constant_dimensions(trajectories),
        *_saturation(trajectories),
        *_duplicates(trajectories),
        *_rewards(trajectories),
    ]


def _lengths(data: Trajectories) -> Iterator[Finding]:
    lengths = data.episode_lengths()
    yield Finding(
        "note",
        "episode_ends",
        f"{data.episodes} episodes, {lengths.min()} to {lengths.max()} steps, median {np.median(lengths):g}",
    )
    single = int((lengths == 1).sum())
    if single:
        yield Finding("warning", "episode_ends", f"{single} episodes are a single step long")


def _ends(data: Trajectories) -> Iterator[Finding]:
    both = data.terminations & data.truncations
    terminated = int(data.terminations.sum())
    yield Finding("note", "terminations", f"{terminated} of {data.episodes} episodes end in a terminal state")
    if both.any():
        yield Finding(
            "warning",
            "terminations",
            f"{both.sum()} rows, the first {np.argmax(both)}, are both terminated and truncated; "
            "they count as terminated",
        )
    still = (data.next_observations == data.observations).all(axis=1) & ~data.terminations
    moving = data.observations[1:] != data.observations[:-1]
    if still.any() and moving.any():
        yield Finding(
            "warning",
            "next_observations",
            f"{still.sum()} rows, the first {np.argmax(still)}, do not move: was the successor logged?",
        )


def constant_columns(values: Float[np.ndarray, "rows columns"]) -> Int64[np.ndarray, " constant"]:
    """Columns that hold one value only."""
    return np.flatnonzero(values.min(axis=0) == values.max(axis=0))


def _constant_dimensions(data: Trajectories) -> Iterator[Finding]:
    for name in ("observations", "actions"):
        constant = constant_columns(getattr(data, name))
        if constant.size:
            yield Finding("warning", name, f"constant in column {', '.join(map(str, constant))}")


def shares_at_bounds(
    data: Trajectories,
) -> tuple[Float[np.ndarray, " action"], Float[np.ndarray, " action"]]:
    """For each dimension of the action, the share of rows at its lower and at its upper bound."""
    return (data.actions <= data.action_low).mean(axis=0), (data.actions >= data.action_high).mean(axis=0)


def _saturation(data: Trajectories) -> Iterator[Finding]:
    low, high = shares_at_bounds(data)
    shares = low + high
    words = ", ".join(f"{share:.1%}" for share in shares)
    level = "warning" if shares.max() > SATURATION_WARNING else "note"
    yield Finding(level, "actions", f"at a bound in {words} of the rows, by column")


def _duplicates(data: Trajectories) -> Iterator[Finding]:
    repeated = int(repeated_transitions(data).sum())
    if repeated:
        share = repeated / data.transitions
        level = "warning" if share > DUPLICATE_WARNING else "note"
        yield Finding(level, "observations", f"{repeated} rows ({share:.2%}) repeat an earlier transition")


def repeated_transitions(data: Trajectories) -> Bool[np.ndarray, " transitions"]:
    """True for every transition that equals an earlier one, by a 64-bit hash of its bits."""
    rows = np.concatenate([data.observations, data.actions, data.next_observations], axis=1)
    # Adding zero makes -0.0 and 0.0 the same bits.
    words = (rows + np.float32(0)).view(np.uint32).astype(np.uint64)
    factors = np.random.default_rng(0).integers(2**64, size=words.shape[1], dtype=np.uint64) | np.uint64(1)
    mixed = words * factors
    hashes = (mixed ^ (mixed >> np.uint64(29))).sum(axis=1, dtype=np.uint64)
    repeats = np.ones(data.transitions, bool)
    repeats[np.unique(hashes, return_index=True)[1]] = False
    return repeats


def _rewards(data: Trajectories) -> Iterator[Finding]:
    low, high = data.rewards.min(), data.rewards.max()
    if low == high:
        yield Finding("warning", "rewards", f"always {low:g}: nothing can be learned from them")
    else:
        share = float((data.rewards != 0).mean())
        yield Finding("note", "rewards", f"{low:g} to {high:g}, not zero in {share:.1%} of the rows")
