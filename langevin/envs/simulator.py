"""What every batch of real systems can do."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32

from langevin.errors import UsageError


class Simulator(ABC):
    """A batch of copies of one environment; nothing resets by itself, the caller keeps the clock."""

    @abstractmethod
    def reset(self, rng: np.random.Generator) -> Float32[np.ndarray, "batch observation"]:
        """Put every copy at a start state and give the first observations."""

    @abstractmethod
    def reset_rows(self, rows: Bool[np.ndarray, " batch"], rng: np.random.Generator) -> None:
        """Put only these copies at start states."""

    @abstractmethod
    def observe(self) -> Float32[np.ndarray, "batch observation"]:
        """What every copy sees now."""

    @abstractmethod
    def set_state(self, observations: Float[Any, "batch observation"]) -> None:
        """Put the copies at the states that these observations describe."""

    @abstractmethod
    def step(
        self, actions: Float[Any, "batch action"]
    ) -> tuple[
        Float32[np.ndarray, "batch observation"], Float32[np.ndarray, " batch"], Bool[np.ndarray, " batch"]
    ]:
        """Next observations, rewards and terminations; actions are clipped to their bounds."""

    @abstractmethod
    def advance(
        self, states: Float[Any, "any_batch observation"], actions: Float[Any, "any_batch action"]
    ) -> tuple[Float32[np.ndarray, "any_batch observation"], Float32[np.ndarray, " any_batch"]]:
        """Next state and reward from any state, as a pure function: the simulator's own state is not touched."""


def require_finite(actions: Float[np.ndarray, "any_batch action"]) -> None:
    """Raises UsageError that names the first row with an entry that is not a number."""
    finite = np.isfinite(actions).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        raise UsageError(f"actions must be finite, got {actions[row]} in row {row}")
