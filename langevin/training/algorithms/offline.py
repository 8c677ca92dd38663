"""Offline learners that need nothing but transitions: one stage."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
from jaxtyping import Array, Int, PRNGKeyArray

from langevin.data.preparation import RewardScaling, best_episodes
from langevin.data.sampling import Transitions, sample_transitions, transitions_of
from langevin.data.trajectories import Trajectories
from langevin.errors import require_at_least, require_between
from langevin.policies.base import Learner
from langevin.training.algorithms.pace import paced
from langevin.training.algorithms.system import Results, System
from langevin.training.stage import Stage


@dataclass(frozen=True)
class OfflineConfig:
    """Settings of a learner's training; `with_learner` adds its own."""

    steps: int
    """Gradient steps."""
    batch_size: int = 256
    """Transitions a gradient step."""
    best_share: float = 1.0
    """Share of the episodes, those of highest return, that are learned from (10%-BC: 0.1)."""
    rewards: RewardScaling = RewardScaling()

    def __post_init__(self):
        require_at_least(1, batch_size=self.batch_size)
        require_between(0, 1, best_share=self.best_share)


def with_learner(config_class: type, learner_class: type[Learner]) -> type:
    """The settings with those of that learner as their field `learner`."""
    field = ("learner", learner_class, dataclasses.field(default_factory=learner_class))
    name = f"{learner_class.__name__}{config_class.__name__}"
    return dataclasses.make_dataclass(name, [field], bases=(config_class,), frozen=True)


def prepare(config: OfflineConfig, trajectories: Trajectories) -> Transitions:
    """All transitions that are learned from, on the device."""
    kept = best_episodes(trajectories, config.best_share)
    return transitions_of(config.rewards.apply(kept, config.rewards.scale(kept)))


def stages(config: Any, system: System) -> list[Stage]:
    """Training is one stage, "policy"."""
    return [policy_stage(config, system, paced(config.learner, config.steps))]


def policy_stage(config: Any, system: System, learner: Learner) -> Stage:
    """`config.steps` updates of a learner on batches of transitions."""

    def init(data: Transitions, results: Results, *, key: PRNGKeyArray):
        return learner.init(system.spec(data), key=key)

    def update(state, data: Transitions, results: Results, *, step: Int[Array, ""], key: PRNGKeyArray):
        batch_key, update_key = jax.random.split(key)
        batch = sample_transitions(data, config.batch_size, key=batch_key)
        return learner.update(state, batch, step=step, key=update_key)

    return Stage("policy", config.steps, init, update, policy=lambda state, results: learner.policy(state))
