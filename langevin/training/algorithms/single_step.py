"""A learner fed by plain rollouts in the dynamics ensemble: DyDiff's loop without refinements, its own baseline."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from langevin.data.preparation import RewardScaling
from langevin.data.sampling import Transitions, transitions_of
from langevin.data.trajectories import Trajectories
from langevin.dynamics.ensemble_training import EnsembleTraining
from langevin.dynamics.reward import RewardTraining
from langevin.dynamics.split import SplitTransitions, split_transitions
from langevin.errors import require_at_least
from langevin.imagination.dydiff import DyDiff
from langevin.imagination.filters import FilterName
from langevin.imagination.halting import Halt, fit_halt
from langevin.imagination.rewards import RescaledRewards
from langevin.imagination.worlds import EnsembleWorld
from langevin.training.algorithms.model_based import imagining_stage, single_step_stages, termination_of
from langevin.training.algorithms.pace import paced
from langevin.training.algorithms.system import System
from langevin.training.stage import Stage


@dataclass(frozen=True, kw_only=True)
class SingleStepConfig:
    """Settings of ensemble rollouts; `with_learner` (offline.py) adds the base learner's."""

    steps: int
    """Gradient steps of the learner: as many as its base is compared at."""
    dynamics_steps: int
    """At most this many updates of the ensemble; early stopping may end it before."""
    reward_steps: int
    """Updates of the reward model."""
    epoch_steps: int
    """Gradient steps between two rounds of rollouts."""
    rollouts: int
    """Trajectories a round (B_r)."""
    horizon: int
    """States of a trajectory (L)."""
    halt: bool
    """End imagined trajectories where they leave the data."""
    halt_margin: float = 5.0
    """How far the data reach, in 99th percentiles of a held-out state's distance to the nearest one."""
    patience: int
    """A trajectory that halts is paid the data's worst reward so many times over."""
    filter: FilterName
    """Which trajectories are kept."""
    keep_share: float
    """Share of trajectories kept (eta)."""
    real_share: float
    """Share of real rows in a batch (alpha)."""
    capacity: int
    """Rows of the synthetic buffer."""
    stochastic: bool = False
    """Whether a policy with a density acts by samples in imagination; by its mode else."""
    batch_size: int = 256
    """Transitions a gradient step."""
    dynamics: EnsembleTraining = EnsembleTraining()
    reward: RewardTraining = RewardTraining()
    rewards: RewardScaling = RewardScaling()

    def __post_init__(self):
        require_at_least(0, halt_margin=self.halt_margin, patience=self.patience)


class SingleStepData(eqx.Module):
    """What the stages draw from."""

    transitions: Transitions
    split: SplitTransitions
    halt: Halt | None
    reward_factor: Float[Array, ""]


def prepare(config: Any, trajectories: Trajectories) -> SingleStepData:
    """Transitions, their split into training and held-out rows, and where they end."""
    transitions = transitions_of(trajectories)
    halt = fit_halt(transitions, config.halt_margin, config.patience) if config.halt else None
    return SingleStepData(
        transitions, split_transitions(trajectories), halt, reward_factor(config, trajectories)
    )


def reward_factor(config: Any, trajectories: Trajectories) -> Float[Array, ""]:
    """What the learner's rewards are multiplied by; worlds and buffers keep the environment's."""
    return jnp.float32(config.rewards.scale(trajectories))


def stages(config: Any, system: System) -> list[Stage]:
    """Models of one step, then the policy (DyDiff's Algorithm 1 without lines 2 and 7-9)."""
    return [
        *single_step_stages(config, system),
        policy_stage(
            config, system,
            lambda data, results: EnsembleWorld(
                results["dynamics"], results["reward"], data.halt, termination_of(system, results)
            ),
            stochastic=config.stochastic,
        ),
    ]  # fmt: skip


def policy_stage(config: Any, system: System, world_of: Any, *, stochastic: bool = False) -> Stage:
    """The learner, fed by the world that `world_of(data, results)` gives, acting by samples or by its mode."""
    dydiff = DyDiff(
        paced(config.learner, config.steps), config.rollouts, config.horizon, config.keep_share, config.filter,
        config.real_share, config.capacity, config.batch_size, stochastic,
    )  # fmt: skip
    return imagining_stage(
        dydiff, config, system, world_of,
        lambda learner, data: RescaledRewards(learner, data.reward_factor, config.rewards.shift),
    )  # fmt: skip
