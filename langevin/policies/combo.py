"""COMBO (Yu et al. 2021, "COMBO: conservative offline model-based policy optimization"): CQL in a model's world.

CQL pushes values down in the data's states, where there is little to fear. COMBO pushes them down where the model
rolled the policy out to, and up where the data acted, so that no measure of the model's doubt is needed.
"""

from typing import Literal

import equinox as eqx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from langevin.data.sampling import Transitions
from langevin.errors import require_at_least
from langevin.nets.ensemble import Ensemble
from langevin.policies.base import Learner, Metrics, SystemSpec
from langevin.policies.cql import CQL, CQLState
from langevin.policies.critics import action_values
from langevin.policies.gaussian import GaussianPolicy, SquashedGaussianActor

PushedStates = Literal["model", "mixed"]


class COMBO(Learner):
    """COMBO on batches whose first `real_rows` rows are of the dataset and whose others a model imagined.

    base: the CQL it stands on, whose weight is the paper's beta. pushed_states: the states of rho, where values are
    pushed down: the model's alone, or the whole mixed batch (the paper's appendix chooses between the two by task).
    """

    base: CQL = CQL()
    real_rows: int = eqx.field(static=True, default=128)
    pushed_states: PushedStates = eqx.field(static=True, default="mixed")

    def __check_init__(self):
        require_at_least(1, real_rows=self.real_rows)

    def init(self, spec: SystemSpec, *, key: PRNGKeyArray) -> CQLState:
        """A fresh CQL."""
        return self.base.init(spec, key=key)

    def penalty(
        self,
        critics: Ensemble,
        actor: SquashedGaussianActor,
        observations: Float[Array, "batch observation"],
        next_observations: Float[Array, "batch observation"],
        actions: Float[Array, "batch action"],
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, " critics"]:
        """E_{s ~ rho} log sum_a exp Q_i(s, a) - E_{s, a ~ data} Q_i(s, a), the term that beta multiplies."""
        pushed = slice(self.real_rows if self.pushed_states == "model" else 0, None)
        real = slice(self.real_rows)
        now, after = observations[pushed], next_observations[pushed]
        down = self.base.soft_maximum(critics, actor, now, after, key=key)
        up = action_values(critics, observations[real], actions[real])
        return down.mean(axis=1) - up.mean(axis=1)

    def update(
        self, state: CQLState, batch: Transitions, *, step: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[CQLState, Metrics]:
        """One step of critics, actor, temperature and targets, on all rows."""
        return self.base.descend(state, batch, self.penalty, key=key)

    def policy(self, state: CQLState) -> GaussianPolicy:
        """The actor, acting by samples."""
        return self.base.policy(state)
