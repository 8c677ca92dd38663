"""Dropout by an explicit key: without one nothing is dropped."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from langevin.errors import UsageError


def dropout(x: Float[Array, "*shape"], rate: float, key: PRNGKeyArray | None) -> Float[Array, "*shape"]:
    """Zero each entry with probability `rate` and divide the others by `1 - rate`, so that the mean stays.

    A key is given while training alone; who acts gives none.
    """
    if key is None or rate == 0:
        return x
    return jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0.0)


def split_or_none(key: PRNGKeyArray | None, count: int) -> list[PRNGKeyArray | None]:
    """`count` keys out of one, or as many times none."""
    return [None] * count if key is None else list(jax.random.split(key, count))


def require_dropout(dropout: float) -> None:
    """Raises UsageError for a share that leaves nothing, or is none."""
    if not 0 <= dropout < 1:
        raise UsageError(f"dropout must be at least 0 and below 1, got {dropout}")
