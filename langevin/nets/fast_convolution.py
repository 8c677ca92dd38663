"""Convolution along time with fewer multiplications (Winograd 1980; Lavin & Gray 2016, "Fast algorithms for
convolutional neural networks").

A tile of m outputs of a kernel of r taps is a product of polynomials, known from its values at n = m + r - 1 points.
So: evaluate the inputs and the kernel at the points, multiply (one matmul over channels a point), interpolate. That
takes n / m multiplications an output in place of r: 2 in place of 5 for r = 5, m = 4.
"""

from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)
"""Where polynomials are evaluated, infinity aside: small numbers whose powers stay near 1 (Lavin & Gray, 5.1)."""
Matrix = tuple[tuple[float, ...], ...]


class Transforms(NamedTuple):
    """The three linear maps of y = to_outputs [(of_kernel w) * (of_tile x)]."""

    of_tile: Matrix  # (points, points): a tile is as many inputs as there are points
    of_kernel: np.ndarray  # (points, taps)
    to_outputs: Matrix  # (outputs, points)


@lru_cache
def transforms(taps: int) -> Transforms:
    """Toom-Cook's maps for tiles of taps - 1 outputs. Such a tile reads twice as many inputs as it has outputs,
    so two neighbouring blocks of the input hold all of it."""
    outputs = taps - 1
    inputs = outputs + taps - 1
    if not 2 <= outputs <= (len(POINTS) + 1) // 2:
        raise ValueError(f"the fast form takes kernels of 3 to {(len(POINTS) + 3) // 2} taps, got {taps}")

    def powers(count: int) -> np.ndarray:
        """1, p, p^2, … of every point; at infinity only the highest power is left."""
        return np.concatenate(
            [
                np.vander(POINTS[: inputs - 1], count, increasing=True),
                np.eye(count)[-1:],
            ]
        )

    of_tile, of_kernel = np.linalg.inv(powers(inputs)).T, powers(taps)
    # A point's values may be scaled in one factor and back in the other: even sizes lose the fewest digits.
    scale = np.sqrt(np.abs(of_tile).sum(1, keepdims=True) / np.abs(of_kernel).sum(1, keepdims=True))
    return Transforms(
        _as_matrix(of_tile / scale), (of_kernel * scale).astype(np.float32), _as_matrix(powers(outputs).T)
    )


def fast_convolve(
    x: Float[Array, "length in"], weight: Float[Array, "taps in out"], padding: int
) -> Float[Array, "steps out"]:
    """`y[i] = sum_k x[i + k - padding] weight[k]`, with zeros outside `x`, for 3 to 5 taps."""
    taps = weight.shape[0]
    maps, outputs = transforms(taps), taps - 1
    steps = x.shape[0] + 2 * padding - taps + 1
    tiles = -(-steps // outputs)
    behind = (tiles + 1) * outputs - x.shape[0] - padding
    blocks = jnp.pad(x, ((padding, behind), (0, 0))).reshape(tiles + 1, outputs, -1)
    inputs = jnp.concatenate([blocks[:-1], blocks[1:]], axis=1)  # (tiles, points, in)
    values = weighted_sums(maps.of_tile, inputs.transpose(1, 0, 2))
    kernels = jnp.einsum("pk,kio->pio", maps.of_kernel, weight)
    products = jnp.einsum("pti,pio->pto", values, kernels)
    y = weighted_sums(maps.to_outputs, products)  # (outputs, tiles, out)
    return y.transpose(1, 0, 2).reshape(tiles * outputs, -1)[:steps]


def weighted_sums(matrix: Matrix, x: Float[Array, "columns ..."]) -> Float[Array, "rows ..."]:
    """`matrix @ x` over the first axis, written out as sums: a matmul so narrow would mostly move memory."""
    # The gradient of a split is one concatenation; that of indexing would be a sum of arrays padded with zeros.
    columns = jax.lax.split(x, (1,) * x.shape[0], axis=0)
    sums = [
        sum(weight * column for weight, column in zip(row, columns, strict=True) if weight) for row in matrix
    ]
    return jnp.concatenate(sums)


def _as_matrix(array: np.ndarray) -> Matrix:
    """Rows as tuples; what inverting left of a zero is put back to zero."""
    return tuple(tuple(0.0 if abs(entry) < 1e-12 else float(entry) for entry in row) for row in array)
