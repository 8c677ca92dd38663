"""What every learner that imagines shares: batches of real and imagined rows, and a buffer of the imagined ones."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from langevin.data.sampling import Transitions
from langevin.imagination.buffer import RealShare, SyntheticBuffer, empty_buffer, mixed_batch
from langevin.imagination.worlds import Imagined
from langevin.policies.base import Learner, Metrics, SystemSpec


class ImaginingState(eqx.Module):
    """The learner's state and the synthetic buffer."""

    learner: Any
    buffer: SyntheticBuffer


def first_state(learner: Learner, capacity: int, spec: SystemSpec, *, key: PRNGKeyArray) -> ImaginingState:
    """A fresh learner and an empty buffer."""
    buffer = empty_buffer(capacity, spec.observation_size, spec.action_size)
    return ImaginingState(learner.init(spec, key=key), buffer)


def learn(
    learner: Learner,
    state: ImaginingState,
    transitions: Transitions,
    batch_size: int,
    real_share: RealShare,
    *,
    step: Int[Array, ""],
    key: PRNGKeyArray,
) -> tuple[ImaginingState, Metrics]:
    """One gradient step of the learner on a mixed batch, where their share is given its real rows first."""
    batch_key, update_key = jax.random.split(key)
    batch = mixed_batch(transitions, state.buffer, batch_size, real_share, key=batch_key)
    learned, metrics = learner.update(state.learner, batch, step=step, key=update_key)
    return ImaginingState(learned, state.buffer), metrics


def as_transitions(imagined: Imagined) -> tuple[Transitions, Array]:
    """Trajectories as rows, and which rows happened before their trajectory ended."""

    def flat(leaf: Array) -> Array:
        return leaf.reshape(-1, *leaf.shape[2:])

    rows = Transitions(
        observations=flat(imagined.observations[:, :-1]),
        actions=flat(imagined.actions[:, :-1]),
        rewards=flat(imagined.rewards),
        terminations=flat(imagined.terminations).astype(jnp.float32),
        next_observations=flat(imagined.next_observations),
    )
    return rows, flat(imagined.valid)


def mean_reward(imagined: Imagined) -> Float[Array, ""]:
    """Mean reward of the transitions that count, 0 where none does."""
    return imagined.scores.sum() / jnp.maximum(imagined.valid.sum(), 1)
