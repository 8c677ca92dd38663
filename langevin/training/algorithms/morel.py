"""MOReL end to end: single-step models, where they are not to be trusted, then SAC in the pessimistic MDP."""

from dataclasses import dataclass

from jaxtyping import PRNGKeyArray

from langevin.errors import UsageError, require_at_least
from langevin.imagination.pessimism import HaltingWorld, Unknown, fit_unknown
from langevin.policies.sac import SAC
from langevin.training.algorithms.model_based import (
    BranchedConfig,
    ModelData,
    imagining_stage,
    single_step_stages,
    termination_of,
)
from langevin.training.algorithms.system import Results, System
from langevin.training.stage import Stage


@dataclass(frozen=True, kw_only=True)
class MOReLConfig(BranchedConfig):
    """Settings of MOReL."""

    pessimism: float
    """The largest disagreement on the data, divided by this, is the threshold of the unknown; 1 knows all data."""
    halt_offset: float
    """Entering the unknown pays the data's least reward less this, in reward units."""
    learner: SAC = SAC()

    def __post_init__(self):
        require_at_least(0, halt_offset=self.halt_offset)
        if not self.pessimism > 0:
            raise UsageError(f"pessimism must be greater than 0, got {self.pessimism}")
        if self.dynamics.members < 2:
            raise UsageError("members disagree with one another: dynamics.members must be at least 2, got 1")


def stages(config: MOReLConfig, system: System) -> list[Stage]:
    """The models, the threshold of the unknown, then the policy."""
    return [
        *single_step_stages(config, system), unknown_stage(config),
        imagining_stage(
            config.branched(config.learner), config, system,
            lambda data, results: HaltingWorld(
                results["dynamics"], results["reward"], results["unknown"], termination_of(system, results)
            ),
        ),
    ]  # fmt: skip


def unknown_stage(config: MOReLConfig) -> Stage:
    """Measures once how far the members disagree on the data: a stage without updates."""

    def init(data: ModelData, results: Results, *, key: PRNGKeyArray) -> Unknown:
        return fit_unknown(results["dynamics"], data.transitions, config.pessimism, config.halt_offset)

    return Stage("unknown", 0, init, lambda state, *_, **__: (state, {}))
