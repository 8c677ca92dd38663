"""DyDiff end to end: single-step models, the trajectory diffusion model, then the learner that imagines."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import equinox as eqx
from jaxtyping import Array, Int, PRNGKeyArray

from langevin.data.sampling import Transitions, Windows, transitions_of, windows_of
from langevin.data.trajectories import Trajectories
from langevin.diffusion.samplers import Churn
from langevin.diffusion.schedules import KarrasSchedule
from langevin.dynamics.ensemble_training import EnsembleTraining
from langevin.dynamics.inverse import InverseTraining
from langevin.dynamics.reward import RewardTraining
from langevin.dynamics.split import SplitTransitions, split_transitions
from langevin.errors import require_at_least, require_between
from langevin.imagination.dydiff import DyDiff
from langevin.imagination.filters import FilterName
from langevin.imagination.halting import Halt, fit_halt
from langevin.imagination.trajectory_model import TrajectoryModelTraining
from langevin.imagination.worlds import DyDiffWorld, EnsembleWorld, World
from langevin.nets.temporal_unet import require_horizon
from langevin.training.algorithms.offline import paced
from langevin.training.algorithms.system import Results, System
from langevin.training.stage import Stage


@dataclass(frozen=True)
class DyDiffConfig:
    """Settings of DyDiff; `with_learner` (offline.py) adds the base learner's."""

    steps: int
    """Gradient steps of the learner: as many as its base is compared at."""
    dynamics_steps: int
    """At most this many updates of the ensemble; early stopping may end it before."""
    reward_steps: int
    """Updates of the reward model."""
    inverse_steps: int
    """Updates of the inverse dynamics model."""
    world_model_steps: int
    """Updates of the trajectory diffusion model."""
    epoch_steps: int
    """Gradient steps between two rounds of rollouts."""
    rollouts: int
    """Trajectories a round (B_r)."""
    horizon: int
    """States of a trajectory (L)."""
    iterations: int
    """Refinements of each trajectory (M); 0 is plain ensemble rollouts."""
    mix: float
    """Share of refined states against the previous ones, 0 to 1."""
    strength: float
    """How much a refinement obeys the actions: 0 the paper's form, 1 fully."""
    halt: bool
    """End imagined trajectories where they leave the data."""
    patience: int
    """A trajectory that halts is paid the data's worst reward so many times over."""
    final_actions: Literal["policy", "inverse"]
    """Actions stored with the refined states: the policy's (paper) or those that explain the states."""
    filter: FilterName
    """Which trajectories are kept."""
    keep_share: float
    """Share of trajectories kept (eta)."""
    real_share: float
    """Share of real rows in a batch (alpha)."""
    capacity: int
    """Rows of the synthetic buffer."""
    batch_size: int = 256
    """Transitions a gradient step."""
    dynamics: EnsembleTraining = EnsembleTraining()
    reward: RewardTraining = RewardTraining()
    inverse: InverseTraining = InverseTraining()
    world_model: TrajectoryModelTraining = TrajectoryModelTraining()
    schedule: KarrasSchedule = KarrasSchedule()
    churn: Churn = Churn()

    def __post_init__(self):
        require_at_least(0, iterations=self.iterations, strength=self.strength, patience=self.patience)
        require_between(0, 1, mix=self.mix)


class DyDiffData(eqx.Module):
    """What the stages draw from."""

    transitions: Transitions
    split: SplitTransitions
    windows: Windows
    halt: Halt | None


def prepare(config: Any, trajectories: Trajectories) -> DyDiffData:
    """Transitions, their split into training and held-out rows, and windows of the horizon."""
    transitions = transitions_of(trajectories)
    return DyDiffData(
        transitions,
        split_transitions(trajectories),
        windows_of(trajectories, config.horizon),
        fit_halt(transitions, config.patience) if config.halt else None,
    )


def stages(config: Any, system: System) -> list[Stage]:
    """Models of one step (Algorithm 1, line 1), the diffusion model (line 2), then the policy (lines 3-14)."""
    refined = config.iterations > 0
    diffusion = [world_model_stage(config)] if refined else []
    explained = [inverse_stage(config)] if refined and config.final_actions == "inverse" else []
    return [
        *single_step_stages(config), *explained, *diffusion,
        policy_stage(config, system, lambda data, results: learned_world(config, system, results, data.halt)),
    ]  # fmt: skip


def learned_world(config: Any, system: System, results: Results, halt: Halt | None = None) -> World:
    """The world made of the finished models."""
    termination = system.task.termination
    if config.iterations == 0:
        return EnsembleWorld(results["dynamics"], results["reward"], halt, termination)
    return DyDiffWorld(
        results["dynamics"], results["reward"], results["world_model"], results.get("inverse"), halt, termination,
        config.schedule, config.churn, config.iterations, config.mix, config.strength, config.final_actions,
    )  # fmt: skip


def single_step_stages(config: Any) -> list[Stage]:
    """The dynamics ensemble, whose learning rate decays over the stage, and the reward model."""
    dynamics = dataclasses.replace(config.dynamics, decay_steps=config.dynamics_steps)
    return [
        model_stage("dynamics", dynamics, config.dynamics_steps, lambda data: data.split),
        model_stage("reward", config.reward, config.reward_steps, lambda data: data.split),
    ]


def inverse_stage(config: Any) -> Stage:
    """The inverse dynamics model."""
    return model_stage("inverse", config.inverse, config.inverse_steps, lambda data: data.transitions)


def world_model_stage(config: Any) -> Stage:
    """The trajectory diffusion model; its learning rate decays over the stage."""
    require_horizon(config.horizon, len(config.world_model.multipliers))
    optimizer = dataclasses.replace(config.world_model.optimizer, decay_steps=config.world_model_steps)
    training = dataclasses.replace(config.world_model, optimizer=optimizer)
    return model_stage("world_model", training, config.world_model_steps, lambda data: data.windows)


def model_stage(name: str, training: Any, steps: int, data_of: Any) -> Stage:
    """A model's own init, update and finish as a stage."""

    def init(data: Any, results: Results, *, key: PRNGKeyArray):
        return training.init(data_of(data), key=key)

    def update(state: Any, data: Any, results: Results, *, step: Int[Array, ""], key: PRNGKeyArray):
        return training.update(state, data_of(data), step=step, key=key)

    done = getattr(training, "done", None)
    return Stage(
        name, steps, init, update, done=done, finish=lambda state, data, results: training.finish(state)
    )


def policy_stage(config: Any, system: System, world_of: Any) -> Stage:
    """The learner, fed by the world that `world_of(data, results)` gives."""
    dydiff = DyDiff(
        paced(config.learner, config.steps), config.rollouts, config.horizon, config.keep_share, config.filter,
        config.real_share, config.capacity, config.batch_size,
    )  # fmt: skip

    def init(data: DyDiffData, results: Results, *, key: PRNGKeyArray):
        return dydiff.init(system.spec(data.transitions), key=key)

    def begin_epoch(state, data: DyDiffData, results: Results, *, step: Int[Array, ""], key: PRNGKeyArray):
        return dydiff.begin_epoch(state, data.transitions, world_of(data, results), key=key)

    def update(state, data: DyDiffData, results: Results, *, step: Int[Array, ""], key: PRNGKeyArray):
        return dydiff.update(state, data.transitions, step=step, key=key)

    return Stage(
        "policy", config.steps, init, update, epoch_steps=config.epoch_steps, begin_epoch=begin_epoch,
        policy=lambda state, results: dydiff.policy(state),
    )  # fmt: skip
