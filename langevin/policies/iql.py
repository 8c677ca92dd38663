"""IQL (Kostrikov et al. 2022, "Offline reinforcement learning with implicit Q-learning").

No value is ever asked of an action that is not in the data: a state's value is an upper expectile of its logged
actions' values, and the policy clones those actions, the better ones with more weight.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from langevin.data.normalize import GaussianNormalizer
from langevin.data.sampling import Transitions
from langevin.nets.ensemble import Ensemble
from langevin.nets.mlp import MLP
from langevin.policies.base import Learner, Metrics, SystemSpec
from langevin.policies.critics import action_values, bellman_loss, make_critics
from langevin.policies.gaussian import BoundedMeanActor, GaussianPolicy, make_bounded_mean_actor
from langevin.policies.optimization import apply_gradient, cosine_adam, init_optimizer, move_towards


class IQLState(eqx.Module):
    """Everything IQL carries from step to step."""

    actor: BoundedMeanActor
    value: MLP
    critics: Ensemble
    target_critics: Ensemble
    actor_optimizer: optax.OptState
    value_optimizer: optax.OptState
    critic_optimizer: optax.OptState
    normalizer: GaussianNormalizer


class IQL(Learner):
    """IQL with the official settings.

    expectile: tau of the value's loss. temperature: beta, how much an advantage counts; its weight is at most
    largest_weight. decay_steps: updates over which the actor's learning rate falls to 0 by a cosine; none:
    over all of a training's, and where nobody trains by a number of updates it stays, as with 0. layer_norm:
    whether the hidden layers of value and critics are normalised; not the paper's.
    """

    expectile: float = eqx.field(static=True, default=0.7)
    temperature: float = eqx.field(static=True, default=3.0)
    largest_weight: float = eqx.field(static=True, default=100.0)
    discount: float = eqx.field(static=True, default=0.99)
    target_rate: float = eqx.field(static=True, default=0.005)
    learning_rate: float = eqx.field(static=True, default=3e-4)
    decay_steps: int | None = eqx.field(static=True, default=None)
    width: int = eqx.field(static=True, default=256)
    depth: int = eqx.field(static=True, default=2)
    layer_norm: bool = eqx.field(static=True, default=False)

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """Adam, for value and critics."""
        return optax.adam(self.learning_rate)

    @property
    def actor_optimizer(self) -> optax.GradientTransformation:
        """Adam with a cosine decay."""
        return cosine_adam(self.learning_rate, self.decay_steps)

    def init(self, spec: SystemSpec, *, key: PRNGKeyArray) -> IQLState:
        """Fresh networks; the targets start equal to the critics."""
        actor_key, value_key, critic_key = jax.random.split(key, 3)
        actor = make_bounded_mean_actor(spec, self.width, self.depth, key=actor_key)
        value = MLP(
            spec.observation_size, 1, self.width, self.depth, layer_norm=self.layer_norm, key=value_key
        )
        critics = make_critics(spec, self.width, self.depth, layer_norm=self.layer_norm, key=critic_key)
        return IQLState(
            actor=actor,
            value=value,
            critics=critics,
            target_critics=critics,
            actor_optimizer=init_optimizer(self.actor_optimizer, actor),
            value_optimizer=init_optimizer(self.optimizer, value),
            critic_optimizer=init_optimizer(self.optimizer, critics),
            normalizer=spec.observation_normalizer,
        )

    def value_loss(
        self,
        value: MLP,
        observations: Float[Array, "batch observation"],
        target_values: Float[Array, " batch"],
    ) -> tuple[Float[Array, ""], Metrics]:
        """mean |tau - 1(u < 0)| u^2, u = min_i Q'_i(s, a) - V(s) (Eq. 5)."""
        values = jax.vmap(value)(observations)[:, 0]
        difference = target_values - values
        weights = jnp.where(difference < 0, 1 - self.expectile, self.expectile)
        loss = jnp.mean(weights * difference**2)
        return loss, {"value/loss": loss, "value/value": values.mean()}

    def targets(
        self, value: MLP, normalizer: GaussianNormalizer, batch: Transitions
    ) -> Float[Array, " batch"]:
        """y = r + gamma (1 - terminal) V(s') (Eq. 6)."""
        next_values = jax.vmap(value)(normalizer.normalize(batch.next_observations))[:, 0]
        return batch.rewards + self.discount * (1 - batch.terminations) * next_values

    def actor_loss(
        self,
        actor: BoundedMeanActor,
        observations: Float[Array, "batch observation"],
        actions: Float[Array, "batch action"],
        advantages: Float[Array, " batch"],
    ) -> tuple[Float[Array, ""], Metrics]:
        """-mean exp(beta (min_i Q'_i(s, a) - V(s))) log pi(a | s), the weight clipped (Eq. 7)."""
        weights = jnp.minimum(jnp.exp(self.temperature * advantages), self.largest_weight)
        log_probs = jax.vmap(actor.log_prob)(observations, actions)
        loss = -jnp.mean(weights * log_probs)
        return loss, {"actor/loss": loss, "actor/weight": weights.mean()}

    def update(
        self, state: IQLState, batch: Transitions, *, step: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[IQLState, Metrics]:
        """Value, then actor and critics by the new value, then targets (Algorithm 1); the key is not used."""
        observations = state.normalizer.normalize(batch.observations)
        target_values = action_values(state.target_critics, observations, batch.actions).min(axis=0)
        gradient, value_metrics = eqx.filter_grad(self.value_loss, has_aux=True)(
            state.value, observations, target_values
        )
        value, value_optimizer = apply_gradient(self.optimizer, state.value, gradient, state.value_optimizer)

        advantages = target_values - jax.vmap(value)(observations)[:, 0]
        gradient, actor_metrics = eqx.filter_grad(self.actor_loss, has_aux=True)(
            state.actor, observations, batch.actions, advantages
        )
        actor, actor_optimizer = apply_gradient(
            self.actor_optimizer, state.actor, gradient, state.actor_optimizer
        )

        targets = self.targets(value, state.normalizer, batch)
        gradient, critic_metrics = eqx.filter_grad(bellman_loss, has_aux=True)(
            state.critics, batch, observations, targets
        )
        critics, critic_optimizer = apply_gradient(
            self.optimizer, state.critics, gradient, state.critic_optimizer
        )
        state = IQLState(
            actor=actor,
            value=value,
            critics=critics,
            target_critics=move_towards(state.target_critics, critics, self.target_rate),
            actor_optimizer=actor_optimizer,
            value_optimizer=value_optimizer,
            critic_optimizer=critic_optimizer,
            normalizer=state.normalizer,
        )
        return state, value_metrics | critic_metrics | actor_metrics

    def policy(self, state: IQLState) -> GaussianPolicy:
        """The actor, acting by samples."""
        return GaussianPolicy(state.actor, state.normalizer)
