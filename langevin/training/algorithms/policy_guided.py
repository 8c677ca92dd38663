"""Policy-guided diffusion end to end: a diffusion model of windows, then any learner in DyDiff's loop."""

from dataclasses import dataclass
from typing import Any

from langevin.data.preparation import RewardScaling
from langevin.diffusion.heun import Churn
from langevin.diffusion.schedules import KarrasSchedule
from langevin.errors import UsageError, require_at_least
from langevin.imagination.filters import FilterName
from langevin.imagination.policy_guided import PolicyGuidedWorld
from langevin.imagination.window_model import WindowModelTraining
from langevin.training.algorithms.dydiff import world_model_stage
from langevin.training.algorithms.single_step import policy_stage
from langevin.training.algorithms.system import Results, System
from langevin.training.stage import Stage


@dataclass(frozen=True, kw_only=True)
class PolicyGuidedConfig:
    """Settings of policy-guided diffusion; `with_learner` (offline.py) adds the base learner's."""

    steps: int
    """Gradient steps of the learner: as many as its base is compared at."""
    world_model_steps: int
    """Updates of the diffusion model."""
    epoch_steps: int
    """Gradient steps between two rounds of synthesis."""
    rollouts: int
    """Windows a round."""
    horizon: int
    """States of a window."""
    strength: float
    """Weight of the policy's log density (lambda); 0 draws from the data's own distribution."""
    spread: float
    """Of the Gaussian around a deterministic policy's action, where the data's actions span [-1, 1]."""
    filter: FilterName
    """Which windows are kept."""
    keep_share: float
    """Share of windows kept; 1 keeps all."""
    real_share: float
    """Share of real rows in a batch."""
    capacity: int
    """Rows of the synthetic buffer."""
    batch_size: int = 256
    """Transitions a gradient step."""
    world_model: WindowModelTraining = WindowModelTraining()
    schedule: KarrasSchedule = KarrasSchedule()
    churn: Churn = Churn()
    rewards: RewardScaling = RewardScaling()

    def __post_init__(self):
        require_at_least(0, strength=self.strength)
        if not self.spread > 0:
            raise UsageError(f"spread must be greater than 0, got {self.spread}")


def stages(config: Any, system: System) -> list[Stage]:
    """The model, then the policy, with windows drawn anew every epoch."""
    return [
        world_model_stage(config),
        policy_stage(
            config, system,
            lambda data, results: drawn_world(config, results),
        ),
    ]  # fmt: skip


def drawn_world(config: Any, results: Results) -> PolicyGuidedWorld:
    """What the synthetic data are drawn from, before any filter."""
    return PolicyGuidedWorld(
        results["world_model"], config.schedule, config.churn, config.strength, config.spread
    )
