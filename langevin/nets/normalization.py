"""Normalisation of activations."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float


class GroupNorm(eqx.Module):
    """Zero mean and unit variance per group of channels over the whole length, then scale and shift
    per channel (Wu & He 2018, Eq. 1-4); `groups` must divide `channels`."""

    scale: Float[Array, " channels"]
    shift: Float[Array, " channels"]
    groups: int = eqx.field(static=True)
    epsilon: float = eqx.field(static=True)

    def __init__(self, channels: int, groups: int = 8, epsilon: float = 1e-5):
        if channels % groups:
            raise ValueError(f"{groups} groups must divide the channels, got {channels}")
        self.scale = jnp.ones(channels)
        self.shift = jnp.zeros(channels)
        self.groups = groups
        self.epsilon = epsilon

    def __call__(self, x: Float[Array, "length channels"]) -> Float[Array, "length channels"]:
        grouped = x.reshape(x.shape[0], self.groups, -1)
        mean = grouped.mean((0, 2), keepdims=True)
        variance = jnp.square(grouped - mean).mean((0, 2), keepdims=True)
        normalized = (grouped - mean) / jnp.sqrt(variance + self.epsilon)
        return normalized.reshape(x.shape) * self.scale + self.shift
