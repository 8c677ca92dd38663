"""A residual network of fully connected layers, the denoiser of single transitions (Lu et al. 2023, "SynthER")."""

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from langevin.nets.activations import mish
from langevin.nets.embeddings import SinusoidalEmbedding
from langevin.nets.mlp import Linear

EMBEDDING_SIZE = 128
"""Of the noise level, as in SynthER's code."""


class ResidualMLP(eqx.Module):
    """Maps noisy rows and their noise level to an output for each row; rows do not see one another.

    `blocks` layers of `width` units, each `h + W relu(h)`, on the projected input plus the projected noise level. The
    last layer starts near zero, so an EDM denoiser starts as its skip connection.
    """

    first: Linear
    noise_embedding: SinusoidalEmbedding
    noise_layers: tuple[Linear, Linear]
    blocks: tuple[Linear, ...]
    last: Linear

    def __init__(self, in_size: int, out_size: int, width: int, blocks: int, *, key: PRNGKeyArray):
        first_key, noise_key, project_key, last_key, *block_keys = jax.random.split(key, 4 + blocks)
        self.first = Linear(in_size, width, key=first_key)
        self.noise_embedding = SinusoidalEmbedding(EMBEDDING_SIZE)
        self.noise_layers = (
            Linear(EMBEDDING_SIZE, EMBEDDING_SIZE, key=noise_key),
            Linear(EMBEDDING_SIZE, width, key=project_key),
        )
        self.blocks = tuple(Linear(width, width, key=block_key) for block_key in block_keys)
        last = Linear(width, out_size, key=last_key)
        self.last = eqx.tree_at(lambda layer: (layer.weight, layer.bias), last, replace_fn=lambda x: 0.01 * x)

    def __call__(self, x: Float[Array, "rows in"], noise: Float[Array, ""]) -> Float[Array, "rows out"]:
        """`noise`: the noise level as the loss presents it (EDM: `log(noise_level) / 4`)."""
        embed, project = self.noise_layers
        hidden = self.first(x) + project(mish(embed(self.noise_embedding(noise))))
        for block in self.blocks:
            hidden = hidden + block(jax.nn.relu(hidden))
        return self.last(jax.nn.relu(hidden))
