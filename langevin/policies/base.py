"""The two interfaces everything fits: a Learner makes a Policy, a Policy acts."""

import abc
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from langevin.data.normalize import GaussianNormalizer
from langevin.data.sampling import Transitions
from langevin.errors import NoDensityError

Metrics = dict[str, Float[Array, ""]]


class SystemSpec(eqx.Module):
    """What a learner must know of a system before it sees a batch.

    Sizes are numbers of dimensions; action bounds are in the environment's units; the normaliser z-scores
    observations by the dataset's statistics and is kept in every checkpoint.
    """

    observation_size: int = eqx.field(static=True)
    action_size: int = eqx.field(static=True)
    action_low: Float[Array, " action"]
    action_high: Float[Array, " action"]
    observation_normalizer: GaussianNormalizer


class Policy(eqx.Module):
    """Chooses actions for a batch of systems at once. Raw observations in, raw actions out."""

    @abc.abstractmethod
    def start(self, batch_size: int) -> Any:
        """The memory at the start of an episode (a planner's plan; None for a feed-forward policy)."""

    @abc.abstractmethod
    def act(
        self, observations: Float[Array, "batch observation"], memory: Any, *, key: PRNGKeyArray
    ) -> tuple[Float[Array, "batch action"], Any]:
        """Actions for the current observations, and the memory to hand in at the next step."""

    def observe(self, memory: Any, rewards: Float[Array, " batch"]) -> Any:
        """The memory after the rewards that the last actions really earned, in reward units.

        Does nothing here: what to do next follows from observations for nearly every policy. One that was commanded a
        return must take off what it has earned, and one that reads past transitions must know their rewards; a policy
        in a world without rewards, or that is not told of them, acts all the same.
        """
        return memory

    def greedy(self) -> "Policy":
        """The policy to be judged by: the mode of a stochastic one, a deterministic one as it is."""
        return self

    def log_prob(
        self, observations: Float[Array, "batch observation"], actions: Float[Array, "batch action"]
    ) -> Float[Array, " batch"]:
        """Log density of raw actions. Raises NoDensityError for a policy that has none."""
        raise NoDensityError(f"{type(self).__name__} has no density, so it has no log_prob")


def heeds_rewards(policy: Policy) -> bool:
    """Whether `observe` does anything, so that nothing is compiled or run where it does not."""
    return type(policy).observe is not Policy.observe


def keeps_memory(policy: Policy) -> bool:
    """Whether its action is more than a function of the current observation: a plan, a history."""
    return bool(jax.tree.leaves(jax.eval_shape(lambda: policy.start(1))))


def has_density(policy: Policy) -> bool:
    """Whether the policy knows the density of an action, as far as its class tells."""
    return type(policy).log_prob is not Policy.log_prob


class Learner(eqx.Module):
    """Learns a policy from batches of transitions: pure functions on one immutable state."""

    @abc.abstractmethod
    def init(self, spec: SystemSpec, *, key: PRNGKeyArray) -> Any:
        """A fresh state: parameters, targets, optimiser state, normaliser."""

    @abc.abstractmethod
    def update(
        self, state: Any, batch: Transitions, *, step: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[Any, Metrics]:
        """One gradient step.

        `step` counts from 0 and comes from the training loop, not from the state: it is the same for all
        seeds, so a `lax.cond` on it (a delayed update) stays a branch when seeds are vmapped.
        """

    @abc.abstractmethod
    def policy(self, state: Any) -> Policy:
        """The policy of a state."""
