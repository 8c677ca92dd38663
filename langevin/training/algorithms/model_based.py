"""What the model-based methods share: the models' stages, and the stage of a learner that imagines."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
from jaxtyping import Array, Int, PRNGKeyArray

from langevin.data.sampling import Transitions, transitions_of
from langevin.data.trajectories import Trajectories
from langevin.dynamics.ensemble_training import EnsembleTraining
from langevin.dynamics.reward import RewardTraining
from langevin.dynamics.split import SplitTransitions, split_transitions
from langevin.dynamics.termination import TerminationTraining
from langevin.imagination.branched import BranchedRollouts
from langevin.imagination.dydiff import DyDiff
from langevin.imagination.worlds import EnsembleWorld, Termination, World
from langevin.policies.base import Learner
from langevin.training.algorithms.pace import paced
from langevin.training.algorithms.system import Results, System
from langevin.training.stage import Stage


@dataclass(frozen=True, kw_only=True)
class BranchedConfig:
    """Settings of a learner on branched rollouts: MOPO's, COMBO's and MOReL's, which add their own."""

    steps: int
    """Gradient steps of the learner."""
    dynamics_steps: int
    """At most this many updates of the ensemble; early stopping may end it before."""
    reward_steps: int
    """Updates of the reward model."""
    epoch_steps: int
    """Gradient steps between two rounds of rollouts."""
    rollouts: int
    """Rollouts a round (b)."""
    rollout_steps: int
    """Transitions of a rollout (h)."""
    epochs_kept: int
    """Rounds whose rows the synthetic buffer holds."""
    real_share: float
    """Share of real rows in a batch."""
    batch_size: int = 256
    """Transitions a gradient step."""
    dynamics: EnsembleTraining = EnsembleTraining()
    reward: RewardTraining = RewardTraining()

    def branched(self, learner: Learner) -> BranchedRollouts:
        """The learner on rollouts of these settings."""
        return BranchedRollouts(
            learner, self.rollouts, self.rollout_steps, self.epochs_kept, self.real_share, self.batch_size
        )


class ModelData(eqx.Module):
    """What the stages draw from."""

    transitions: Transitions
    split: SplitTransitions


def prepare(config: Any, trajectories: Trajectories) -> ModelData:
    """Transitions, and their split into training and held-out rows."""
    return ModelData(transitions_of(trajectories), split_transitions(trajectories))


def single_step_stages(config: Any, system: System) -> list[Stage]:
    """The dynamics ensemble, the reward model and, for a system without a rule, a model of when episodes end."""
    return [
        dynamics_stage(config.dynamics, config.dynamics_steps),
        reward_stage(config.reward, config.reward_steps),
        *ending_stages(system, config.reward_steps),
    ]


def dynamics_stage(training: EnsembleTraining, steps: int) -> Stage:
    """The dynamics ensemble, its learning rate falling over the stage if it does not say otherwise."""
    return model_stage("dynamics", paced(training, steps), steps, lambda data: data.split)


def reward_stage(training: RewardTraining, steps: int) -> Stage:
    """The reward model."""
    return model_stage("reward", training, steps, lambda data: data.split)


def ending_stages(system: System, steps: int) -> list[Stage]:
    """The model of when episodes end, where the task has no rule of it."""
    stage = model_stage("termination", TerminationTraining(), steps, lambda data: data.split)
    return [stage] if system.learns_endings else []


def termination_of(system: System, results: Results) -> Termination:
    """When an imagined episode ends: by the task's rule, or as was learned where it has none."""
    return results["termination"] if system.learns_endings else system.task.termination


def diffusion_stage(config: Any, data_of: Any) -> Stage:
    """A diffusion model as the stage "world_model"; its learning rate decays over the stage."""
    optimizer = paced(config.world_model.optimizer, config.world_model_steps)
    training = dataclasses.replace(config.world_model, optimizer=optimizer)
    return model_stage("world_model", training, config.world_model_steps, data_of)


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


def ensemble_world(config: Any, system: System, results: Results) -> EnsembleWorld:
    """The finished single-step models as they are: no penalty, no halting."""
    return EnsembleWorld(results["dynamics"], results["reward"], None, termination_of(system, results))


def imagining_stage(
    imagining: DyDiff | BranchedRollouts,
    config: Any,
    system: System,
    world_of: Callable[[Any, Results], World],
    learner_of: Callable[[Learner, Any], Learner] = lambda learner, data: learner,
) -> Stage:
    """The stage "policy": `config.steps` updates, rollouts in `world_of(data, results)` every `epoch_steps`.

    `learner_of(learner, data)` is what takes the updates: the learner, or one that sees the data's rewards rescaled.
    """

    def init(data: Any, results: Results, *, key: PRNGKeyArray):
        return imagining.init(system.spec(data.transitions), key=key)

    def begin_epoch(state, data: Any, results: Results, *, step: Int[Array, ""], key: PRNGKeyArray):
        return imagining.begin_epoch(state, data.transitions, world_of(data, results), key=key)

    def update(state, data: Any, results: Results, *, step: Int[Array, ""], key: PRNGKeyArray):
        taught = eqx.tree_at(lambda i: i.learner, imagining, learner_of(imagining.learner, data))
        return taught.update(state, data.transitions, step=step, key=key)

    return Stage(
        "policy", config.steps, init, update, epoch_steps=config.epoch_steps, begin_epoch=begin_epoch,
        policy=lambda state, results: imagining.policy(state),
    )  # fmt: skip
