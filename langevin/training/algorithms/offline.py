"""Offline learners that need nothing but transitions: one stage."""

from dataclasses import dataclass

import jax
from jaxtyping import Array, Int, PRNGKeyArray

from langevin.data.sampling import Transitions, sample_transitions, transitions_of
from langevin.data.trajectories import Trajectories
from langevin.errors import require_at_least
from langevin.policies.base import Learner
from langevin.policies.bc import BC
from langevin.policies.td3bc import TD3BC
from langevin.training.algorithms.system import Results, System
from langevin.training.stage import Stage


@dataclass(frozen=True)
class BCConfig:
    """Settings of behaviour cloning."""

    steps: int
    """Gradient steps."""
    batch_size: int = 256
    """Transitions a gradient step."""
    learner: BC = BC()

    def __post_init__(self):
        require_at_least(1, batch_size=self.batch_size)


@dataclass(frozen=True)
class TD3BCConfig:
    """Settings of TD3+BC."""

    steps: int
    """Critic updates; the actor makes one every `policy_delay`."""
    batch_size: int = 256
    """Transitions an update."""
    learner: TD3BC = TD3BC()

    def __post_init__(self):
        require_at_least(1, batch_size=self.batch_size)


OfflineConfig = BCConfig | TD3BCConfig


def prepare(config: OfflineConfig, trajectories: Trajectories) -> Transitions:
    """All transitions, on the device."""
    return transitions_of(trajectories)


def stages(config: OfflineConfig, system: System) -> list[Stage]:
    """Training is one stage, "policy"."""
    learner: Learner = config.learner

    def init(data: Transitions, results: Results, *, key: PRNGKeyArray):
        return learner.init(system.spec(data), key=key)

    def update(state, data: Transitions, results: Results, *, step: Int[Array, ""], key: PRNGKeyArray):
        batch_key, update_key = jax.random.split(key)
        batch = sample_transitions(data, config.batch_size, key=batch_key)
        return learner.update(state, batch, step=step, key=update_key)

    return [Stage("policy", config.steps, init, update, policy=lambda state, results: learner.policy(state))]
