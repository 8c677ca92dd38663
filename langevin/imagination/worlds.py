"""Where imagined experience comes from: a world rolls a policy out from given states.

The ensemble steps one transition at a time; DyDiff (Zhao et al. 2024) corrects its whole trajectories with a
diffusion model. Both answer `imagine`, so a learner's loop does not know which one it is fed by.
"""

import abc
from collections.abc import Callable
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from langevin.dynamics.ensemble import DynamicsModel, replay, rollout
from langevin.dynamics.inverse import InverseModel
from langevin.dynamics.reward import RewardModel
from langevin.dynamics.support import Support
from langevin.imagination.halting import Halt
from langevin.imagination.refinement import Refinement
from langevin.imagination.trajectory_model import TrajectoryModel
from langevin.policies.base import Policy

Termination = Callable[[Array, Array, Array], Bool[Array, "..."]]


MOST_STATES_AT_ONCE = 50_000
"""States that a policy is asked about in one go."""


class Steps(eqx.Module):
    """Transitions that stand alone: where each of them leads, and whether it starts where anything is known and before
    the system ended the trajectory."""

    successors: Float[Array, "rollouts transitions observation"]
    known: Bool[Array, "rollouts transitions"]


class Imagined(eqx.Module):
    """Imagined trajectories of `horizon` states, raw units. Transition t starts in state t and leads to state t + 1,
    or, where `steps` are given, to its own successor.

    valid: transitions up to and including the first predicted terminal; of those that stand alone the known ones.
    """

    observations: Float[Array, "rollouts horizon observation"]
    actions: Float[Array, "rollouts horizon action"]
    rewards: Float[Array, "rollouts transitions"]
    terminations: Bool[Array, "rollouts transitions"]
    steps: Steps | None = None

    @property
    def next_observations(self) -> Float[Array, "rollouts transitions observation"]:
        """Where the transitions lead to."""
        return self.observations[:, 1:] if self.steps is None else self.steps.successors

    @property
    def valid(self) -> Bool[Array, "rollouts transitions"]:
        """Whether a transition counts."""
        if self.steps is not None:
            return self.steps.known
        ended_before = jnp.cumsum(self.terminations, axis=1) - self.terminations
        return ended_before == 0

    @property
    def scores(self) -> Float[Array, " rollouts"]:
        """Sum of the valid rewards: up to the first terminal (DyDiff, Section 4.3)."""
        return jnp.where(self.valid, self.rewards, 0.0).sum(axis=1)


class World(eqx.Module):
    """Something a policy can be rolled out in."""

    @abc.abstractmethod
    def imagine(
        self, policy: Policy, starts: Float[Array, "rollouts observation"], horizon: int, *, key: PRNGKeyArray
    ) -> Imagined:
        """Trajectories of `horizon` states of the policy from the given start states."""


class DynamicsWorld(World):
    """A world that answers any actions, and so can be held against the simulator under the same ones."""

    @abc.abstractmethod
    def replay(
        self,
        starts: Float[Array, "rollouts observation"],
        actions: Float[Array, "rollouts horizon action"],
        *,
        key: PRNGKeyArray,
    ) -> Imagined:
        """What the world believes that given actions lead to, whatever is done about it (no penalty, no halting).

        The last action of a rollout is not answered, as in `imagine`.
        """


class EnsembleWorld(DynamicsWorld):
    """Single-step rollouts in the learned ensemble: DyDiff with M = 0."""

    dynamics: DynamicsModel
    reward: RewardModel
    halt: Halt | None
    termination: Termination

    def imagine(
        self, policy: Policy, starts: Float[Array, "rollouts observation"], horizon: int, *, key: PRNGKeyArray
    ) -> Imagined:
        """The predicted mean of a random elite at every step."""
        observations, actions = rollout(acting(policy), self.dynamics, starts, horizon, key=key)
        found = imagined(self.reward, self.termination, observations, actions)
        return halted(found, self.halt, [observations])

    def replay(
        self,
        starts: Float[Array, "rollouts observation"],
        actions: Float[Array, "rollouts horizon action"],
        *,
        key: PRNGKeyArray,
    ) -> Imagined:
        """The predicted mean of a random elite at every step."""
        observations = replay(self.dynamics, starts, actions[:, :-1], key=key)
        return imagined(self.reward, self.termination, observations, actions)


