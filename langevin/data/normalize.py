"""Normalisers: one affine map per dimension, kept with the model that was trained behind them."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float


class GaussianNormalizer(eqx.Module):
    """Zero mean and unit variance in every dimension."""

    mean: Float[Array, " dim"]
    std: Float[Array, " dim"]
    """Standard deviation; 1 for a dimension that never moves."""

    @staticmethod
    def fit(array: Float[Any, "rows dim"], epsilon: float = 1e-6) -> "GaussianNormalizer":
        """Statistics of each dimension over the rows.

        A dimension whose standard deviation is at most `epsilon` times its mean (the resolution of float32
        there) is constant, and only shifted. The guard is relative: a dimension measured in small units keeps
        its unit variance, where TD3+BC's `std + 1e-3` would flatten it. Works inside jit.
        """
        rows = jnp.asarray(array, jnp.float32)
        mean = rows[0]
        # Each pass sums only what the last one left, so float32 loses nothing on large offsets or many rows.
        for _ in range(2):
            mean = mean + (rows - mean).mean(axis=0)
        std = jnp.sqrt(jnp.square(rows - mean).mean(axis=0))
        return GaussianNormalizer(mean, jnp.where(std > epsilon * jnp.abs(mean), std, 1.0))

    def normalize(self, x: Float[Any, "*batch dim"]) -> Float[Array, "*batch dim"]:
        return (x - self.mean) / self.std

    def denormalize(self, x: Float[Any, "*batch dim"]) -> Float[Array, "*batch dim"]:
        return x * self.std + self.mean


class MinMaxNormalizer(eqx.Module):
    """[-1, 1] in every dimension; a dimension that never moves is 0."""

    low: Float[Array, " dim"]
    high: Float[Array, " dim"]

    @staticmethod
    def fit(array: Float[Any, "rows dim"]) -> "MinMaxNormalizer":
        """The least and the greatest value of each dimension over the rows."""
        rows = jnp.asarray(array, jnp.float32)
        return MinMaxNormalizer(rows.min(axis=0), rows.max(axis=0))

    def normalize(self, x: Float[Any, "*batch dim"]) -> Float[Array, "*batch dim"]:
        return (x - self._center) / self._half_range

    def denormalize(self, x: Float[Any, "*batch dim"]) -> Float[Array, "*batch dim"]:
        return x * self._half_range + self._center

    @property
    def _center(self) -> Float[Array, " dim"]:
        return (self.low + self.high) / 2

    @property
    def _half_range(self) -> Float[Array, " dim"]:
        return jnp.where(self.high > self.low, (self.high - self.low) / 2, 1.0)
