"""A mixer along time: a denoiser of trajectories that is nothing but matrix products (after Tolstikhin et al. 2021)."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from langevin.errors import UsageError, require_at_least
from langevin.nets.activations import mish
from langevin.nets.embeddings import SinusoidalEmbedding
from langevin.nets.mlp import Linear
from langevin.nets.normalization import LayerNorm


def require_mixer(width: int, layers: int, widening: int) -> None:
    """Raises UsageError for a network that cannot be built."""
    require_at_least(1, layers=layers, widening=widening)
    if width < 4 or width % 2:
        raise UsageError(f"width must be even and at least 4, so that it can hold a noise level, got {width}")


class Mix(eqx.Module):
    """A network of one hidden layer along the last axis."""

    widen: Linear
    narrow: Linear

    def __init__(self, size: int, hidden: int, *, key: PRNGKeyArray):
        widen_key, narrow_key = jax.random.split(key)
        self.widen = Linear(size, hidden, key=widen_key)
        self.narrow = Linear(hidden, size, key=narrow_key)

    def __call__(self, x: Float[Array, "*rest size"]) -> Float[Array, "*rest size"]:
        return self.narrow(jax.nn.gelu(self.widen(x)))


class MixerBlock(eqx.Module):
    """Every channel along time, then every row across its channels, each added to what came in.

    Before each, the normalised rows are scaled and shifted by what the noise level says (Peebles & Xie 2023).
    """

    time_norm: LayerNorm
    along_time: Mix
    channel_norm: LayerNorm
    across_channels: Mix
    modulation: Linear

    def __init__(self, horizon: int, width: int, widening: int, embedding_size: int, *, key: PRNGKeyArray):
        time_key, channel_key, noise_key = jax.random.split(key, 3)
        self.time_norm, self.channel_norm = LayerNorm(width), LayerNorm(width)
        self.along_time = Mix(horizon, widening * horizon, key=time_key)
        self.across_channels = Mix(width, widening * width, key=channel_key)
        self.modulation = Linear(embedding_size, 4 * width, key=noise_key)

    def __call__(
        self, x: Float[Array, "horizon width"], embedding: Float[Array, " embedding"]
    ) -> Float[Array, "horizon width"]:
        scale, shift, channel_scale, channel_shift = jnp.split(self.modulation(embedding), 4)
        x = x + self.along_time((self.time_norm(x) * (1 + scale) + shift).T).T
        return x + self.across_channels(self.channel_norm(x) * (1 + channel_scale) + channel_shift)


class TemporalMixer(eqx.Module):
    """Maps a noisy trajectory and its noise level to an output of the same length, as `TemporalUNet` does.

    It is made for one horizon. The last layer starts near zero, so an EDM denoiser starts as its skip connection.
    """

    noise_embedding: SinusoidalEmbedding
    noise_layers: tuple[Linear, Linear]
    first: Linear
    blocks: tuple[MixerBlock, ...]
    norm: LayerNorm
    last: Linear
    horizon: int = eqx.field(static=True)

    def __init__(
        self, in_channels: int, out_channels: int, horizon: int, width: int = 128, layers: int = 3, widening: int = 2,
        *, key: PRNGKeyArray,
    ):  # fmt: skip
        require_mixer(width, layers, widening)
        noise_key, more_noise_key, first_key, blocks_key, last_key = jax.random.split(key, 5)
        self.noise_embedding = SinusoidalEmbedding(width)
        self.noise_layers = (
            Linear(width, width, key=noise_key), Linear(width, width, key=more_noise_key)
        )  # fmt: skip
        self.first = Linear(in_channels, width, key=first_key)
        self.blocks = tuple(
            MixerBlock(horizon, width, widening, width, key=block_key)
            for block_key in jax.random.split(blocks_key, layers)
        )
        self.norm = LayerNorm(width)
        last = Linear(width, out_channels, key=last_key)
        self.last = eqx.tree_at(lambda layer: (layer.weight, layer.bias), last, replace_fn=lambda x: 0.01 * x)
        self.horizon = horizon

    def __call__(
        self, x: Float[Array, "horizon in_channels"], noise: Float[Array, ""]
    ) -> Float[Array, "horizon out_channels"]:
        """`noise`: the noise level as the loss presents it (EDM: `log(noise_level) / 4`).

        Raises UsageError for another horizon than the one it was made for.
        """
        if x.shape[0] != self.horizon:
            raise UsageError(f"this network was made for a horizon of {self.horizon}, got {x.shape[0]}")
        first, second = self.noise_layers
        embedding = mish(second(mish(first(self.noise_embedding(noise)))))
        x = self.first(x)
        for block in self.blocks:
            x = block(x, embedding)
        return self.last(self.norm(x))
