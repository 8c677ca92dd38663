"""ADEPT (Fang & Lan 2024): a world model that follows the policy which learns in it.

Algorithm 1. Each epoch the diffusion world model is fitted anew to the data, each transition weighted by how likely
the policy is to make it (IWU); the policy is rolled out in the model (PE); then it takes gradient steps on batches of
real and imagined transitions, by any learner's rule.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray

from langevin.data.sampling import Transitions, sample_transitions
from langevin.dynamics.step_diffusion import StepDiffusion, StepDiffusionState, StepDiffusionTraining
from langevin.errors import UsageError, require_at_least, require_between
from langevin.imagination.buffer import (
    RealShare,
    SyntheticBuffer,
    empty_buffer,
    mixed_batch,
    require_real_share,
)
from langevin.imagination.experience import as_transitions, mean_reward
from langevin.imagination.importance import effective_share, importance_weights, log_ratios
from langevin.imagination.worlds import DynamicsWorld, Imagined, acting
from langevin.policies.base import Learner, Metrics, Policy, SystemSpec, has_density
from langevin.policies.gaussian import GaussianPolicy


class StepDiffusionWorld(DynamicsWorld):
    """Rollouts in the world model, one transition at a time (subroutine PE)."""

    model: StepDiffusion

    def imagine(
        self, policy: Policy, starts: Float[Array, "rollouts observation"], horizon: int, *, key: PRNGKeyArray
    ) -> Imagined:
        """Trajectories of `horizon` states; what comes after a predicted ending is not `valid`."""
        act = acting(policy)
        choose = lambda observations, _, key: act(observations, key=key)
        return self._driven(choose, starts, None, jax.random.split(key, horizon))

    def replay(
        self,
        starts: Float[Array, "rollouts observation"],
        actions: Float[Array, "rollouts horizon action"],
        *,
        key: PRNGKeyArray,
    ) -> Imagined:
        """Samples of the model under given actions."""
        given = jnp.moveaxis(actions, 1, 0)
        return self._driven(lambda _, given, key: given, starts, given, jax.random.split(key, len(given)))

    def _driven(
        self,
        choose: Callable[..., Float[Array, "rollouts action"]],
        starts: Float[Array, "rollouts observation"],
        given: Float[Array, "horizon rollouts action"] | None,
        keys: Key[Array, " horizon"],
    ) -> Imagined:
        """Trajectories under `choose(observations, given actions, key)`; the last action is not answered."""

        def step(observations: Array, inputs: tuple[Array | None, Array]):
            given, key = inputs
            act_key, model_key = jax.random.split(key)
            actions = choose(observations, given, act_key)
            after = self.model.next_observations(observations, actions, key=model_key)
            rewards, endings = self.model.outcomes(observations, actions, after)
            return after, (observations, actions, rewards, endings)

        given_last = None if given is None else given[-1]
        end, rows = jax.lax.scan(step, starts, (None if given is None else given[:-1], keys[:-1]))
        observations, actions, rewards, endings = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), rows)
        final = choose(end, given_last, jax.random.split(keys[-1])[0])
        return Imagined(
            jnp.concatenate([observations, end[:, None]], axis=1),
            jnp.concatenate([actions, final[:, None]], axis=1),
            rewards,
            endings,
        )


class ADEPTState(eqx.Module):
    """The learner, what it imagined, and the world model with its optimiser."""

    learner: Any
    buffer: SyntheticBuffer
    world: StepDiffusionState


class ADEPT(eqx.Module):
    """The add-on: a learner, how much it imagines, and how its world model follows it.

    rollouts: begun each epoch, each in any state of the dataset. rollout_steps: at most so many transitions of each
    (H). capacity: rows of the synthetic buffer. real_share: share of REAL rows in a batch, or "union", Algorithm 1 to
    the letter: as many as there are in dataset and buffer together. refit_steps: gradient steps of the world model
    each epoch; 0 leaves it as it was first trained. refit_batch_size: transitions of each (B_m). importance_sampling:
    whether they are weighted. least_weight, most_weight: what a weight is clipped to, before all are divided by their
    mean. least_share: the effective share of a batch below which weights are evened out (`importance_weights`).
    """

    learner: Learner
    world: StepDiffusionTraining = StepDiffusionTraining()
    rollouts: int = eqx.field(static=True, default=100)
    rollout_steps: int = eqx.field(static=True, default=10)
    capacity: int = eqx.field(static=True, default=1_000_000)
    real_share: RealShare = eqx.field(static=True, default=0.5)
    batch_size: int = eqx.field(static=True, default=256)
    refit_steps: int = eqx.field(static=True, default=1)
    refit_batch_size: int = eqx.field(static=True, default=1024)
    importance_sampling: bool = eqx.field(static=True, default=True)
    least_weight: float = eqx.field(static=True, default=0.01)
    most_weight: float = eqx.field(static=True, default=100.0)
    least_share: float = eqx.field(static=True, default=0.0)

    def __check_init__(self):
        require_at_least(
            1, rollouts=self.rollouts, rollout_steps=self.rollout_steps, batch_size=self.batch_size,
            refit_batch_size=self.refit_batch_size,
        )  # fmt: skip
        require_at_least(0, refit_steps=self.refit_steps)
        require_between(0, 1, least_share=self.least_share)
        require_real_share(self.real_share)
        if not 0 < self.least_weight <= 1 <= self.most_weight:
            raise UsageError(
                "least_weight and most_weight must enclose 1, the weight of a row that both policies would make, and "
                f"least_weight must be greater than 0; got {self.least_weight} and {self.most_weight}"
            )
        if self.capacity < self.rollouts * self.rollout_steps:
            raise UsageError(
                f"capacity must be at least the {self.rollouts * self.rollout_steps} rows that an epoch imagines, "
                f"got {self.capacity}"
            )

    def init(self, spec: SystemSpec, world: StepDiffusionState, *, key: PRNGKeyArray) -> ADEPTState:
        """A fresh learner, an empty buffer, and the world model as it was first trained."""
        buffer = empty_buffer(self.capacity, spec.observation_size, spec.action_size)
        return ADEPTState(self.learner.init(spec, key=key), buffer, world)

    def refit(
        self,
        state: ADEPTState,
        transitions: Transitions,
        behaviour: GaussianPolicy | None,
        trained: Bool[Array, ""],
        *,
        key: PRNGKeyArray,
    ) -> tuple[ADEPTState, Metrics]:
        """Subroutine IWU: gradient steps on dataset transitions, weighted by pi / pi_D (Eq. 3).

        While the policy is not `trained` it is nobody's, and weights are 1, as in the initial IWU(pi_D, D).
        """
        policy = self.policy(state)

        def weigh(batch: Transitions, key: PRNGKeyArray) -> Float[Array, " batch"]:
            if behaviour is None:
                return jnp.ones(batch.size)
            ratios = log_ratios(policy, behaviour, batch.observations, batch.actions, key=key)
            weights = importance_weights(ratios, self.least_weight, self.most_weight, self.least_share)
            return jnp.where(trained, weights, 1.0)

        def step(world: StepDiffusionState, key: PRNGKeyArray):
            batch_key, weight_key, fit_key = jax.random.split(key, 3)
            batch = sample_transitions(transitions, self.refit_batch_size, key=batch_key)
            weights = weigh(batch, weight_key)
            world, loss = self.world.fit(world, batch, weights, key=fit_key)
            return world, (loss, effective_share(weights), weights.max())

        world, found = jax.lax.scan(step, state.world, jax.random.split(key, self.refit_steps))
        losses, shares, largest = found
        metrics = {
            "world_model/refit_loss": losses.mean(),
            "importance/effective_share": shares.mean(),
            "importance/largest_weight": largest.max(),
            "importance/borrowed_density": jnp.float32(behaviour is not None and not has_density(policy)),
        }
        return ADEPTState(state.learner, state.buffer, world), metrics

    def imagine(
        self, state: ADEPTState, transitions: Transitions, *, key: PRNGKeyArray
    ) -> tuple[ADEPTState, Metrics]:
        """Subroutine PE for every rollout, and its rows into the buffer."""
        start_key, world_key = jax.random.split(key)
        rows = jax.random.randint(start_key, (self.rollouts,), 0, transitions.size)
        world = StepDiffusionWorld(self.world.model(state.world))
        imagined = world.imagine(
            self.policy(state), transitions.observations[rows], self.rollout_steps + 1, key=world_key
        )
        buffer = state.buffer.add(*as_transitions(imagined))
        metrics = {
            "imagination/reward": mean_reward(imagined),
            "imagination/length": imagined.valid.sum(axis=1).mean(dtype=jnp.float32),
            "imagination/buffer_rows": buffer.filled.astype(jnp.float32),
        }
        return ADEPTState(state.learner, buffer, state.world), metrics

    def begin_epoch(
        self,
        state: ADEPTState,
        transitions: Transitions,
        fitted: Transitions,
        behaviour: GaussianPolicy | None,
        *,
        step: Int[Array, ""],
        key: PRNGKeyArray,
    ) -> tuple[ADEPTState, Metrics]:
        """The IWU that closes the last epoch, on the rows `fitted`, then the PE that opens this one.

        `imagination/reward` is what the policy expects of itself a step, in the environment's units: held against
        its true reward it shows whether the learner lives off the world model's mistakes.
        """
        refit_key, imagine_key = jax.random.split(key)
        refitted: Metrics = {}
        if self.refit_steps > 0:
            state, refitted = self.refit(state, fitted, behaviour, step > 0, key=refit_key)
        state, imagined = self.imagine(state, transitions, key=imagine_key)
        return state, refitted | imagined

    def update(
        self,
        state: ADEPTState,
        transitions: Transitions,
        *,
        step: Int[Array, ""],
        key: PRNGKeyArray,
    ) -> tuple[ADEPTState, Metrics]:
        """One gradient step of the learner on a mixed batch."""
        batch_key, update_key = jax.random.split(key)
        batch = mixed_batch(transitions, state.buffer, self.batch_size, self.real_share, key=batch_key)
        learned, metrics = self.learner.update(state.learner, batch, step=step, key=update_key)
        return ADEPTState(learned, state.buffer, state.world), metrics

    def policy(self, state: ADEPTState) -> Policy:
        """The learner's policy."""
        return self.learner.policy(state.learner)
