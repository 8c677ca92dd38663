"""DyDiff (Zhao et al. 2024): any learner with a policy, trained on real data and on-policy imagined rollouts.

Algorithm 1's outer loop. Each epoch: roll the current policy out in a world, keep the best trajectories, add them
to the synthetic buffer; then `epoch_steps` gradient steps of the learner on mixed batches. The number of gradient
steps is the base learner's own, so that the two compare at equal steps.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from langevin.data.sampling import Transitions
from langevin.errors import UsageError, require_at_least, require_between
from langevin.imagination.experience import (
    ImaginingState,
    as_transitions,
    first_state,
    learn,
    mean_reward,
)
from langevin.imagination.filters import FILTERS, FilterName
from langevin.imagination.worlds import World
from langevin.policies.base import Learner, Metrics, Policy, SystemSpec


class DyDiff(eqx.Module):
    """The add-on: a learner, and how much it imagines.

    rollouts: trajectories an epoch (B_r). horizon: their states (L). keep_share: share of them kept (eta).
    real_share: share of REAL rows in a batch (alpha). capacity: rows of the synthetic buffer. stochastic: whether a
    policy that can acts by samples in imagination; by its mode else.
    """

    learner: Learner
    rollouts: int = eqx.field(static=True, default=2048)
    horizon: int = eqx.field(static=True, default=100)
    keep_share: float = eqx.field(static=True, default=0.6)
    filter: FilterName = eqx.field(static=True, default="hardmax")
    real_share: float = eqx.field(static=True, default=0.6)
    capacity: int = eqx.field(static=True, default=2_000_000)
    batch_size: int = eqx.field(static=True, default=256)
    stochastic: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        require_at_least(1, rollouts=self.rollouts, batch_size=self.batch_size)
        require_at_least(2, horizon=self.horizon)
        require_between(0, 1, real_share=self.real_share)
        if not 1 <= self.kept <= self.rollouts:
            raise UsageError(
                f"keep_share must keep at least one of {self.rollouts} rollouts and at most all, got {self.keep_share}"
            )
        rows = self.kept * (self.horizon - 1)
        if self.capacity < rows:
            raise UsageError(
                f"capacity must be at least the {rows} rows that an epoch keeps, got {self.capacity}"
            )

    @property
    def kept(self) -> int:
        """Trajectories kept of an epoch's."""
        return round(self.keep_share * self.rollouts)

    def init(self, spec: SystemSpec, *, key: PRNGKeyArray) -> ImaginingState:
        """A fresh learner and an empty buffer."""
        return first_state(self.learner, self.capacity, spec, key=key)

    def begin_epoch(
        self, state: ImaginingState, transitions: Transitions, world: World, *, key: PRNGKeyArray
    ) -> tuple[ImaginingState, Metrics]:
        """Imagine, filter, remember (Algorithm 1, lines 4-11).

        `imagination/reward` is what the policy expects of itself per step, before the filter: held against its
        true reward it shows whether the learner exploits the world model.
        """
        start_key, world_key, filter_key = jax.random.split(key, 3)
        rows = jax.random.randint(start_key, (self.rollouts,), 0, transitions.size)
        starts = transitions.observations[rows]
        policy = self.policy(state) if self.stochastic else self.policy(state).greedy()
        imagined = world.imagine(policy, starts, self.horizon, key=world_key)
        kept = FILTERS[self.filter](imagined.scores, self.kept, key=filter_key)
        best = jax.tree.map(lambda leaf: leaf[kept], imagined)
        buffer = state.buffer.add(*as_transitions(best))
        metrics = {
            "imagination/reward": mean_reward(imagined),
            "imagination/kept_reward": mean_reward(best),
            "imagination/buffer_rows": buffer.filled.astype(jnp.float32),
        }
        return ImaginingState(state.learner, buffer), metrics

    def update(
        self, state: ImaginingState, transitions: Transitions, *, step: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[ImaginingState, Metrics]:
        """One gradient step of the learner on a mixed batch (Algorithm 1, line 13)."""
        return learn(self.learner, state, transitions, self.batch_size, self.real_share, step=step, key=key)

    def policy(self, state: ImaginingState) -> Policy:
        """The learner's policy."""
        return self.learner.policy(state.learner)
