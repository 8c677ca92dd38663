"""A ring buffer of synthetic transitions that lives on the device: first in, first out."""

import math
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PRNGKeyArray

from langevin.data.sampling import Transitions
from langevin.errors import UsageError, require_between

RealShare = float | Literal["union"]
"""Share of real rows in a batch; "union": every row, logged or imagined, is drawn equally often."""


def require_real_share(real_share: RealShare) -> None:
    """Raises UsageError for a share that is not one."""
    if real_share != "union":
        require_between(0, 1, real_share=real_share)


class SyntheticBuffer(eqx.Module):
    """Rows of transitions, how many are filled, and where the next one goes."""

    rows: Transitions
    filled: Int[Array, ""]
    position: Int[Array, ""]

    @property
    def capacity(self) -> int:
        """The most rows it holds."""
        return self.rows.rewards.shape[0]

    def add(self, transitions: Transitions, valid: Bool[Array, " rows"]) -> "SyntheticBuffer":
        """Write the valid rows over the oldest ones.

        Raises UsageError, when it is traced, for more rows than the capacity: they would overwrite one another.
        """
        if valid.shape[0] > self.capacity:
            raise UsageError(
                f"{valid.shape[0]} rows do not fit a synthetic buffer of {self.capacity}; "
                "raise its capacity or roll out fewer trajectories"
            )
        order = jnp.cumsum(valid) - 1
        slots = jnp.where(valid, (self.position + order) % self.capacity, self.capacity)
        rows = jax.tree.map(lambda old, new: old.at[slots].set(new, mode="drop"), self.rows, transitions)
        count = valid.sum()
        return SyntheticBuffer(
            rows,
            jnp.minimum(self.filled + count, self.capacity).astype(jnp.int32),
            ((self.position + count) % self.capacity).astype(jnp.int32),
        )


def empty_buffer(capacity: int, observation_size: int, action_size: int) -> SyntheticBuffer:
    """A buffer with no rows in it."""
    rows = Transitions(
        observations=jnp.zeros((capacity, observation_size)),
        actions=jnp.zeros((capacity, action_size)),
        rewards=jnp.zeros(capacity),
        terminations=jnp.zeros(capacity),
        next_observations=jnp.zeros((capacity, observation_size)),
    )
    return SyntheticBuffer(rows, jnp.int32(0), jnp.int32(0))


def real_rows_of(batch_size: int, real_share: float) -> int:
    """The real rows of a batch, a fraction of one left out: 153 of 256 at 0.6 (DyDiff, Section 5.4)."""
    return math.floor(real_share * batch_size + 1e-9)


def mixed_batch(
    real: Transitions,
    synthetic: SyntheticBuffer,
    batch_size: int,
    real_share: RealShare,
    *,
    key: PRNGKeyArray,
) -> Transitions:
    """`real_share` of the batch from the dataset, the rest from the buffer; all real while it is empty.

    DyDiff's Algorithm 1 has the share the wrong way round; its Section 5.4 means the share of *real* data. ADEPT's
    Algorithm 1 names none and draws from the union of both.
    """
    if real_share == "union":
        return batch_of_union(real, synthetic, batch_size, key=key)
    real_key, synthetic_key = jax.random.split(key)
    real_rows = real_rows_of(batch_size, real_share)
    real_indices = jax.random.randint(real_key, (batch_size,), 0, real.size)
    synthetic_indices = jax.random.randint(
        synthetic_key, (batch_size - real_rows,), 0, jnp.maximum(synthetic.filled, 1)
    )

    def join(real_leaf, synthetic_leaf):
        drawn = real_leaf[real_indices]
        imagined = jnp.where(
            _like(synthetic.filled > 0, drawn), synthetic_leaf[synthetic_indices], drawn[real_rows:]
        )
        return jnp.concatenate([drawn[:real_rows], imagined])

    return jax.tree.map(join, real, synthetic.rows)


def batch_of_union(
    real: Transitions, synthetic: SyntheticBuffer, batch_size: int, *, key: PRNGKeyArray
) -> Transitions:
    """Rows of dataset and buffer, each as likely as any other: what was imagined counts by how much of it there is."""
    chosen = jax.random.randint(key, (batch_size,), 0, real.size + synthetic.filled)
    is_real = chosen < real.size

    def pick(real_leaf, synthetic_leaf):
        logged = real_leaf[jnp.minimum(chosen, real.size - 1)]
        imagined = synthetic_leaf[jnp.maximum(chosen - real.size, 0)]
        return jnp.where(is_real.reshape(-1, *(1,) * (logged.ndim - 1)), logged, imagined)

    return jax.tree.map(pick, real, synthetic.rows)


def _like(flag: Bool[Array, ""], leaf: Array) -> Bool[Array, "..."]:
    return flag.reshape((1,) * leaf.ndim)
