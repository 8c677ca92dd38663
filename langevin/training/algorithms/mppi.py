"""MPPI end to end: the models are all that is trained; the policy searches in them."""

from dataclasses import dataclass, replace

import jax.numpy as jnp

from langevin.dynamics.ensemble_training import EnsembleTraining
from langevin.dynamics.reward import RewardTraining
from langevin.planners.mppi import MPPIPolicy, Search
from langevin.training.algorithms.model_based import (
    dynamics_stage,
    ending_stages,
    reward_stage,
    termination_of,
)
from langevin.training.algorithms.system import Results, System
from langevin.training.stage import Stage


@dataclass(frozen=True, kw_only=True)
class MPPIConfig:
    """Settings of MPPI."""

    steps: int
    """At most this many updates of the dynamics ensemble; early stopping may end it before."""
    reward_steps: int
    """Updates of the reward model."""
    search: Search = Search()
    dynamics: EnsembleTraining = EnsembleTraining()
    reward: RewardTraining = RewardTraining()


def stages(config: MPPIConfig, system: System) -> list[Stage]:
    """The reward model, what ends episodes if that is learned, then the ensemble, with which the policy is complete."""

    def policy(dynamics, results: Results) -> MPPIPolicy:
        return MPPIPolicy(
            dynamics, results["reward"], jnp.asarray(system.action_low), jnp.asarray(system.action_high),
            termination_of(system, results), config.search,
        )  # fmt: skip

    dynamics = dynamics_stage(config.dynamics, config.steps)
    others = [reward_stage(config.reward, config.reward_steps), *ending_stages(system, config.reward_steps)]
    return [*others, replace(dynamics, policy=policy)]
