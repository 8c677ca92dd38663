"""A U-Net along time, the denoiser of trajectories (Janner et al. 2022, "Diffuser", appendix C)."""

from itertools import pairwise

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from langevin.errors import UsageError
from langevin.nets.activations import mish
from langevin.nets.convolution import Convolution, Upsample
from langevin.nets.embeddings import SinusoidalEmbedding
from langevin.nets.mlp import Linear
from langevin.nets.normalization import GroupNorm

GROUPS = 8
"""Of channels that are normalised together, at every level."""


def require_channels(width: int, multipliers: tuple[int, ...], kernel: int) -> None:
    """Raises UsageError for a network that cannot be built."""
    if width < 1 or width % GROUPS:
        raise UsageError(
            f"width must be a multiple of {GROUPS} (channels are normalised in {GROUPS} groups), got {width}"
        )
    if not multipliers or min(multipliers) < 1:
        raise UsageError(
            f"multipliers must be whole numbers of 1 or more, one a level, got {list(multipliers)}"
        )
    if kernel < 1 or kernel % 2 == 0:
        raise UsageError(f"kernel must be odd, so that it has a middle, got {kernel}")


class ConvolutionBlock(eqx.Module):
    """Convolution, GroupNorm, Mish."""

    convolution: Convolution
    norm: GroupNorm

    def __init__(self, in_channels: int, out_channels: int, kernel: int, groups: int, *, key: PRNGKeyArray):
        self.convolution = Convolution(in_channels, out_channels, kernel, key=key)
        self.norm = GroupNorm(out_channels, groups)

    def __call__(self, x: Float[Array, "length in"]) -> Float[Array, "length out"]:
        return mish(self.norm(self.convolution(x)))


class ResidualBlock(eqx.Module):
    """Two convolution blocks with the noise embedding added between them, beside a residual path."""

    first: ConvolutionBlock
    second: ConvolutionBlock
    noise_projection: Linear
    residual: Convolution | None  # 1x1, where the number of channels changes

    def __init__(
        self, in_channels: int, out_channels: int, embedding_size: int, kernel: int, groups: int,
        *, key: PRNGKeyArray,
    ):  # fmt: skip
        first_key, second_key, noise_key, residual_key = jax.random.split(key, 4)
        self.first = ConvolutionBlock(in_channels, out_channels, kernel, groups, key=first_key)
        self.second = ConvolutionBlock(out_channels, out_channels, kernel, groups, key=second_key)
        self.noise_projection = Linear(embedding_size, out_channels, key=noise_key)
        changes = in_channels != out_channels
        self.residual = Convolution(in_channels, out_channels, 1, key=residual_key) if changes else None

    def __call__(
        self, x: Float[Array, "length in"], embedding: Float[Array, " embedding"]
    ) -> Float[Array, "length out"]:
        hidden = self.first(x) + self.noise_projection(mish(embedding))
        shortcut = x if self.residual is None else self.residual(x)
        return self.second(hidden) + shortcut


def two_blocks(
    in_channels: int, out_channels: int, embedding_size: int, kernel: int, groups: int, *, key: PRNGKeyArray
) -> tuple[ResidualBlock, ResidualBlock]:
    """A level of the network."""
    first_key, second_key = jax.random.split(key)
    return (
        ResidualBlock(in_channels, out_channels, embedding_size, kernel, groups, key=first_key),
        ResidualBlock(out_channels, out_channels, embedding_size, kernel, groups, key=second_key),
    )


def noise_layers(width: int, *, key: PRNGKeyArray) -> tuple[Linear, Linear]:
    """What a noise level's embedding goes through, with Mish between them."""
    first_key, second_key = jax.random.split(key)
    return Linear(width, 4 * width, key=first_key), Linear(4 * width, width, key=second_key)


