"""Numbers as tokens: every dimension in bins of its own, and what stands for each bin on the way back."""

from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from langevin.errors import require_at_least

BinKind = Literal["percentile", "uniform"]
"""Bins that each hold as many rows ("percentile"), or that are all as wide ("uniform")."""


class Discretizer(eqx.Module):
    """Bins of each dimension (Janner et al. 2021, Section 3.1).

    What stands for a bin is the middle of the data that fell into it: every value of the data comes back within half
    its bin's width, and one that is the same in many rows (a reward of 0 or 1) comes back as it was. A bin that no
    data fell into is stood for by its own middle.
    """

    edges: Float[Array, "dims bins_and_one"]
    centers: Float[Array, "dims bins"]

    @staticmethod
    def fit(rows: Float[np.ndarray, "rows dims"], bins: int, kind: BinKind) -> "Discretizer":
        """Bins over the data; raises UsageError for less than 2 of them."""
        require_at_least(2, bins=bins)
        shares = np.linspace(0, 1, bins + 1)
        pairs = [_fit_one(column.astype(np.float32), shares, kind) for column in np.asarray(rows).T]
        edges, centers = (jnp.asarray(np.stack(part), jnp.float32) for part in zip(*pairs, strict=True))
        return Discretizer(edges, centers)

    def encode(self, x: Float[Any, "*batch dims"]) -> Int[Array, "*batch dims"]:
        """The bin of each number; beyond the data, the nearest."""
        bins = self.centers.shape[1]
        columns = jnp.moveaxis(jnp.asarray(x), -1, 0)
        found = jax.vmap(lambda edges, column: jnp.searchsorted(edges, column, side="right"))(
            self.edges, columns
        )
        return jnp.moveaxis(jnp.clip(found - 1, 0, bins - 1), 0, -1)

    def decode(self, tokens: Int[Any, "*batch dims"]) -> Float[Array, "*batch dims"]:
        """What stands for each bin."""
        return self.centers[jnp.arange(len(self.centers)), tokens]

    def of(self, dims: slice) -> "Discretizer":
        """The bins of some of the dimensions."""
        return Discretizer(self.edges[dims], self.centers[dims])


def _fit_one(
    column: Float[np.ndarray, " rows"], shares: Float[np.ndarray, " edges"], kind: BinKind
) -> tuple[Float[np.ndarray, " edges"], Float[np.ndarray, " bins"]]:
    """Edges and centres of one dimension."""
    if kind == "percentile":
        edges = np.maximum.accumulate(np.quantile(column, shares).astype(np.float32))
    else:
        edges = np.linspace(column.min(), column.max(), len(shares), dtype=np.float32)
    centers = (edges[:-1] + edges[1:]) / 2
    ordered = np.sort(column)
    # Rows from first[b] up to before first[b + 1] are in bin b: what `encode` gives them.
    first = np.searchsorted(ordered, edges[:-1], side="left")
    first[0] = 0
    after = np.append(first[1:], len(ordered))
    filled = after > first
    lows, highs = ordered[np.minimum(first, len(ordered) - 1)], ordered[after - 1]
    return edges, np.where(filled, (lows + highs) / 2, centers).astype(np.float32)
