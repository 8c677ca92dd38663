"""Which imagined trajectories are worth learning from (DyDiff, Section 4.3)."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

FilterName = Literal["hardmax", "softmax"]


def hardmax_filter(
    scores: Float[Array, " trajectories"], keep: int, *, key: PRNGKeyArray
) -> Int[Array, " keep"]:
    """The `keep` trajectories with the highest scores; the key is not used."""
    return jax.lax.top_k(scores, keep)[1]


def softmax_filter(
    scores: Float[Array, " trajectories"],
    keep: int,
    temperature: float = 0.05,
    floor: float = 1e-6,
    *,
    key: PRNGKeyArray,
) -> Int[Array, " keep"]:
    """`keep` trajectories drawn without replacement, more likely the higher their score.

    Scores are z-scored, then p = softmax(z / temperature) + floor (a uniform floor, so that none is
    impossible). Adding Gumbel noise to log p and taking the largest draws without replacement.
    """
    standard = (scores - scores.mean()) / jnp.maximum(scores.std(), 1e-6)
    log_probability = jnp.log(jax.nn.softmax(standard / temperature) + floor)
    return jax.lax.top_k(log_probability + jax.random.gumbel(key, scores.shape), keep)[1]


FILTERS = {"hardmax": hardmax_filter, "softmax": softmax_filter}
