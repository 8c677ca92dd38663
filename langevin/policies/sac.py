"""SAC (Haarnoja et al. 2018, "Soft actor-critic algorithms and applications", with the automatic temperature).

Online it makes behaviour policies; offline it is the base of model-based methods and, by itself, the example of what
goes wrong without any care for the data.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from langevin.data.normalize import GaussianNormalizer
from langevin.data.sampling import Transitions
from langevin.nets.ensemble import Ensemble
from langevin.policies.base import Learner, Metrics, SystemSpec
from langevin.policies.critics import action_values, bellman_loss, make_critics
from langevin.policies.gaussian import (
    GaussianPolicy,
    SquashedGaussianActor,
    make_gaussian_actor,
    sample_actions,
)
from langevin.policies.optimization import apply_gradient, init_optimizer, move_towards


class SACState(eqx.Module):
    """Everything SAC carries from step to step."""

    actor: SquashedGaussianActor
    critics: Ensemble
    target_critics: Ensemble
    log_temperature: Float[Array, ""]
    actor_optimizer: optax.OptState
    critic_optimizer: optax.OptState
    temperature_optimizer: optax.OptState
    normalizer: GaussianNormalizer


class SAC(Learner):
    """SAC with the settings of its second paper (appendix D).

    discount: per environment step. target_rate: share of the online critics mixed into the targets each update.
    target_entropy: in nats for each action dimension; the temperature moves until the policy has it, by the actor's
    learning rate. entropy_in_targets: whether a target counts the entropy of the next action.
    """

    discount: float = eqx.field(static=True, default=0.99)
    target_rate: float = eqx.field(static=True, default=0.005)
    target_entropy: float = eqx.field(static=True, default=-1.0)
    entropy_in_targets: bool = eqx.field(static=True, default=True)
    actor_learning_rate: float = eqx.field(static=True, default=3e-4)
    critic_learning_rate: float = eqx.field(static=True, default=3e-4)
    width: int = eqx.field(static=True, default=256)
    depth: int = eqx.field(static=True, default=2)

    @property
    def actor_optimizer(self) -> optax.GradientTransformation:
        """Adam, for actor and temperature."""
        return optax.adam(self.actor_learning_rate)

    @property
    def critic_optimizer(self) -> optax.GradientTransformation:
        """Adam."""
        return optax.adam(self.critic_learning_rate)

    def init(self, spec: SystemSpec, *, key: PRNGKeyArray) -> SACState:
        """Fresh networks, temperature 1; the targets start equal to the critics."""
        actor_key, critic_key = jax.random.split(key)
        actor = make_gaussian_actor(spec, self.width, self.depth, key=actor_key)
        critics = make_critics(spec, self.width, self.depth, key=critic_key)
        log_temperature = jnp.zeros(())
        return SACState(
            actor=actor,
            critics=critics,
            target_critics=critics,
            log_temperature=log_temperature,
            actor_optimizer=init_optimizer(self.actor_optimizer, actor),
            critic_optimizer=init_optimizer(self.critic_optimizer, critics),
            temperature_optimizer=self.actor_optimizer.init(log_temperature),
            normalizer=spec.observation_normalizer,
        )

    def targets(self, state: SACState, batch: Transitions, *, key: PRNGKeyArray) -> Float[Array, " batch"]:
        """y = r + gamma (1 - terminal) (min_i Q'_i(s', a') - alpha log pi(a' | s')), a' ~ pi (Eqs. 5, 6)."""
        next_observations = state.normalizer.normalize(batch.next_observations)
        next_actions, log_probs = sample_actions(state.actor, next_observations, key=key)
        values = action_values(state.target_critics, next_observations, next_actions).min(axis=0)
        if self.entropy_in_targets:
            values = values - jnp.exp(state.log_temperature) * log_probs
        return batch.rewards + self.discount * (1 - batch.terminations) * values

    def actor_loss(
        self,
        actor: SquashedGaussianActor,
        critics: Ensemble,
        log_temperature: Float[Array, ""],
        observations: Float[Array, "batch observation"],
        *,
        key: PRNGKeyArray,
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """mean alpha log pi(a | s) - min_i Q_i(s, a), a ~ pi (Eq. 9); beside it the mean log density."""
        actions, log_probs = sample_actions(actor, observations, key=key)
        values = action_values(critics, observations, actions).min(axis=0)
        return jnp.mean(jnp.exp(log_temperature) * log_probs - values), log_probs.mean()

    def temperature_loss(
        self, log_temperature: Float[Array, ""], log_prob: Float[Array, ""], action_size: int
    ) -> Float[Array, ""]:
        """-log alpha (log pi + target entropy) (Eq. 18, on the logarithm as in the authors' code)."""
        return -log_temperature * (log_prob + self.target_entropy * action_size)

    def update(
        self, state: SACState, batch: Transitions, *, step: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[SACState, Metrics]:
        """One step of critics, then of the actor against them, of the temperature and of the targets."""
        target_key, actor_key = jax.random.split(key)
        observations = state.normalizer.normalize(batch.observations)
        targets = jax.lax.stop_gradient(self.targets(state, batch, key=target_key))
        gradient, metrics = eqx.filter_grad(soft_bellman_loss, has_aux=True)(
            state.critics, batch, observations, targets
        )
        state, actor_metrics = self.improve(state, gradient, observations, key=actor_key)
        return state, metrics | actor_metrics

    def improve(
        self,
        state: SACState,
        critic_gradient: Ensemble,
        observations: Float[Array, "batch observation"],
        *,
        key: PRNGKeyArray,
    ) -> tuple[SACState, Metrics]:
        """The critics moved by their gradient, then actor, temperature and targets."""
        critics, critic_optimizer = apply_gradient(
            self.critic_optimizer, state.critics, critic_gradient, state.critic_optimizer
        )
        gradient, log_prob = eqx.filter_grad(self.actor_loss, has_aux=True)(
            state.actor, critics, state.log_temperature, observations, key=key
        )
        actor, actor_optimizer = apply_gradient(
            self.actor_optimizer, state.actor, gradient, state.actor_optimizer
        )
        gradient = jax.grad(self.temperature_loss)(
            state.log_temperature, jax.lax.stop_gradient(log_prob), actor.action_low.size
        )
        log_temperature, temperature_optimizer = apply_gradient(
            self.actor_optimizer, state.log_temperature, gradient, state.temperature_optimizer
        )
        state = SACState(
            actor=actor,
            critics=critics,
            target_critics=move_towards(state.target_critics, critics, self.target_rate),
            log_temperature=log_temperature,
            actor_optimizer=actor_optimizer,
            critic_optimizer=critic_optimizer,
            temperature_optimizer=temperature_optimizer,
            normalizer=state.normalizer,
        )
        return state, {"actor/entropy": -log_prob, "actor/temperature": jnp.exp(log_temperature)}

    def policy(self, state: SACState) -> GaussianPolicy:
        """The actor, acting by samples."""
        return GaussianPolicy(state.actor, state.normalizer)


def soft_bellman_loss(
    critics: Ensemble,
    batch: Transitions,
    observations: Float[Array, "batch observation"],
    targets: Float[Array, " batch"],
) -> tuple[Float[Array, ""], Metrics]:
    """sum_i mean (Q_i(s, a) - y)^2 / 2 (Eq. 5)."""
    loss, metrics = bellman_loss(critics, batch, observations, targets)
    return loss / 2, metrics
