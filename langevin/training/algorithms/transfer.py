"""Learning from two systems: much data of a source, little of the target that the policy is for.

Fine-tuning learns from the source and then goes on on the target; DARA learns from both at once, the source's rewards
less what the target's dynamics would not allow.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from langevin.data.preparation import best_episodes
from langevin.data.sampling import Transitions, sample_transitions, transitions_of
from langevin.data.trajectories import Trajectories
from langevin.dynamics.dara import DARA, DARAState
from langevin.training.algorithms import offline
from langevin.training.algorithms.pace import paced
from langevin.training.algorithms.system import Results, System
from langevin.training.stage import Stage


@dataclass(frozen=True)
class FineTuneConfig:
    """Settings of fine-tuning, beside the learner's."""

    finetune_steps: int = 10_000
    """Gradient steps on the target's data, after those on the source's (off-dynamics planner, Table I: 10,000)."""


@dataclass(frozen=True)
class DARAConfig:
    """Settings of DARA, beside the learner's."""

    domain_steps: int = 10_000
    """Gradient steps of the classifiers."""
    dara: DARA = DARA()


def with_transfer(config_class: type, transfer_class: type) -> type:
    """A learner's settings with those of a transfer."""
    fields = [
        (field.name, field.type, dataclasses.field(default=field.default))
        for field in dataclasses.fields(transfer_class)
    ]
    name = f"{transfer_class.__name__.removesuffix('Config')}{config_class.__name__}"
    return dataclasses.make_dataclass(name, fields, bases=(config_class,), frozen=True)


class TransferData(eqx.Module):
    """What is drawn from of both systems: a learner's transitions, a planner's windows."""

    source: Any
    target: Any


def prepare(config: Any, source: Trajectories, target: Trajectories) -> TransferData:
    """Both datasets on the device, rewards by the source's scale alone: a value of one means the same in the other."""
    source, target = (best_episodes(data, config.best_share) for data in (source, target))
    scale = config.rewards.scale(source)
    return TransferData(*(transitions_of(config.rewards.apply(data, scale)) for data in (source, target)))


def prepare_both(prepare: Callable[[Any, Trajectories], Any]) -> Callable[..., TransferData]:
    """How an algorithm prepares a source and a target, each as it does its only dataset."""
    return lambda config, source, target: TransferData(prepare(config, source), prepare(config, target))


def finetune_stages(config: Any, system: System) -> list[Stage]:
    """Two stages: "source", and "policy" on the target from where that one ended, its scales kept.

    A learning rate that falls falls over both: over the first alone it would end at 0, and the second teach nothing.
    """
    learner = paced(config.learner, config.steps + config.finetune_steps)
    return finetuned(offline.policy_stage(config, system, learner), config.finetune_steps)


def finetuned(before: Stage, steps: int) -> list[Stage]:
    """A stage on the source, and so many updates more of it on the target, from where that one ended."""

    def init(data: TransferData, results: Results, *, key: PRNGKeyArray):
        return before.init(data.source, results, key=key)

    def learn(state, data: TransferData, results: Results, *, step: Int[Array, ""], key: PRNGKeyArray):
        return before.update(state, data.source, results, step=step, key=key)

    def go_on(state, data: TransferData, results: Results, *, step: Int[Array, ""], key: PRNGKeyArray):
        return before.update(state, data.target, results, step=before.steps + step, key=key)

    return [
        Stage("source", before.steps, init, learn, policy=before.policy),
        Stage("policy", steps, lambda data, results, *, key: results["source"], go_on, policy=before.policy),
    ]


def dara_stages(config: Any, system: System) -> list[Stage]:
    """Two stages: "domain", the classifiers, and "policy" on all transitions alike."""
    learner, dara = paced(config.learner, config.steps), config.dara

    def init_domain(data: TransferData, results: Results, *, key: PRNGKeyArray) -> DARAState:
        return dara.init(data.source, data.target, key=key)

    def learn_domain(state, data: TransferData, results: Results, *, step: Int[Array, ""], key: PRNGKeyArray):
        return dara.update(state, data.source, data.target, step=step, key=key)

    def init(data: TransferData, results: Results, *, key: PRNGKeyArray):
        return learner.init(system.spec(data.source), key=key)

    def update(state, data: TransferData, results: Results, *, step: Int[Array, ""], key: PRNGKeyArray):
        batch_key, update_key = jax.random.split(key)
        batch = augmented_batch(data, dara, results["domain"], config.batch_size, key=batch_key)
        return learner.update(state, batch, step=step, key=update_key)

    return [
        Stage("domain", config.domain_steps, init_domain, learn_domain),
        Stage("policy", config.steps, init, update, policy=lambda state, results: learner.policy(state)),
    ]


def augmented_batch(
    data: TransferData, dara: DARA, classifiers: DARAState, batch_size: int, *, key: PRNGKeyArray
) -> Transitions:
    """Rows of both datasets, every row equally likely; those of the source with the augmented reward."""
    source_key, target_key, choice_key = jax.random.split(key, 3)
    source = sample_transitions(data.source, batch_size, key=source_key)
    charged = eqx.tree_at(lambda rows: rows.rewards, source, dara.rewards(classifiers, source))
    target = sample_transitions(data.target, batch_size, key=target_key)
    share = data.target.size / (data.source.size + data.target.size)
    of_target = jax.random.bernoulli(choice_key, share, (batch_size,))

    def pick(ours: Array, theirs: Array) -> Array:
        return jnp.where(of_target.reshape(-1, *[1] * (ours.ndim - 1)), theirs, ours)

    return jax.tree.map(pick, charged, target)
