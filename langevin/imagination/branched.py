"""MBPO's loop (Janner et al. 2019, "When to trust your model"), which MOPO, COMBO and MOReL keep.

Each epoch the current policy is rolled out for a few steps from states of the dataset, and its rows go to a buffer
that forgets all but the last epochs; then the learner takes gradient steps on batches of real and imagined rows. What
sets the methods apart is the world they imagine in and the learner they feed.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from langevin.data.sampling import Transitions
from langevin.errors import require_at_least
from langevin.imagination.buffer import RealShare, require_real_share
from langevin.imagination.experience import (
    ImaginingState,
    as_transitions,
    first_state,
    learn,
    mean_reward,
)
from langevin.imagination.worlds import World
from langevin.policies.base import Learner, Metrics, Policy, SystemSpec


class BranchedRollouts(eqx.Module):
    """A learner, and how much it imagines.

    rollouts: begun each epoch (b), each in a state of the dataset. rollout_steps: transitions of each (h).
    epochs_kept: epochs whose rows the buffer holds. real_share: share of REAL rows in a batch, or
    "union", as many as there are.
    """

    learner: Learner
    rollouts: int = eqx.field(static=True, default=50_000)
    rollout_steps: int = eqx.field(static=True, default=5)
    epochs_kept: int = eqx.field(static=True, default=5)
    real_share: RealShare = eqx.field(static=True, default=0.05)
    batch_size: int = eqx.field(static=True, default=256)

    def __check_init__(self):
        require_at_least(
            1, rollouts=self.rollouts, rollout_steps=self.rollout_steps, epochs_kept=self.epochs_kept,
            batch_size=self.batch_size,
        )  # fmt: skip
        require_real_share(self.real_share)

    @property
    def capacity(self) -> int:
        """Rows of the synthetic buffer."""
        return self.rollouts * self.rollout_steps * self.epochs_kept

    def init(self, spec: SystemSpec, *, key: PRNGKeyArray) -> ImaginingState:
        """A fresh learner and an empty buffer."""
        return first_state(self.learner, self.capacity, spec, key=key)

    def begin_epoch(
        self, state: ImaginingState, transitions: Transitions, world: World, *, key: PRNGKeyArray
    ) -> tuple[ImaginingState, Metrics]:
        """Imagine and remember (MOPO, Algorithm 2, lines 4-9).

        `imagination/length` is how many transitions a rollout lasts: less than `rollout_steps` where rollouts end
        or halt.
        """
        start_key, world_key = jax.random.split(key)
        rows = jax.random.randint(start_key, (self.rollouts,), 0, transitions.size)
        starts = transitions.observations[rows]
        imagined = world.imagine(self.policy(state), starts, self.rollout_steps + 1, key=world_key)
        buffer = state.buffer.add(*as_transitions(imagined))
        metrics = {
            "imagination/reward": mean_reward(imagined),
            "imagination/length": imagined.valid.sum(axis=1).mean(dtype=jnp.float32),
            "imagination/buffer_rows": buffer.filled.astype(jnp.float32),
        }
        return ImaginingState(state.learner, buffer), metrics

    def update(
        self, state: ImaginingState, transitions: Transitions, *, step: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[ImaginingState, Metrics]:
        """One gradient step of the learner on a mixed batch (MOPO, Algorithm 2, line 10)."""
        return learn(self.learner, state, transitions, self.batch_size, self.real_share, step=step, key=key)

    def policy(self, state: ImaginingState) -> Policy:
        """The learner's policy."""
        return self.learner.policy(state.learner)
