"""What the off-dynamics planner is told of a window: how good it is, and how much the target's dynamics are in it.

Each number belongs to one window; whatever is rescaled is rescaled by its range over both datasets together.
"""

import math
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from langevin.data.sampling import Transitions, Windows
from langevin.dynamics.domain_classifier import DomainClassifier, DynamicsClassifier
from langevin.dynamics.inverse import InverseModel

ContextName = Literal["return", "dynamics", "inverse", "domain"]
CONTEXTS: tuple[ContextName, ...] = ("return", "dynamics", "inverse", "domain")
"""The order of a window's contexts. domain: -1 in the source's data and 1 in the target's, the label that the dynamics
score takes the place of."""
BOUNDS: dict[ContextName, tuple[float, float]] = {
    "return": (0.0, 1.0), "dynamics": (-1.0, 1.0), "inverse": (0.0, math.log(2)), "domain": (-1.0, 1.0),
}  # fmt: skip
WANTED: dict[ContextName, float] = {"return": 1.0, "dynamics": 1.0, "inverse": 0.0, "domain": 1.0}
"""What a plan for the target is asked for: the best return, the target's dynamics, no error (Section IV-C)."""
CHUNK_ROWS = 65_536
"""Rows that a network looks at in one go."""


class Range(eqx.Module):
    """The least and the greatest of some values."""

    low: Float[Array, ""]
    high: Float[Array, ""]

    @staticmethod
    def of(*values: Float[Array, " _"]) -> "Range":
        """Over all of them."""
        low = jnp.stack([part.min() for part in values]).min()
        high = jnp.stack([part.max() for part in values]).max()
        return Range(low, high)

    def share(self, values: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The range as [0, 1]; 0 where there is but one value."""
        width = jnp.where(self.high > self.low, self.high - self.low, 1.0)
        return jnp.clip((values - self.low) / width, 0.0, 1.0)


class Evidence(eqx.Module):
    """What two models say of every row of a dataset."""

    probability: Float[Array, " rows"]
    """p(target | s, a, s')."""
    action_error: Float[Array, " rows"]
    """|I(s, s') - a|, in the action's units."""


class ContextScales(eqx.Module):
    """The ranges of both datasets together, by which contexts are made; kept with the planner.

    epsilon: keeps the logarithms of Eq. 3 finite.
    """

    returns: Range
    probability: Range
    action_error: Range
    epsilon: float = eqx.field(static=True)

    def dynamics_score(self, probability: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """A transition's part of Eq. 3, in [-1, 1]: -1 the source's dynamics, 1 the target's."""
        target = self.probability.share(probability)
        odds = jnp.log(target + self.epsilon) - jnp.log(1 - target + self.epsilon)  # Eq. 3
        kappa = math.log((1 + self.epsilon) / self.epsilon)
        return odds / kappa

    def inverse_error(self, action_error: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """A transition's part of Eq. 4, in [0, ln 2]."""
        return jnp.log(1 + self.action_error.share(action_error))  # Eq. 4


def evidence_of(
    classifier: DomainClassifier | DynamicsClassifier,
    inverse: InverseModel,
    transitions: Transitions,
    chunk_rows: int = CHUNK_ROWS,
) -> Evidence:
    """Both models' word on every row, `chunk_rows` of them at a time."""
    size = transitions.size
    chunk_rows = min(chunk_rows, size)

    def chunk(first: Int[Array, ""]) -> tuple[Array, Array]:
        rows = jnp.minimum(first + jnp.arange(chunk_rows), size - 1)
        part = jax.tree.map(lambda array: array[rows], transitions)
        error = inverse.predict(part.observations, part.next_observations) - part.actions
        return classifier.probability(part), jnp.linalg.norm(error, axis=-1)

    found = jax.lax.map(chunk, jnp.arange(0, size, chunk_rows))
    return Evidence(*(values.reshape(-1)[:size] for values in found))


def window_means(values: Float[Array, " rows"], windows: Windows) -> Float[Array, " windows"]:
    """The mean over every window's real rows.

    Summed row by row, for a running sum over millions of rows has no digits left for a window.
    """

    def add(step: Int[Array, ""], total: Array) -> Array:
        rows = windows.starts + jnp.minimum(step, windows.lengths - 1)
        return total + jnp.where(step < windows.lengths, values[rows], 0.0)

    total = jax.lax.fori_loop(0, windows.horizon, add, jnp.zeros(windows.size))
    return total / windows.lengths


def window_contexts(
    scales: ContextScales,
    evidence: Evidence,
    windows: Windows,
    returns: Float[Array, " windows"],
    domain: float,
) -> Float[Array, "windows contexts"]:
    """y(tau) of every window (Eq. 7), in the order of `CONTEXTS`.

    returns: in reward units. domain: -1 for the source's windows, 1 for the target's.
    """
    columns: dict[ContextName, Array] = {
        "return": scales.returns.share(returns),
        "dynamics": window_means(scales.dynamics_score(evidence.probability), windows),  # Eq. 3
        "inverse": window_means(scales.inverse_error(evidence.action_error), windows),  # Eq. 4
        "domain": jnp.full(windows.size, domain),
    }
    return jnp.stack([columns[name] for name in CONTEXTS], axis=-1)
