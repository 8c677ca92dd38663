"""TD3+BC (Fujimoto & Gu 2021, "A minimalist approach to offline reinforcement learning").

One update, in the order of the paper and its official code: smoothed target action, clipped double-Q target,
critics, and every second step the actor, with a behaviour-cloning term weighted against the size of Q.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from langevin.data.normalize import GaussianNormalizer
from langevin.data.sampling import Transitions
from langevin.nets.ensemble import Ensemble
from langevin.policies.actors import DeterministicActor, DeterministicPolicy, make_actor
from langevin.policies.base import Learner, Metrics, SystemSpec
from langevin.policies.critics import action_values, bellman_loss, make_critics
from langevin.policies.optimization import apply_gradient, init_optimizer, move_towards


class TD3BCState(eqx.Module):
    """Everything TD3+BC carries from step to step."""

    actor: DeterministicActor
    target_actor: DeterministicActor
    critics: Ensemble
    target_critics: Ensemble
    actor_optimizer: optax.OptState
    critic_optimizer: optax.OptState
    normalizer: GaussianNormalizer


class TD3BC(Learner):
    """TD3+BC with the official settings (Fujimoto & Gu 2021, Table 3).

    alpha: weight of Q against behaviour cloning. discount: per environment step. target_rate: share of the
    online network mixed into the target each update. policy_noise, noise_clip: of the target action, as shares
    of the action's half-range. policy_delay: critic updates for each actor update.
    """

    alpha: float = eqx.field(static=True, default=2.5)
    discount: float = eqx.field(static=True, default=0.99)
    target_rate: float = eqx.field(static=True, default=0.005)
    policy_noise: float = eqx.field(static=True, default=0.2)
    noise_clip: float = eqx.field(static=True, default=0.5)
    policy_delay: int = eqx.field(static=True, default=2)
    learning_rate: float = eqx.field(static=True, default=3e-4)
    width: int = eqx.field(static=True, default=256)
    depth: int = eqx.field(static=True, default=2)

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """Adam, for actor and critics alike."""
        return optax.adam(self.learning_rate)

    def init(self, spec: SystemSpec, *, key: PRNGKeyArray) -> TD3BCState:
        """Fresh networks; the targets start equal to them."""
        actor_key, critic_key = jax.random.split(key)
        actor = make_actor(spec, self.width, self.depth, key=actor_key)
        critics = make_critics(spec, self.width, self.depth, key=critic_key)
        return TD3BCState(
            actor=actor,
            target_actor=actor,
            critics=critics,
            target_critics=critics,
            actor_optimizer=init_optimizer(self.optimizer, actor),
            critic_optimizer=init_optimizer(self.optimizer, critics),
            normalizer=spec.observation_normalizer,
        )

    def targets(self, state: TD3BCState, batch: Transitions, *, key: PRNGKeyArray) -> Float[Array, " batch"]:
        """y = r + gamma (1 - terminal) min_i Q'_i(s', pi'(s') + clipped noise); timeouts go on (TD3, Alg. 1)."""
        next_observations = state.normalizer.normalize(batch.next_observations)
        actor = state.target_actor
        half_range = (actor.action_high - actor.action_low) / 2
        noise = self.policy_noise * jax.random.normal(key, batch.actions.shape)
        noise = half_range * jnp.clip(noise, -self.noise_clip, self.noise_clip)
        next_actions = jax.vmap(actor)(next_observations) + noise
        next_actions = jnp.clip(next_actions, actor.action_low, actor.action_high)
        next_values = action_values(state.target_critics, next_observations, next_actions).min(axis=0)
        return batch.rewards + self.discount * (1 - batch.terminations) * next_values

    def actor_loss(
        self,
        actor: DeterministicActor,
        critics: Ensemble,
        batch: Transitions,
        observations: Float[Array, "batch observation"],
    ) -> tuple[Float[Array, ""], Metrics]:
        """-lambda mean Q_1(s, pi(s)) + mean (pi(s) - a)^2, lambda = alpha / mean |Q_1| (Eqs. 3, 5)."""
        actions = jax.vmap(actor)(observations)
        inputs = jnp.concatenate([observations, actions], axis=-1)
        values = jax.vmap(critics.member(0))(inputs)[..., 0]  # the second critic has no part in it
        weight = self.alpha / jax.lax.stop_gradient(jnp.abs(values).mean())  # Eq. 5
        cloning = jnp.mean((actions - batch.actions) ** 2)
        loss = -weight * values.mean() + cloning  # Eq. 3
        return loss, {"actor/loss": loss, "actor/cloning": cloning}

    def update(
        self, state: TD3BCState, batch: Transitions, *, step: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[TD3BCState, Metrics]:
        """One critic step, and at every `policy_delay`-th step one of actor and targets."""
        observations = state.normalizer.normalize(batch.observations)
        targets = jax.lax.stop_gradient(self.targets(state, batch, key=key))
        gradient, critic_metrics = eqx.filter_grad(bellman_loss, has_aux=True)(
            state.critics, batch, observations, targets
        )
        critics, critic_optimizer = apply_gradient(
            self.optimizer, state.critics, gradient, state.critic_optimizer
        )
        state = eqx.tree_at(lambda s: (s.critics, s.critic_optimizer), state, (critics, critic_optimizer))

        def improve(state: TD3BCState) -> TD3BCState:
            gradient, _ = eqx.filter_grad(self.actor_loss, has_aux=True)(
                state.actor, state.critics, batch, observations
            )
            actor, actor_optimizer = apply_gradient(
                self.optimizer, state.actor, gradient, state.actor_optimizer
            )
            return TD3BCState(
                actor=actor,
                target_actor=move_towards(state.target_actor, actor, self.target_rate),
                critics=state.critics,
                target_critics=move_towards(state.target_critics, state.critics, self.target_rate),
                actor_optimizer=actor_optimizer,
                critic_optimizer=state.critic_optimizer,
                normalizer=state.normalizer,
            )

        state = jax.lax.cond((step + 1) % self.policy_delay == 0, improve, lambda state: state, state)
        return state, critic_metrics

    def policy(self, state: TD3BCState) -> DeterministicPolicy:
        """The online actor."""
        return DeterministicPolicy(state.actor, state.normalizer)
