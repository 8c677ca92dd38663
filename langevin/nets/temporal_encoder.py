"""The temporal U-Net's way down, and one number at its end (Janner et al. 2022, appendix C: the value network)."""

from itertools import pairwise

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from langevin.nets.activations import mish
from langevin.nets.convolution import Convolution
from langevin.nets.embeddings import SinusoidalEmbedding
from langevin.nets.mlp import MLP, Linear
from langevin.nets.temporal_unet import GROUPS, ResidualBlock, noise_layers, two_blocks


class TemporalEncoder(eqx.Module):
    """Maps a noisy trajectory of `horizon` rows and its noise level to a number.

    Level `i` has `width * multipliers[i]` channels, two residual blocks, and half the length of the level above it.
    What the last level sees at every place, with the noise's embedding beside it, goes through one hidden layer.
    """

    noise_embedding: SinusoidalEmbedding
    noise_layers: tuple[Linear, Linear]
    blocks: tuple[tuple[ResidualBlock, ResidualBlock], ...]
    shrink: tuple[Convolution, ...]
    head: MLP

    def __init__(
        self, in_channels: int, horizon: int, width: int = 32, multipliers: tuple[int, ...] = (1, 2, 4),
        *, kernel: int = 5, key: PRNGKeyArray,
    ):  # fmt: skip
        noise_key, blocks_key, shrink_key, head_key = jax.random.split(key, 4)

        channels = [width * multiplier for multiplier in multipliers]
        levels = len(channels)
        self.noise_embedding = SinusoidalEmbedding(width)
        self.noise_layers = noise_layers(width, key=noise_key)
        self.blocks = tuple(
            two_blocks(before, after, width, kernel, GROUPS, key=key)
            for (before, after), key in zip(
                pairwise([in_channels, *channels]), jax.random.split(blocks_key, levels), strict=True
            )
        )
        self.shrink = tuple(
            Convolution(size, size, 3, stride=2, key=key)
            for size, key in zip(channels[:-1], jax.random.split(shrink_key, levels)[1:], strict=True)
        )
        last_length = -(-horizon // 2 ** (levels - 1))
        self.head = MLP(
            last_length * channels[-1] + width, 1, max(width, channels[-1] // 2), 1, mish, key=head_key
        )

    def __call__(self, x: Float[Array, "horizon in_channels"], noise: Float[Array, ""]) -> Float[Array, ""]:
        """`noise`: the noise level as the loss presents it, as for the U-Net."""
        first, second = self.noise_layers
        embedding = second(mish(first(self.noise_embedding(noise))))
        for level, (one, other) in enumerate(self.blocks):
            x = other(one(x, embedding), embedding)
            x = self.shrink[level](x) if level < len(self.shrink) else x
        return self.head(jnp.concatenate([x.reshape(-1), embedding]))[0]
