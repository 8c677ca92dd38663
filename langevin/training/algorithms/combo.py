"""COMBO end to end: MOPO's models and rollouts without the penalty, then CQL that is pushed down in the model."""

from dataclasses import dataclass

from langevin.errors import UsageError
from langevin.imagination.buffer import real_rows_of
from langevin.imagination.pessimism import PenalisedWorld
from langevin.policies.combo import COMBO, PushedStates
from langevin.policies.cql import CQL
from langevin.training.algorithms.model_based import (
    BranchedConfig,
    imagining_stage,
    single_step_stages,
    termination_of,
)
from langevin.training.algorithms.system import System
from langevin.training.stage import Stage


@dataclass(frozen=True, kw_only=True)
class COMBOConfig(BranchedConfig):
    """Settings of COMBO."""

    learner: CQL = CQL()
    pushed_states: PushedStates = "mixed"
    """Where values are pushed down: in the model's states, or in those of the whole batch."""

    def __post_init__(self):
        if not 0 < self.real_rows < self.batch_size:
            raise UsageError(
                "COMBO needs real and imagined rows in every batch: real_share must give it 1 to "
                f"{self.batch_size - 1} of {self.batch_size} rows, got {self.real_share}"
            )

    @property
    def real_rows(self) -> int:
        """Rows of a batch that come from the dataset."""
        return real_rows_of(self.batch_size, self.real_share)


def stages(config: COMBOConfig, system: System) -> list[Stage]:
    """The models, then the policy."""
    learner = COMBO(config.learner, config.real_rows, config.pushed_states)
    return [
        *single_step_stages(config, system),
        imagining_stage(
            config.branched(learner), config, system,
            lambda data, results: PenalisedWorld(
                results["dynamics"], results["reward"], termination_of(system, results), penalty=None
            ),
        ),
    ]  # fmt: skip
