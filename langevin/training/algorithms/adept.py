"""ADEPT end to end: the diffusion world model, who made the data, then the learner in a world that follows it."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from langevin.data.preparation import RewardScaling
from langevin.data.sampling import Transitions, sample_transitions, transitions_of
from langevin.data.trajectories import Trajectories
from langevin.dynamics.split import SplitTransitions, split_transitions
from langevin.dynamics.step_diffusion import StepDiffusionState, StepDiffusionTraining, one_step_errors
from langevin.imagination.adept import ADEPT, StepDiffusionWorld
from langevin.imagination.buffer import RealShare
from langevin.imagination.importance import BORROWED_STD
from langevin.imagination.rewards import RescaledRewards
from langevin.policies.base import Learner, Policy
from langevin.policies.bc import BC
from langevin.policies.gaussian import GaussianPolicy, SquashedGaussianActor
from langevin.training.algorithms.pace import paced
from langevin.training.algorithms.single_step import reward_factor
from langevin.training.algorithms.system import Results, System
from langevin.training.stage import Stage

COLLAPSED = 0.05
"""Share of effective rows below which a refit rests on too few of them to be trusted."""
COLLAPSE = (
    "the policy acts unlike the data, and the world model is refitted to a few rows and forgets the others; set "
    "least_share=0.25 or importance_sampling=false"
)
"""What that means, and what to do."""
MEASURED_ROWS = 1_000
MEASURE_EVERY = 1_000


@dataclass(frozen=True, kw_only=True)
class ADEPTConfig:
    """Settings of ADEPT; `with_learner` (offline.py) adds the base learner's."""

    steps: int
    """Gradient steps of the learner: as many as its base is compared at."""
    world_model_steps: int
    """Updates of the world model before the policy's first."""
    behaviour_steps: int
    """Updates of the clone of who made the data (pi_D)."""
    epoch_steps: int
    """Gradient steps between two rounds of refit and rollouts."""
    rollouts: int
    """Rollouts a round."""
    rollout_steps: int
    """At most so many transitions of a rollout (H)."""
    capacity: int
    """Rows of the synthetic buffer."""
    real_share: RealShare
    """Share of real rows in a batch; 1 is the base learner alone, "union" as many as dataset and buffer have."""
    refit_steps: int
    """Gradient steps of the world model a round; 0 leaves it as it was first trained."""
    refit_batch_size: int
    """Transitions of each of them (B_m)."""
    importance_sampling: bool = True
    """Whether a refit weighs transitions by how likely the policy is to make them."""
    least_weight: float = 0.01
    """A weight is at least this, before all are divided by their mean."""
    most_weight: float = 100.0
    """A weight is at most this, before all are divided by their mean."""
    least_share: float = 0.0
    """Effective share of a refit's batch below which its weights are evened out; 0 leaves them as they are."""
    batch_size: int = 256
    """Transitions a gradient step."""
    world_model: StepDiffusionTraining = StepDiffusionTraining()
    behaviour: BC = BC(gaussian=True)
    rewards: RewardScaling = RewardScaling()

    @property
    def weighs(self) -> bool:
        """Whether anything is weighted, so that pi_D must be known."""
        return self.importance_sampling and self.refit_steps > 0


class ADEPTData(eqx.Module):
    """What the stages draw from, in the environment's reward units, and the scale that the learner takes them in."""

    transitions: Transitions
    split: SplitTransitions
    reward_factor: Float[Array, ""]


def prepare(config: Any, trajectories: Trajectories) -> ADEPTData:
    """Transitions, and their split into training and held-out rows."""
    return ADEPTData(
        transitions_of(trajectories),
        split_transitions(trajectories),
        reward_factor(config, trajectories),
    )


def stages(config: Any, system: System) -> list[Stage]:
    """Algorithm 1's initialisation in two stages, then its loop."""
    behaviour = [behaviour_stage(config, system)] if config.weighs else []
    return [world_model_stage(config), *behaviour, policy_stage(config, system)]


def world_model_stage(config: Any) -> Stage:
    """IWU(pi_D, D); its optimiser goes on with the policy, so the state is kept whole."""
    training: StepDiffusionTraining = config.world_model

    def init(data: ADEPTData, results: Results, *, key: PRNGKeyArray):
        return training.init(data.split.training, key=key)

    def update(state, data: ADEPTData, results: Results, *, step: Int[Array, ""], key: PRNGKeyArray):
        return training.update(state, data.split.training, step=step, key=key)

    def measure(state, data: ADEPTData, results: Results, *, step: Int[Array, ""], key: PRNGKeyArray):
        return state, held_out_errors(training, state, data, key=key)

    return Stage(
        "world_model", config.world_model_steps, init, update, epoch_steps=MEASURE_EVERY, begin_epoch=measure
    )


