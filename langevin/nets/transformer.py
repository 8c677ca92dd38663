"""Causal transformer (Vaswani et al. 2017), with the norms before the layers as in GPT-2 (Radford et al. 2019).

One sequence in, `jax.vmap` outside. The same layers read a whole sequence at once, or a few tokens more of one whose
keys and values are kept, so that a sequence drawn token by token costs one pass a token.
"""

import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from langevin.errors import UsageError, require_at_least
from langevin.nets.dropout import dropout, require_dropout, split_or_none
from langevin.nets.mlp import Linear
from langevin.nets.normalization import LayerNorm

INITIAL_STD = 0.02
"""Of every weight at first, as in GPT-2."""
HIDDEN = -1e9
"""Score of what may not be read. Finite: a row without anything to read would give NaN from minus infinity."""


def visible_slots(
    tokens: int, readable: Bool[Array, " slots"], slot: Int[Array, ""] | int = 0
) -> Bool[Array, "tokens slots"]:
    """What each of `tokens` tokens, of which the first is in `slot`, may read: readable slots before it, and itself."""
    places = slot + jnp.arange(tokens)[:, None]
    slots = jnp.arange(readable.size)[None]
    return (slots < places) & readable | (slots == places)


class KeyValues(eqx.Module):
    """Keys and values of a sequence in one block, a slot a token."""

    keys: Float[Array, "heads slots size"]
    values: Float[Array, "heads slots size"]

    def write(self, new: "KeyValues", slot: Int[Array, ""] | int) -> "KeyValues":
        """With those of new tokens in the slots from `slot` on."""
        start = (0, slot, 0)
        return KeyValues(
            jax.lax.dynamic_update_slice(self.keys, new.keys, start),
            jax.lax.dynamic_update_slice(self.values, new.values, start),
        )


Cache = tuple[KeyValues, ...]
"""Keys and values of every block."""


class Attention(eqx.Module):
    """softmax(Q K^T / sqrt(size)) V over the visible slots, several heads side by side (Vaswani et al., Eq. 1)."""

    inwards: Linear
    outwards: Linear
    heads: int = eqx.field(static=True)
    dropout: float = eqx.field(static=True)

    def __init__(self, width: int, heads: int, dropout: float, *, key: PRNGKeyArray):
        inwards_key, outwards_key = jax.random.split(key)
        self.inwards = small_linear(width, 3 * width, key=inwards_key)
        self.outwards = small_linear(width, width, key=outwards_key)
        self.heads, self.dropout = heads, dropout

    def __call__(
        self,
        x: Float[Array, "tokens width"],
        visible: Bool[Array, "tokens slots"],
        cache: KeyValues | None = None,
        slot: Int[Array, ""] | int = 0,
        *,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Float[Array, "tokens width"], KeyValues]:
        """What the tokens read, and the keys and values with their own; without a cache they read one another."""
        queries, keys, values = (
            part.reshape(len(x), self.heads, -1).swapaxes(0, 1)
            for part in jnp.split(self.inwards(x), 3, axis=-1)
        )
        own = KeyValues(keys, values)
        read = own if cache is None else cache.write(own, slot)
        scores = jnp.einsum("htd,hsd->hts", queries, read.keys) / math.sqrt(queries.shape[-1])
        weights = jax.nn.softmax(jnp.where(visible, scores, HIDDEN), axis=-1)
        weights = dropout(weights, self.dropout, key)
        mixed = jnp.einsum("hts,hsd->htd", weights, read.values)
        return self.outwards(mixed.swapaxes(0, 1).reshape(x.shape)), read


class Block(eqx.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x)): what is added to is never itself normalised."""

    attention_norm: LayerNorm
    attention: Attention
    forward_norm: LayerNorm
    widen: Linear
    narrow: Linear
    activation: Callable = eqx.field(static=True)
    dropout: float = eqx.field(static=True)

    def __init__(self, width: int, heads: int, dropout: float, activation: Callable, *, key: PRNGKeyArray):
        attention_key, widen_key, narrow_key = jax.random.split(key, 3)
        self.attention_norm, self.forward_norm = LayerNorm(width), LayerNorm(width)
        self.attention = Attention(width, heads, dropout, key=attention_key)
        self.widen = small_linear(width, 4 * width, key=widen_key)
        self.narrow = small_linear(4 * width, width, key=narrow_key)
        self.activation, self.dropout = activation, dropout

    def __call__(
        self,
        x: Float[Array, "tokens width"],
        visible: Bool[Array, "tokens slots"],
        cache: KeyValues | None = None,
        slot: Int[Array, ""] | int = 0,
        *,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Float[Array, "tokens width"], KeyValues]:
        """The tokens after this block, and its keys and values with theirs."""
        weights_key, read_key, forward_key = split_or_none(key, 3)
        read, cache = self.attention(self.attention_norm(x), visible, cache, slot, key=weights_key)
        x = x + dropout(read, self.dropout, read_key)
        forward = self.narrow(self.activation(self.widen(self.forward_norm(x))))
        return x + dropout(forward, self.dropout, forward_key), cache


class Transformer(eqx.Module):
    """Blocks one after another, and a norm at the end. Embeddings, places and heads are its user's.

    Raises UsageError when `heads` does not divide `width`.
    """

    blocks: tuple[Block, ...]
    norm: LayerNorm

    def __init__(
        self, width: int, layers: int, heads: int, dropout: float, activation: Callable = jax.nn.gelu,
        *, key: PRNGKeyArray,
    ):  # fmt: skip
        require_transformer(width, layers, heads, dropout)
        keys = jax.random.split(key, layers)
        self.blocks = tuple(Block(width, heads, dropout, activation, key=block_key) for block_key in keys)
        self.norm = LayerNorm(width)

    def __call__(
        self,
        x: Float[Array, "tokens width"],
        visible: Bool[Array, "tokens slots"],
        cache: Cache | None = None,
        slot: Int[Array, ""] | int = 0,
        *,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Float[Array, "tokens width"], Cache]:
        """The tokens read in the light of what is visible to them, and the cache with them in it.

        Without a cache `x` is the whole sequence; with one, its tokens stand in the slots from `slot` on.
        """
        written = []
        keys = split_or_none(key, len(self.blocks))
        for index, block in enumerate(self.blocks):
            x, read = block(x, visible, cache[index] if cache else None, slot, key=keys[index])
            written.append(read)
        return self.norm(x), tuple(written)

    def empty_cache(self, slots: int) -> Cache:
        """A cache for a sequence of `slots` tokens; what is not written yet must not be visible."""
        width, heads = self.norm.scale.size, self.blocks[0].attention.heads
        nothing = jnp.zeros((heads, slots, width // heads))
        return tuple(KeyValues(nothing, nothing) for _ in self.blocks)


def small_linear(in_size: int, out_size: int, *, key: PRNGKeyArray) -> Linear:
    """A layer with weights normal of standard deviation `INITIAL_STD` and no bias at first."""
    layer = Linear(in_size, out_size, key=key)
    weight = INITIAL_STD * jax.random.normal(key, layer.weight.shape)
    return eqx.tree_at(lambda linear: (linear.weight, linear.bias), layer, (weight, jnp.zeros(out_size)))


def require_transformer(width: int, layers: int, heads: int, dropout: float) -> None:
    """Raises UsageError for a network that cannot be built."""
    require_at_least(1, width=width, layers=layers, heads=heads)
    if width % heads:
        raise UsageError(f"heads must divide width, got {heads} heads and width {width}")
    require_dropout(dropout)
