"""Worlds that are worse than what the ensemble believes where the ensemble is in doubt.

MOPO takes the doubt off the reward; MOReL ends the episode where the doubt is too great. Both make the imagined
return of a policy a lower bound of its true one, as far as the measure of doubt can be trusted.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from langevin.data.sampling import Transitions
from langevin.dynamics.ensemble import DynamicsModel, replay, rollout
from langevin.dynamics.reward import RewardModel
from langevin.dynamics.uncertainty import disagreement, largest_disagreement, largest_std
from langevin.imagination.worlds import (
    DynamicsWorld,
    EnsembleWorld,
    Imagined,
    Termination,
    acting,
    imagined,
)
from langevin.policies.base import Policy


class PenalisedWorld(DynamicsWorld):
    """Next states drawn from the Gaussian of a random elite, rewards less a multiple of the ensemble's doubt.

    penalty: lambda of MOPO (Yu et al. 2020), in reward units for each unit of `largest_std`; None leaves the rewards as
    they are, which is COMBO's world.
    """

    dynamics: DynamicsModel
    reward: RewardModel
    termination: Termination
    penalty: float | Float[Array, ""] | None

    def imagine(
        self, policy: Policy, starts: Float[Array, "rollouts observation"], horizon: int, *, key: PRNGKeyArray
    ) -> Imagined:
        """Roll out by samples; r - lambda max_i ||std_i(s, a)|| (MOPO, Section 4.3)."""
        observations, actions = rollout(acting(policy), self.dynamics, starts, horizon, key=key, sample=True)
        found = imagined(self.reward, self.termination, observations, actions)
        if self.penalty is None:
            return found
        doubt = along(largest_std, self.dynamics, observations, actions)
        return eqx.tree_at(lambda f: f.rewards, found, found.rewards - self.penalty * doubt)

    def replay(
        self,
        starts: Float[Array, "rollouts observation"],
        actions: Float[Array, "rollouts horizon action"],
        *,
        key: PRNGKeyArray,
    ) -> Imagined:
        """Samples of random elites under given actions."""
        observations = replay(self.dynamics, starts, actions[:, :-1], key=key, sample=True)
        return imagined(self.reward, self.termination, observations, actions)


class Unknown(eqx.Module):
    """Where MOReL's pessimistic MDP ends: a transition whose `disagreement` exceeds the threshold leads to HALT."""

    threshold: Float[Array, ""]
    """In the units of an observation."""
    reward: Float[Array, ""]
    """Paid, once, by the transition to HALT, in reward units."""


def fit_unknown(
    dynamics: DynamicsModel, transitions: Transitions, pessimism: float, offset: float
) -> Unknown:
    """Threshold: the largest disagreement on the data, divided by `pessimism` (a share of it, as in the authors' code).
    Reward of HALT: the least of the data, less `offset`."""
    threshold = largest_disagreement(dynamics, transitions) / pessimism
    return Unknown(threshold, transitions.rewards.min() - offset)


class HaltingWorld(DynamicsWorld):
    """MOReL's pessimistic MDP (Kidambi et al. 2020): next states are the mean of a random
    elite; where the members disagree too much, the episode is over."""

    dynamics: DynamicsModel
    reward: RewardModel
    unknown: Unknown
    termination: Termination

    def imagine(
        self, policy: Policy, starts: Float[Array, "rollouts observation"], horizon: int, *, key: PRNGKeyArray
    ) -> Imagined:
        """Roll out, and halt at the first unknown state and action."""
        observations, actions = rollout(acting(policy), self.dynamics, starts, horizon, key=key)
        found = imagined(self.reward, self.termination, observations, actions)
        unknown = along(disagreement, self.dynamics, observations, actions) > self.unknown.threshold
        rewards = jnp.where(unknown, self.unknown.reward, found.rewards)
        return Imagined(observations, actions, rewards, found.terminations | unknown)

    def replay(
        self,
        starts: Float[Array, "rollouts observation"],
        actions: Float[Array, "rollouts horizon action"],
        *,
        key: PRNGKeyArray,
    ) -> Imagined:
        """The means of random elites under given actions."""
        return EnsembleWorld(self.dynamics, self.reward, None, self.termination).replay(
            starts, actions, key=key
        )


def along(
    measure: Callable[[DynamicsModel, Array, Array], Float[Array, " rollouts"]],
    dynamics: DynamicsModel,
    observations: Float[Array, "rollouts horizon observation"],
    actions: Float[Array, "rollouts horizon action"],
) -> Float[Array, "rollouts transitions"]:
    """The measure at every transition, one step of all rollouts after the other."""
    steps = tuple(jnp.moveaxis(leaf[:, :-1], 1, 0) for leaf in (observations, actions))
    return jax.lax.map(lambda step: measure(dynamics, *step), steps).T
