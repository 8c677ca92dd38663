"""What a training run is made of: a list of stages, each written for one seed as pure functions."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from langevin.errors import UsageError


@dataclass(frozen=True)
class Stage:
    """One part of a training run, for ONE seed; the loop maps it over seeds, compiles it, saves and resumes
    it.

    Every callable is pure: arrays in, arrays out. `state` is any pytree whose arrays keep their shapes and
    dtypes from `init` onwards. `data` is a pytree of arrays shared by all seeds. `results` maps the name of
    each earlier stage to its finished state for this seed. `step` is an int32 scalar (the number of updates
    done before this one) that is not batched over seeds, so a `lax.cond` on it stays a branch. `metrics` is a
    dict of scalars, named with a prefix (``"critic/loss"``), the same names at every step.

    A seed has diverged when a metric is not finite, or when an entry of its state turned NaN or infinite that
    was finite before (so "best loss so far" may start at infinity; nothing may start at NaN).
    """

    name: str
    """Lower-case identifier, unique in the run; the key of this stage's state in `results`."""
    steps: int
    """Updates in this stage (at most, when `done` is given)."""
    init: Callable[..., Any]
    """``init(data, results, *, key) -> state``"""
    update: Callable[..., tuple[Any, dict]]
    """``update(state, data, results, *, step, key) -> (state, metrics)``"""
    epoch_steps: int | None = None
    """Updates between two calls of `begin_epoch`."""
    begin_epoch: Callable[..., tuple[Any, dict]] | None = None
    """``begin_epoch(state, data, results, *, step, key) -> (state, metrics)``, called before the updates
    numbered 0, epoch_steps, 2 epoch_steps, …: rollouts into a synthetic buffer, a held-out error."""
    done: Callable[[Any], Any] | None = None
    """``done(state) -> bool``: early stopping. Asked between chunks and after `begin_epoch`; a seed that is
    done keeps its state as it is, and the stage ends once every live seed is done."""
    finish: Callable[..., Any] | None = None
    """``finish(state, data, results) -> state``: what later stages and evaluation see (best weights,
    elites)."""
    policy: Callable[..., Any] | None = None
    """``policy(state, results) -> Policy``: what is evaluated between chunks."""

    def __post_init__(self):
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise UsageError(f"stage name must be a lower-case identifier, got {self.name!r}")
        if self.steps < 0:
            raise UsageError(f"stage {self.name!r}: steps must be 0 or more, got {self.steps}")
        if self.begin_epoch is not None and (self.epoch_steps is None or self.epoch_steps < 1):
            raise UsageError(
                f"stage {self.name!r} has begin_epoch, so epoch_steps must be 1 or more, "
                f"got {self.epoch_steps}"
            )