class TemporalUNet(eqx.Module):
    """Maps a noisy trajectory and its noise level to an output of the same length.

    Level `i` has `width * multipliers[i]` channels and half the length of the level above it. The way down
    has two residual blocks a level, the middle two, the way up two a level on the skipped activations; no
    attention. The last layer starts near zero, so an EDM denoiser starts as its skip connection.

    Any horizon will do: where it cannot be halved from each level to the next, its last row is repeated inside the
    network until it can, and what comes out for the repetitions is dropped.

    `in_channels` may exceed `out_channels`: whatever the network must see undisturbed (conditions at data
    scale) comes as extra input channels.
    """

    noise_embedding: SinusoidalEmbedding
    noise_layers: tuple[Linear, Linear]
    down: tuple[tuple[ResidualBlock, ResidualBlock], ...]
    shrink: tuple[Convolution, ...]
    middle: tuple[ResidualBlock, ResidualBlock]
    up: tuple[tuple[ResidualBlock, ResidualBlock], ...]
    grow: tuple[Upsample, ...]
    last_block: ConvolutionBlock
    last: Convolution

    def __init__(
        self, in_channels: int, out_channels: int, width: int = 32, multipliers: tuple[int, ...] = (1, 2, 4),
        *, kernel: int = 5, groups: int = GROUPS, key: PRNGKeyArray,
    ):  # fmt: skip
        noise_key, down_key, shrink_key, middle_key, up_key, grow_key, last_block_key, last_key = (
            jax.random.split(key, 8)
        )

        channels = [width * multiplier for multiplier in multipliers]
        steps_down = list(pairwise(channels))
        self.noise_embedding = SinusoidalEmbedding(width)
        self.noise_layers = noise_layers(width, key=noise_key)
        self.down = tuple(
            two_blocks(before, after, width, kernel, groups, key=key)
            for (before, after), key in zip(
                pairwise([in_channels, *channels]), jax.random.split(down_key, len(channels)), strict=True
            )
        )
        self.shrink = tuple(
            Convolution(above, above, 3, stride=2, key=key)
            for (above, _), key in zip(steps_down, jax.random.split(shrink_key, len(steps_down)), strict=True)
        )
        self.middle = two_blocks(channels[-1], channels[-1], width, kernel, groups, key=middle_key)
        # Twice the channels in: the activations from below beside the ones skipped over.
        self.up = tuple(
            two_blocks(2 * below, above, width, kernel, groups, key=key)
            for (above, below), key in zip(
                steps_down[::-1], jax.random.split(up_key, len(steps_down)), strict=True
            )
        )
        self.grow = tuple(
            Upsample(above, key=key)
            for (above, _), key in zip(
                steps_down[::-1], jax.random.split(grow_key, len(steps_down)), strict=True
            )
        )
        self.last_block = ConvolutionBlock(channels[0], channels[0], kernel, groups, key=last_block_key)
        last = Convolution(channels[0], out_channels, 1, key=last_key)
        self.last = eqx.tree_at(lambda layer: (layer.weight, layer.bias), last, replace_fn=lambda x: 0.01 * x)

    @property
    def length_divisor(self) -> int:
        """What a horizon must be a multiple of to be taken as it is."""
        return 2 ** len(self.shrink)

    def __call__(
        self,
        x: Float[Array, "horizon in_channels"],
        noise: Float[Array, ""],
        context: Float[Array, " width"] | None = None,
    ) -> Float[Array, "horizon out_channels"]:
        """`noise`: the noise level as the loss presents it (EDM: `log(noise_level) / 4`). `context`: added to its
        embedding."""
        horizon = x.shape[0]
        x = jnp.pad(x, ((0, -horizon % self.length_divisor), (0, 0)), mode="edge")
        first, second = self.noise_layers
        embedding = second(mish(first(self.noise_embedding(noise))))
        embedding = embedding if context is None else embedding + context

        skipped = []
        for level, blocks in enumerate(self.down):
            for block in blocks:
                x = block(x, embedding)
            skipped.append(x)
            if level < len(self.shrink):
                x = self.shrink[level](x)
        for block in self.middle:
            x = block(x, embedding)
        for blocks, grow in zip(self.up, self.grow, strict=True):
            x = jnp.concatenate([x, skipped.pop()], axis=-1)
            for block in blocks:
                x = block(x, embedding)
            x = grow(x)
        return self.last(self.last_block(x))[:horizon]
