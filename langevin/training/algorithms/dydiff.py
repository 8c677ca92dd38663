"""DyDiff end to end: single-step models, the trajectory diffusion model, then the learner that imagines."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import equinox as eqx
from jaxtyping import Array, Float

from langevin.data.sampling import Transitions, Windows, transitions_of, windows_of
from langevin.data.trajectories import Trajectories
from langevin.diffusion.heun import Churn
from langevin.diffusion.samplers import Sampler, SamplerName
from langevin.diffusion.schedules import KarrasSchedule
from langevin.dynamics.inverse import InverseTraining
from langevin.dynamics.split import SplitTransitions, split_transitions
from langevin.dynamics.support import Support, fit_support
from langevin.errors import require_at_least, require_between
from langevin.imagination.halting import Halt, fit_halt
from langevin.imagination.refinement import Refinement
from langevin.imagination.stepped import SteppedWorld
from langevin.imagination.trajectory_model import TrajectoryModelTraining
from langevin.imagination.worlds import DyDiffWorld, DynamicsWorld, EnsembleWorld, World
from langevin.training.algorithms.model_based import (
    diffusion_stage,
    model_stage,
    single_step_stages,
    termination_of,
)
from langevin.training.algorithms.single_step import SingleStepConfig, policy_stage, reward_factor
from langevin.training.algorithms.system import Results, System
from langevin.training.stage import Stage


@dataclass(frozen=True)
class Renoising:
    """How a rollout itself is refined: how far the data it is kept to reach (as `halt_margin`), noise put on it (states
    lie in [-1, 1]), and how often it is drawn anew."""

    margin: float = 5.0
    noise_level: float = 0.2
    passes: int = 1

    def __post_init__(self):
        require_at_least(0, margin=self.margin)
        require_at_least(1, passes=self.passes)


@dataclass(frozen=True, kw_only=True)
class DyDiffConfig(SingleStepConfig):
    """Settings of DyDiff beside those of ensemble rollouts; `with_learner` (offline.py) adds the base learner's."""

    inverse_steps: int
    """Updates of the inverse dynamics model."""
    world_model_steps: int
    """Updates of the trajectory diffusion model."""
    iterations: int
    """Refinements of each trajectory (M); 0 is plain ensemble rollouts."""
    mix: float
    """Share of refined states against the previous ones, 0 to 1."""
    strength: float
    """How much a refinement obeys the actions: 0 the paper's form, 1 fully."""
    final_actions: Literal["policy", "inverse"]
    """Actions stored with the refined states: the policy's (paper) or those that explain the states."""
    refine_from: Literal["noise", "rollout"] = "noise"
    """What a refinement begins at: noise (paper), or the rollout itself, kept to the data, with noise on it."""
    renoised: Renoising = Renoising()
    successors: Literal["refined", "single_step"] = "refined"
    """Where a learner is shown that a refined state leads: to the next refined one (paper), or to where the
    single-step model says that the action leads."""
    sampler: SamplerName = "heun"
    """What draws refined states: heun (paper, two network calls a step), dpm_solver or ddim (one call a step)."""
    inverse: InverseTraining = InverseTraining()
    world_model: TrajectoryModelTraining = TrajectoryModelTraining()
    schedule: KarrasSchedule = KarrasSchedule()
    churn: Churn = Churn()

    def __post_init__(self):
        super().__post_init__()
        require_at_least(2, horizon=self.horizon)
        require_at_least(0, iterations=self.iterations, strength=self.strength)
        require_between(0, 1, mix=self.mix)
        self.refinement()

    def refinement(self) -> Refinement:
        """How states are corrected. Raises UsageError for churn with another sampler than heun."""
        if self.refine_from == "noise":
            return Refinement(Sampler(self.sampler, self.schedule, self.churn))
        schedule = replace(self.schedule, highest=self.renoised.noise_level)
        return Refinement(Sampler(self.sampler, schedule, self.churn), self.renoised.passes)


class DyDiffData(eqx.Module):
    """What the stages draw from, and where it ends: for the learner, and for rollouts that are refined."""

    transitions: Transitions
    split: SplitTransitions
    windows: Windows
    halt: Halt | None
    edge: Support | None
    reward_factor: Float[Array, ""]


def prepare(config: Any, trajectories: Trajectories) -> DyDiffData:
    """Transitions, their split into training and held-out rows, and windows of the horizon."""
    transitions = transitions_of(trajectories)
    return DyDiffData(
        transitions,
        split_transitions(trajectories),
        windows_of(trajectories, config.horizon),
        fit_halt(transitions, config.halt_margin, config.patience) if config.halt else None,
        fit_edge(config, transitions),
        reward_factor(config, trajectories),
    )


def fit_edge(config: Any, transitions: Transitions) -> Support | None:
    """What the rollouts that are refined keep to; nothing where a refinement forgets them."""
    return fit_support(transitions, config.renoised.margin) if config.refine_from == "rollout" else None


def stages(config: Any, system: System) -> list[Stage]:
    """Models of one step (Algorithm 1, line 1), the diffusion model (line 2), then the policy (lines 3-14)."""
    refined = config.iterations > 0
    diffusion = [world_model_stage(config)] if refined else []
    explained = [inverse_stage(config)] if refined and config.final_actions == "inverse" else []
    return [
        *single_step_stages(config, system), *explained, *diffusion,
        policy_stage(
            config, system, lambda data, results: taught_world(config, system, results, data.halt, data.edge),
            stochastic=config.stochastic,
        ),
    ]  # fmt: skip


def learned_world(
    config: Any, system: System, results: Results, halt: Halt | None = None, edge: Support | None = None
) -> DynamicsWorld:
    """The world made of the finished models."""
    termination = termination_of(system, results)
    if config.iterations == 0:
        return EnsembleWorld(results["dynamics"], results["reward"], halt, termination)
    return DyDiffWorld(
        results["dynamics"], results["reward"], results["world_model"], results.get("inverse"), halt, edge, termination,
        config.refinement(), config.iterations, config.mix, config.strength, config.final_actions,
    )  # fmt: skip


def taught_world(
    config: Any, system: System, results: Results, halt: Halt | None, edge: Support | None
) -> World:
    """The world that the learner is shown transitions of."""
    if config.iterations == 0 or config.successors == "refined":
        return learned_world(config, system, results, halt, edge)
    world = learned_world(config, system, results, edge=edge)
    return SteppedWorld(world, results["dynamics"], halt, termination_of(system, results))


def inverse_stage(config: Any) -> Stage:
    """The inverse dynamics model."""
    return model_stage("inverse", config.inverse, config.inverse_steps, lambda data: data.transitions)


def world_model_stage(config: Any) -> Stage:
    """The trajectory diffusion model."""
    return diffusion_stage(config, lambda data: data.windows)
