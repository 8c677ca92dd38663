"""What SynthER and MTDiff-s share: a buffer filled once from a finished model, and a learner on mixed batches of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PRNGKeyArray

from langevin.data.preparation import RewardScaling
from langevin.data.sampling import Transitions
from langevin.diffusion.heun import Churn
from langevin.diffusion.schedules import KarrasSchedule
from langevin.errors import require_at_least, require_between
from langevin.imagination.buffer import SyntheticBuffer, empty_buffer
from langevin.imagination.experience import ImaginingState, learn
from langevin.imagination.rewards import RescaledRewards
from langevin.training.algorithms.pace import paced
from langevin.training.algorithms.system import Results, System
from langevin.training.stage import Stage

Draw = Callable[..., tuple[Transitions, Bool[Array, " rows"]]]
"""`draw(model, key=key)` -> a batch of transitions and which of them happened."""


@dataclass(frozen=True, kw_only=True)
class SynthesisConfig:
    """Settings of a learner on synthetic data; `with_learner` (offline.py) adds the base learner's."""

    steps: int
    """Gradient steps of the learner: as many as its base is compared at."""
    world_model_steps: int
    """Updates of the diffusion model."""
    synthesis_steps: int
    """Batches synthesised, once, before the learner begins."""
    synthesis_batch: int
    """What such a batch holds: transitions (SynthER) or windows (MTDiff-s)."""
    real_share: float
    """Share of real rows in a batch."""
    batch_size: int = 256
    """Transitions a gradient step."""
    schedule: KarrasSchedule = KarrasSchedule()
    churn: Churn = Churn()
    rewards: RewardScaling = RewardScaling()

    def __post_init__(self):
        require_at_least(
            1, synthesis_steps=self.synthesis_steps, synthesis_batch=self.synthesis_batch,
            batch_size=self.batch_size,
        )  # fmt: skip
        require_between(0, 1, real_share=self.real_share)


def synthesis_stage(config: SynthesisConfig, system: System, draw: Draw, rows: int) -> Stage:
    """The buffer as a stage: each update draws one batch of `rows` transitions from the finished world model."""

    def init(data: Any, results: Results, *, key: PRNGKeyArray) -> SyntheticBuffer:
        return empty_buffer(config.synthesis_steps * rows, system.observation_size, system.action_size)

    def update(buffer, data: Any, results: Results, *, step: Int[Array, ""], key: PRNGKeyArray):
        drawn, valid = draw(results["world_model"], key=key)
        count = jnp.maximum(valid.sum(), 1)
        metrics = {
            "synthesis/reward": jnp.where(valid, drawn.rewards, 0.0).sum() / count,
            "synthesis/terminations": jnp.where(valid, drawn.terminations, 0.0).sum() / count,
        }
        return buffer.add(drawn, valid), metrics

    return Stage("synthesis", config.synthesis_steps, init, update)


def learning_stage(config: Any, system: System) -> Stage:
    """The stage "policy": the base learner on batches of real and synthetic rows; the buffer stays as it is."""
    learner = paced(config.learner, config.steps)

    def init(data: Any, results: Results, *, key: PRNGKeyArray):
        return learner.init(system.spec(data.transitions), key=key)

    def update(state, data: Any, results: Results, *, step: Int[Array, ""], key: PRNGKeyArray):
        taught = RescaledRewards(learner, data.reward_factor, config.rewards.shift)
        mixed, metrics = learn(
            taught, ImaginingState(state, results["synthesis"]), data.transitions, config.batch_size,
            config.real_share, step=step, key=key,
        )  # fmt: skip
        return mixed.learner, metrics

    return Stage("policy", config.steps, init, update, policy=lambda state, results: learner.policy(state))
