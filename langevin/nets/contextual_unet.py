"""A temporal U-Net told some numbers about the whole trajectory: its return, whose dynamics it has."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from langevin.diffusion.edm import Network
from langevin.nets.activations import mish
from langevin.nets.mlp import MLP
from langevin.nets.temporal_unet import TemporalUNet


class ContextEmbedding(eqx.Module):
    """One number as a vector, and the learned vector that stands in for it when it is left out."""

    network: MLP
    absent: Float[Array, " width"]

    def __init__(self, width: int, *, key: PRNGKeyArray):
        self.network = MLP(1, width, 4 * width, 1, mish, key=key)
        self.absent = jnp.zeros(width)

    def __call__(self, value: Float[Array, ""], present: Bool[Array, ""]) -> Float[Array, " width"]:
        return jnp.where(present, self.network(value[None]), self.absent)


class ContextualUNet(eqx.Module):
    """A temporal U-Net whose noise embedding has an embedding of every context added to it."""

    unet: TemporalUNet
    embeddings: tuple[ContextEmbedding, ...]

    def __init__(
        self, in_channels: int, out_channels: int, contexts: int, width: int = 32,
        multipliers: tuple[int, ...] = (1, 2, 4), *, kernel: int = 5, key: PRNGKeyArray,
    ):  # fmt: skip
        unet_key, contexts_key = jax.random.split(key)
        self.unet = TemporalUNet(in_channels, out_channels, width, multipliers, kernel=kernel, key=unet_key)
        keys = jax.random.split(contexts_key, contexts) if contexts else []
        self.embeddings = tuple(ContextEmbedding(width, key=key) for key in keys)

    def told(self, values: Float[Array, " contexts"], present: Bool[Array, " contexts"]) -> Network:
        """The network that knows the contexts that are present, as a loss and a denoiser call it."""
        context = jnp.zeros(self.unet.noise_layers[-1].bias.size)
        for embed, value, there in zip(self.embeddings, values, present, strict=True):
            context += embed(value, there)
        return lambda rows, noise: self.unet(rows, noise, context)
