"""Rewards in a learner's own scale, while its world and its synthetic buffer keep the environment's."""

from typing import Any

import equinox as eqx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from langevin.data.sampling import Transitions
from langevin.policies.base import Learner, Metrics, Policy, SystemSpec


class RescaledRewards(Learner):
    """A learner that is shown factor x reward + shift (IQL's scaling in locomotion)."""

    learner: Learner
    factor: Float[Array, ""]
    shift: float = eqx.field(static=True, default=0.0)

    def init(self, spec: SystemSpec, *, key: PRNGKeyArray) -> Any:
        """The learner's."""
        return self.learner.init(spec, key=key)

    def update(
        self, state: Any, batch: Transitions, *, step: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[Any, Metrics]:
        """The learner's, on the other rewards."""
        rewards = self.factor * batch.rewards + self.shift
        batch = eqx.tree_at(lambda rows: rows.rewards, batch, rewards)
        return self.learner.update(state, batch, step=step, key=key)

    def policy(self, state: Any) -> Policy:
        """The learner's."""
        return self.learner.policy(state)
