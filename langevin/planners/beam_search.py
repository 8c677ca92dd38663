"""Beam search over token sequences for the greatest return (Janner et al. 2021, Algorithm 1 and Section 3.2).

Where a language model keeps the likeliest sequences, a planner draws likely ones and keeps those of most reward.
"""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from langevin.errors import require_at_least, require_between


class SequenceModel(eqx.Module):
    """Says which token comes next in one sequence of transitions.

    A transition is `kinds` tokens: observation dimensions, action dimensions, reward, return-to-go.
    """

    @abc.abstractmethod
    def logits(self, reading: Any, kind: Int[Array, ""]) -> Float[Array, " bins"]:
        """Log-probabilities, up to a constant, of the next token, which is of that kind."""

    @abc.abstractmethod
    def extend(self, reading: Any, token: Int[Array, ""], kind: Int[Array, ""], slot: Int[Array, ""]) -> Any:
        """What is kept of the sequence, with one token more, in that slot of it."""


class Beams(eqx.Module):
    """Sequences side by side: what the model keeps of each, their tokens, and what they earned so far."""

    reading: Any
    tokens: Int[Array, "candidates horizon kinds"]
    earned: Float[Array, " candidates"]
    """Sum of discounted expected rewards."""


class BeamSearch(eqx.Module):
    """How a plan is searched for.

    horizon: transitions of a plan. width: sequences kept after each transition. expand: continuations drawn of each.
    top_observations, top_actions: how many of the likeliest bins of a dimension are drawn from; 1 takes the likeliest.
    discount: of a reward, per environment step.
    """

    horizon: int = eqx.field(static=True, default=6)
    width: int = eqx.field(static=True, default=32)
    expand: int = eqx.field(static=True, default=2)
    top_observations: int = eqx.field(static=True, default=1)
    top_actions: int = eqx.field(static=True, default=20)
    discount: float = eqx.field(static=True, default=0.99)

    def __check_init__(self):
        require_at_least(
            1, horizon=self.horizon, width=self.width, expand=self.expand,
            top_observations=self.top_observations, top_actions=self.top_actions,
        )  # fmt: skip
        require_between(0, 1, discount=self.discount)

    def plan(
        self,
        model: SequenceModel,
        reading: Any,
        slot: int,
        observation: Int[Array, " observation"],
        centers: Float[Array, "kinds bins"],
        *,
        key: PRNGKeyArray,
    ) -> tuple[Int[Array, "horizon kinds"], Float[Array, ""]]:
        """The best sequence found from an observation on, and its expected return.

        reading: what the model keeps of the tokens before, which fill the slots up to `slot`. centers: the number that
        each bin stands for. A reward or return-to-go takes its likeliest bin in the sequence, and counts by its mean.
        """
        kinds = len(centers)
        candidates = self.width * self.expand
        most = max(self.top_observations, self.top_actions)
        top = jnp.full(kinds, self.top_actions)
        top = top.at[: observation.size].set(self.top_observations).at[-2:].set(1)
        given = jnp.zeros(kinds, jnp.int32).at[: observation.size].set(observation)

        def draw_transition(beams: Beams, step: Int[Array, ""], key: Key[Array, ""]):
            """All candidates one transition longer, and the means of its tokens; the first observation is known."""

            def draw(reading: Any, kind: Int[Array, ""]):
                logits = jax.vmap(model.logits, in_axes=(0, None))(reading, kind)
                drawn = draw_likely(logits, top[kind], most, key=jax.random.fold_in(key, kind))
                tokens = jnp.where((step == 0) & (kind < observation.size), given[kind], drawn)
                place = slot + step * kinds + kind
                reading = jax.vmap(model.extend, in_axes=(0, 0, None, None))(reading, tokens, kind, place)
                return reading, (tokens, jax.nn.softmax(logits) @ centers[kind])

            reading, (tokens, means) = jax.lax.scan(draw, beams.reading, jnp.arange(kinds))
            return Beams(reading, beams.tokens.at[:, step].set(tokens.T), beams.earned), means

        def extend(beams: Beams, step_and_key: tuple[Int[Array, ""], Key[Array, ""]]):
            step, step_key = step_and_key
            beams, means = draw_transition(beams, step, step_key)
            reward, return_to_go = means[-2], means[-1]
            # Both speak of the rewards from this step on: the plan's return so far is that before it, and R.
            returns = beams.earned + self.discount**step * return_to_go
            beams = eqx.tree_at(lambda b: b.earned, beams, beams.earned + self.discount**step * reward)
            best, chosen = jax.lax.top_k(returns, self.width)
            parents = jnp.repeat(chosen, self.expand)
            return jax.tree.map(lambda leaf: leaf[parents], beams), best[0]

        copy = lambda leaf: jnp.broadcast_to(leaf, (candidates, *leaf.shape))
        beams = Beams(
            jax.tree.map(copy, reading),
            jnp.zeros((candidates, self.horizon, kinds), jnp.int32),
            jnp.zeros(candidates),
        )
        steps = jnp.arange(self.horizon), jax.random.split(key, self.horizon)
        beams, best = jax.lax.scan(extend, beams, steps)
        return beams.tokens[0], best[-1]


def draw_likely(
    logits: Float[Array, "candidates bins"], top: Int[Array, ""], most: int, *, key: PRNGKeyArray
) -> Int[Array, " candidates"]:
    """A token for each candidate, drawn from its `top` likeliest bins (at most `most`) by their probabilities."""
    likeliest, bins = jax.lax.top_k(logits, min(most, logits.shape[-1]))
    allowed = jnp.where(jnp.arange(likeliest.shape[-1]) < top, likeliest, -jnp.inf)
    ranks = jax.random.categorical(key, allowed)
    return jnp.take_along_axis(bins, ranks[:, None], axis=-1)[:, 0]