def held_out_errors(
    training: StepDiffusionTraining, state: StepDiffusionState, data: ADEPTData, *, key: PRNGKeyArray
) -> dict[str, Float[Array, ""]]:
    """The world model's one-step errors on rows that it was not trained on."""
    rows_key, sample_key = jax.random.split(key)
    rows = sample_transitions(data.split.held_out, MEASURED_ROWS, key=rows_key)
    return one_step_errors(training.model(state), rows, key=sample_key)


def behaviour_stage(config: Any, system: System) -> Stage:
    """pi_D: a clone of the data with a density of the same form as the policy's.

    A squashed Gaussian's density grows without bound towards the action bounds, one with a bounded mean stays finite:
    the ratio of the two would say more about where an action lies than about who would take it. Of one form, what
    the squashing does to either cancels.
    """
    clone: BC = dataclasses.replace(config.behaviour, squashed=is_squashed(config.learner, system))

    def init(data: ADEPTData, results: Results, *, key: PRNGKeyArray):
        return clone.init(system.spec(data.transitions), key=key)

    def update(state, data: ADEPTData, results: Results, *, step: Int[Array, ""], key: PRNGKeyArray):
        batch_key, update_key = jax.random.split(key)
        batch = sample_transitions(data.transitions, config.batch_size, key=batch_key)
        state, metrics = clone.update(state, batch, step=step, key=update_key)
        return state, {"behaviour/loss": metrics["actor/loss"]}

    return Stage(
        "behaviour",
        config.behaviour_steps,
        init,
        update,
        finish=lambda state, data, results: clone.policy(state),
    )


def is_squashed(learner: Learner, system: System) -> bool:
    """Whether the learner's policy has the density of a squashed Gaussian."""
    spec = system.spec(transitions_of(system.blank_data(2)))

    def first_policy(key: PRNGKeyArray) -> Policy:
        return learner.policy(learner.init(spec, key=key))

    policy = eqx.filter_eval_shape(first_policy, jax.random.key(0))
    return isinstance(policy, GaussianPolicy) and isinstance(policy.actor, SquashedGaussianActor)


def adept_of(config: Any) -> ADEPT:
    """The learner in its world, by these settings."""
    return ADEPT(
        paced(config.learner, config.steps), config.world_model, config.rollouts, config.rollout_steps,
        config.capacity, config.real_share, config.batch_size, config.refit_steps, config.refit_batch_size,
        config.importance_sampling, config.least_weight, config.most_weight, config.least_share,
    )  # fmt: skip


def policy_stage(config: Any, system: System) -> Stage:
    """Algorithm 1's loop: `config.steps` updates, refit and rollouts every `epoch_steps`."""
    adept = adept_of(config)

    def init(data: ADEPTData, results: Results, *, key: PRNGKeyArray):
        return adept.init(system.spec(data.transitions), results["world_model"], key=key)

    def begin_epoch(state, data: ADEPTData, results: Results, *, step: Int[Array, ""], key: PRNGKeyArray):
        epoch_key, measure_key = jax.random.split(key)
        state, metrics = adept.begin_epoch(
            state, data.transitions, data.split.training, results.get("behaviour"), step=step, key=epoch_key
        )
        return state, metrics | held_out_errors(adept.world, state.world, data, key=measure_key)

    def update(state, data: ADEPTData, results: Results, *, step: Int[Array, ""], key: PRNGKeyArray):
        taught = RescaledRewards(adept.learner, data.reward_factor, config.rewards.shift)
        loop = eqx.tree_at(lambda adept: adept.learner, adept, taught)
        return loop.update(state, data.transitions, step=step, key=key)

    return Stage(
        "policy", config.steps, init, update, epoch_steps=config.epoch_steps, begin_epoch=begin_epoch,
        policy=lambda state, results: adept.policy(state),
    )  # fmt: skip


def learned_world(config: Any, system: System, results: Results) -> StepDiffusionWorld:
    """The world model as its last refit left it."""
    return StepDiffusionWorld(config.world_model.model(results["policy"].world))


def warning(record: Mapping[str, Any]) -> str | None:
    """What a person should know while the run goes on: that importance weights have collapsed."""
    share = record.get("importance/effective_share")
    if share is None or share >= COLLAPSED:
        return None
    return (
        f"seed {record['seed']}, step {record['step']:,}: the importance weights have collapsed (effective sample "
        f"size {share:.1%} of the batch): {COLLAPSE}. Said once; metrics.jsonl has importance/effective_share"
    )


def remarks(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a person must know of a run's importance weights: that they collapsed, that the density was borrowed."""
    refits = [record for record in records if "importance/effective_share" in record]
    shares = [record["importance/effective_share"] for record in refits]
    found = []
    collapsed = sum(share < COLLAPSED for share in shares)
    if collapsed:
        found.append(
            f"the importance weights collapsed in {collapsed} of {len(shares)} rounds (effective sample size down to "
            f"{min(shares):.1%} of the batch): {COLLAPSE}"
        )
    if any(record["importance/borrowed_density"] for record in refits):
        found.append(
            "the learner's policy has no density; importance weights took it as a Gaussian of standard deviation "
            f"{BORROWED_STD} (share of the half-range) around its action"
        )
    return found
