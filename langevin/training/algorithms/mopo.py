"""MOPO end to end: single-step models, then SAC on short rollouts whose rewards pay for the ensemble's doubt."""

from dataclasses import dataclass

from langevin.errors import require_at_least
from langevin.imagination.pessimism import PenalisedWorld
from langevin.policies.sac import SAC
from langevin.training.algorithms.model_based import (
    BranchedConfig,
    imagining_stage,
    single_step_stages,
    termination_of,
)
from langevin.training.algorithms.system import System
from langevin.training.stage import Stage


@dataclass(frozen=True, kw_only=True)
class MOPOConfig(BranchedConfig):
    """Settings of MOPO."""

    penalty: float
    """Reward taken off for each unit of the ensemble's doubt (lambda)."""
    learner: SAC = SAC()

    def __post_init__(self):
        require_at_least(0, penalty=self.penalty)


def stages(config: MOPOConfig, system: System) -> list[Stage]:
    """The models (Algorithm 2, line 1), then the policy (lines 2-10)."""
    return [
        *single_step_stages(config, system),
        imagining_stage(
            config.branched(config.learner), config, system,
            lambda data, results: PenalisedWorld(
                results["dynamics"], results["reward"], termination_of(system, results), config.penalty
            ),
        ),
    ]  # fmt: skip
