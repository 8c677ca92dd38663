"""MTDiff-s for one task, end to end: a diffusion model of windows, a buffer drawn from it once, then any learner."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from langevin.data.sampling import Transitions, transitions_of
from langevin.data.trajectories import Trajectories
from langevin.errors import require_at_least
from langevin.imagination.experience import as_transitions
from langevin.imagination.window_model import (
    ExperienceWindows,
    WindowModel,
    WindowModelTraining,
    WindowWorld,
    experience_windows,
)
from langevin.training.algorithms.dydiff import world_model_stage
from langevin.training.algorithms.single_step import reward_factor
from langevin.training.algorithms.synthesis import SynthesisConfig, learning_stage, synthesis_stage
from langevin.training.algorithms.system import Results, System
from langevin.training.stage import Stage


@dataclass(frozen=True, kw_only=True)
class MTDiffConfig(SynthesisConfig):
    """Settings of MTDiff-s."""

    horizon: int
    """States of a window."""
    world_model: WindowModelTraining = WindowModelTraining()

    def __post_init__(self):
        super().__post_init__()
        require_at_least(2, horizon=self.horizon)


class WindowData(eqx.Module):
    """What the stages draw from."""

    transitions: Transitions
    windows: ExperienceWindows
    reward_factor: Float[Array, ""]


def prepare(config: Any, trajectories: Trajectories) -> WindowData:
    """Transitions, and windows of the horizon with their rewards and terminals."""
    windows = experience_windows(trajectories, config.horizon)
    return WindowData(transitions_of(trajectories), windows, reward_factor(config, trajectories))


def drawn_world(config: Any, results: Results) -> WindowWorld:
    """What the synthetic data are drawn from."""
    return WindowWorld(results["world_model"], config.schedule, config.churn)


def stages(config: Any, system: System) -> list[Stage]:
    """The model, the synthetic data, the policy."""

    def draw(model: WindowModel, *, key: PRNGKeyArray):
        windows = model.sample(config.synthesis_batch, config.horizon, config.schedule, config.churn, key=key)
        return as_transitions(windows)

    return [
        world_model_stage(config),
        synthesis_stage(config, system, draw, config.synthesis_batch * (config.horizon - 1)),
        learning_stage(config, system),
    ]
