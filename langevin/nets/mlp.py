"""Fully connected layers and networks of them."""

from collections.abc import Callable

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from langevin.nets.dropout import dropout, split_or_none
from langevin.nets.normalization import LayerNorm


class Linear(eqx.Module):
    """`x W + b`, with `W` stored (in, out).

    That order, and `x` on the left, make `jax.vmap` over a batch one (batch, in) x (in, out) matmul with no
    transpose around it.

    Initial values: every weight and bias uniform in +-1/sqrt(in), PyTorch's default for `nn.Linear`. The
    official TD3+BC, IQL and CQL code trains from these values, and the scores it reports depend on them.
    """

    weight: Float[Array, "in out"]
    bias: Float[Array, " out"]

    def __init__(self, in_size: int, out_size: int, *, key: PRNGKeyArray):
        weight_key, bias_key = jax.random.split(key)
        bound = in_size**-0.5
        self.weight = jax.random.uniform(weight_key, (in_size, out_size), minval=-bound, maxval=bound)
        self.bias = jax.random.uniform(bias_key, (out_size,), minval=-bound, maxval=bound)

    def __call__(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch out"]:
        return x @ self.weight + self.bias


class MLP(eqx.Module):
    """`depth` hidden layers of `width` units, each followed by `activation`, then a linear output.

    `MLP(17, 6, 256, 2, jax.nn.relu, key=key)` is the actor of TD3+BC (before its tanh). `dropout`: share of the
    hidden units that is dropped when a key is given. `layer_norm`: whether hidden units are normalised before the
    activation, so that however far an input lies from the data, what is said of it stays within the last layer's size.
    """

    layers: tuple[Linear, ...]
    activation: Callable = eqx.field(static=True)
    dropout: float = eqx.field(static=True)
    norms: tuple[LayerNorm, ...] | None = None

    def __init__(
        self, in_size: int, out_size: int, width: int, depth: int, activation: Callable = jax.nn.relu,
        dropout: float = 0.0, layer_norm: bool = False, *, key: PRNGKeyArray,
    ):  # fmt: skip
        sizes = [in_size, *[width] * depth, out_size]
        keys = jax.random.split(key, depth + 1)
        self.layers = tuple(
            Linear(size, next_size, key=layer_key)
            for size, next_size, layer_key in zip(sizes[:-1], sizes[1:], keys, strict=True)
        )
        self.norms = tuple(LayerNorm(width) for _ in range(depth)) if layer_norm else None
        self.activation = activation
        self.dropout = dropout

    def __call__(self, x: Float[Array, " in"], *, key: PRNGKeyArray | None = None) -> Float[Array, " out"]:
        *hidden, last = self.layers
        norms = self.norms or [lambda x: x] * len(hidden)
        for layer, norm, layer_key in zip(hidden, norms, split_or_none(key, len(hidden)), strict=True):
            x = dropout(self.activation(norm(layer(x))), self.dropout, layer_key)
        return last(x)
