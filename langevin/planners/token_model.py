"""A GPT over the tokens of transitions (Janner et al. 2021, Section 3.1)."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from langevin.nets.dropout import dropout, split_or_none
from langevin.nets.transformer import INITIAL_STD, Cache, Transformer, visible_slots
from langevin.planners.beam_search import SequenceModel


class Reading(eqx.Module):
    """What is kept of a sequence: keys and values of its tokens, which may be read, and the output at the last one."""

    cache: Cache
    readable: Bool[Array, " slots"]
    output: Float[Array, " width"]


class TokenModel(SequenceModel):
    """Tokens of a context of transitions -> logits of the token that follows each.

    Every kind of token (a dimension of the observation or action, the reward, the return-to-go) has embeddings and an
    output layer of its own. What comes after a return-to-go cannot read it: it is drawn to value a plan, and of the
    past nobody knows it.
    """

    embeddings: Float[Array, "kinds bins width"]
    places: Float[Array, "slots width"]
    transformer: Transformer
    heads: Float[Array, "kinds width bins"]
    dropout: float = eqx.field(static=True)

    def __init__(
        self, kinds: int, bins: int, context: int, width: int, layers: int, heads: int, dropout: float,
        *, key: PRNGKeyArray,
    ):  # fmt: skip
        embedding_key, place_key, blocks_key, head_key = jax.random.split(key, 4)
        self.embeddings = INITIAL_STD * jax.random.normal(embedding_key, (kinds, bins, width))
        self.places = INITIAL_STD * jax.random.normal(place_key, (context * kinds, width))
        self.transformer = Transformer(width, layers, heads, dropout, jax.nn.gelu, key=blocks_key)
        self.heads = INITIAL_STD * jax.random.normal(head_key, (kinds, width, bins))
        self.dropout = dropout

    @property
    def kinds(self) -> int:
        """Tokens of a transition."""
        return len(self.heads)

    def __call__(
        self,
        tokens: Int[Array, "context kinds"],
        mask: Bool[Array, " context"],
        *,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "context kinds bins"]:
        """At each token, logits of the next; rows where the mask is False are read by no other."""
        input_key, blocks_key = split_or_none(key, 2)
        x = dropout(self._embed(tokens), self.dropout, input_key)
        visible = visible_slots(len(x), self._readable(mask))
        outputs, _ = self.transformer(x, visible, key=blocks_key)
        # After a token of one kind comes one of the next.
        next_heads = jnp.roll(self.heads, -1, axis=0)
        return jnp.einsum("ckw,kwb->ckb", outputs.reshape(*tokens.shape, -1), next_heads)

    def read(self, tokens: Int[Array, "past kinds"], mask: Bool[Array, " past"]) -> Reading:
        """The past in the first slots, in one pass; every slot after it is free."""
        x, slots = self._embed(tokens), len(self.places)
        past_and_free = jnp.concatenate([mask, jnp.ones(slots // self.kinds - len(mask), bool)])
        readable = self._readable(past_and_free)
        visible = visible_slots(len(x), readable)
        outputs, cache = self.transformer(x, visible, self.transformer.empty_cache(slots))
        return Reading(cache, readable, outputs[-1])

    def logits(self, reading: Reading, kind: Int[Array, ""]) -> Float[Array, " bins"]:
        """Logits of the next token."""
        return reading.output @ self.heads[kind]

    def extend(
        self, reading: Reading, token: Int[Array, ""], kind: Int[Array, ""], slot: Int[Array, ""]
    ) -> Reading:
        """One pass of one token."""
        x = self.embeddings[kind, token] + self.places[slot]
        visible = visible_slots(1, reading.readable, slot)
        outputs, cache = self.transformer(x[None], visible, reading.cache, slot)
        return Reading(cache, reading.readable, outputs[0])

    def _embed(self, tokens: Int[Array, "context kinds"]) -> Float[Array, "slots width"]:
        """Embeddings of the first tokens of the model's context, each with its place."""
        embedded = self.embeddings[jnp.arange(self.kinds), tokens].reshape(tokens.size, -1)
        return embedded + self.places[: tokens.size]

    def _readable(self, mask: Bool[Array, " context"]) -> Bool[Array, " slots"]:
        """Which slots may be read from later ones: of real rows all but the return-to-go."""
        not_return = jnp.arange(self.kinds) < self.kinds - 1
        return (mask[:, None] & not_return).reshape(-1)


def next_token_loss(
    logits: Float[Array, "context kinds bins"],
    tokens: Int[Array, "context kinds"],
    mask: Bool[Array, " context"],
) -> tuple[Float[Array, ""], Int[Array, ""]]:
    """Sum of -log p of each token that follows a real one, and how many those are (Eq. 1)."""
    flat = tokens.reshape(-1)[1:]
    log_probabilities = jax.nn.log_softmax(logits.reshape(tokens.size, -1)[:-1])
    found = jnp.take_along_axis(log_probabilities, flat[:, None], axis=1)[:, 0]
    # Padding is on the left: where the token read is real, so is the one after it.
    counted = jnp.repeat(mask, tokens.shape[1])[:-1]
    return -jnp.sum(found * counted), counted.sum()
