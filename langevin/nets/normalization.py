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
        centered = x - self._group_means(x)
        variance = self._group_means(jnp.square(centered))
        return centered * (self.scale / jnp.sqrt(variance + self.epsilon)) + self.shift

    def _group_means(self, x: Float[Array, "length channels"]) -> Float[Array, " channels"]:
        """Each channel's group mean: first over the length, where channels lie side by side in memory, then over
        the few channels of a group."""
        means = x.mean(0).reshape(self.groups, -1).mean(1)
        return jnp.repeat(means, x.shape[1] // self.groups)


class LayerNorm(eqx.Module):
    """Zero mean and unit variance over the channels of each token, then scale and shift (Ba et al. 2016, Eq. 4)."""

    scale: Float[Array, " channels"]
    shift: Float[Array, " channels"]
    epsilon: float = eqx.field(static=True)

    def __init__(self, channels: int, epsilon: float = 1e-5):
        self.scale = jnp.ones(channels)
        self.shift = jnp.zeros(channels)
        self.epsilon = epsilon

    def __call__(self, x: Float[Array, "*tokens channels"]) -> Float[Array, "*tokens channels"]:
        centered = x - x.mean(axis=-1, keepdims=True)
        variance = jnp.square(centered).mean(axis=-1, keepdims=True)
        return centered / jnp.sqrt(variance + self.epsilon) * self.scale + self.shift