class DyDiffWorld(DynamicsWorld):
    """Ensemble rollouts whose states a trajectory diffusion model corrects (DyDiff, Algorithm 1).

    iterations: M, how often states are refined and actions chosen anew. mix: share of the new states against the
    previous ones (1 in the paper, 0.5 in the authors' code). strength: how much the refinement obeys the actions,
    0 (the paper's form) to 1. final_actions: "policy" (the paper: what the policy would do in the refined states)
    or "inverse" (what an inverse dynamics model says leads along the refined states, so that state, action and
    next state belong together even where the policy asked for the impossible). halt: where either the ensemble's
    rollout or its refinement leaves the data, the trajectory ends; no refinement can make possible what the policy
    asked for there. edge: what the rollouts that are refined keep to, as a ball that meets a wall: a state beyond it
    is drawn back. refinement: how states are corrected.
    """

    dynamics: DynamicsModel
    reward: RewardModel
    refiner: TrajectoryModel
    inverse: InverseModel | None
    halt: Halt | None
    edge: Support | None
    termination: Termination
    refinement: Refinement
    iterations: int = eqx.field(static=True)
    mix: float = eqx.field(static=True)
    strength: float = eqx.field(static=True)
    final_actions: Literal["policy", "inverse"] = eqx.field(static=True)

    def imagine(
        self, policy: Policy, starts: Float[Array, "rollouts observation"], horizon: int, *, key: PRNGKeyArray
    ) -> Imagined:
        """Roll out in the ensemble, then refine `iterations` times."""
        act = acting(policy)
        rollout_key, *refine_keys = jax.random.split(key, 1 + 2 * self.iterations)
        observations, actions = rollout(act, self.dynamics, starts, horizon, key=rollout_key, edge=self.edge)
        unrefined = observations
        for sample_key, act_key in zip(refine_keys[::2], refine_keys[1::2], strict=True):
            refined = self.refine(observations, actions, key=sample_key)
            observations = self.mix * refined + (1 - self.mix) * observations
            actions = act_along(act, observations, key=act_key)
        if self.final_actions == "inverse" and self.iterations > 0:
            actions = self.explain(observations, actions)
        found = imagined(self.reward, self.termination, observations, actions)
        return halted(found, self.halt, [unrefined, observations])

    def replay(
        self,
        starts: Float[Array, "rollouts observation"],
        actions: Float[Array, "rollouts horizon action"],
        *,
        key: PRNGKeyArray,
    ) -> Imagined:
        """The ensemble's rollout under the actions, refined once."""
        replay_key, sample_key = jax.random.split(key)
        observations = replay(self.dynamics, starts, actions[:, :-1], key=replay_key, edge=self.edge)
        refined = self.refine(observations, actions, key=sample_key)
        return imagined(self.reward, self.termination, refined, actions)

    def refine(
        self,
        observations: Float[Array, "rollouts horizon observation"],
        actions: Float[Array, "rollouts horizon action"],
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, "rollouts horizon observation"]:
        """The rollouts' states, corrected under their actions."""

        def one(observations, actions, key):
            return self.refiner.refine(observations, actions, self.refinement, self.strength, key=key)

        return jax.vmap(one)(observations, actions, jax.random.split(key, len(observations)))

    def explain(
        self,
        observations: Float[Array, "rollouts horizon observation"],
        actions: Float[Array, "rollouts horizon action"],
    ) -> Float[Array, "rollouts horizon action"]:
        """Actions that lead from each state to the next; the last state keeps its own."""
        assert self.inverse is not None
        explained = jax.vmap(self.inverse.predict)(observations[:, :-1], observations[:, 1:])
        return jnp.concatenate([explained, actions[:, -1:]], axis=1)


Act = Callable[..., Float[Array, "batch action"]]
"""`act(observations, key=key)` -> actions."""


def acting(policy: Policy) -> Act:
    """A feed-forward policy as a function of observations and a key."""

    def act(observations: Float[Array, "batch observation"], *, key: PRNGKeyArray):
        return policy.act(observations, policy.start(observations.shape[0]), key=key)[0]

    return act


def act_along(
    act: Act,
    observations: Float[Array, "rollouts horizon observation"],
    *,
    key: PRNGKeyArray,
) -> Float[Array, "rollouts horizon action"]:
    """The policy's actions in every state of every trajectory; of many states, one step of the horizon after another,
    for a policy that chooses among candidates holds dozens of rows for each state."""
    rollouts, horizon, size = observations.shape
    if rollouts * horizon <= MOST_STATES_AT_ONCE:
        return act(observations.reshape(-1, size), key=key).reshape(rollouts, horizon, -1)
    by_step = jnp.moveaxis(observations, 1, 0), jax.random.split(key, horizon)
    return jnp.moveaxis(jax.lax.map(lambda step: act(step[0], key=step[1]), by_step), 0, 1)


def imagined(
    reward: RewardModel,
    termination: Termination,
    observations: Float[Array, "rollouts horizon observation"],
    actions: Float[Array, "rollouts horizon action"],
) -> Imagined:
    """Predicted rewards and terminals of given states and actions."""
    rollouts, horizon, size = observations.shape
    before = observations[:, :-1].reshape(-1, size)
    after = observations[:, 1:].reshape(-1, size)
    taken = actions[:, :-1].reshape(rollouts * (horizon - 1), -1)
    shape = (rollouts, horizon - 1)
    rewards = reward.predict(before, taken).reshape(shape)
    return Imagined(observations, actions, rewards, termination(before, taken, after).reshape(shape))


def halted(
    found: Imagined, halt: Halt | None, trajectories: list[Float[Array, "rollouts horizon observation"]]
) -> Imagined:
    """The trajectories, ended at the first transition by which any of the given ones leaves the data."""
    if halt is None:
        return found
    left = jnp.stack([halt.left(observations) for observations in trajectories]).any(axis=0)
    rewards = jnp.where(left, halt.reward, found.rewards)
    return Imagined(found.observations, found.actions, rewards, found.terminations | left)
