"""Diffusion-QL (Wang et al. 2023, "Diffusion policies as an expressive policy class for offline RL").

The policy is a conditional diffusion model of actions, trained to reproduce the data's and to raise the critic.
"""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from langevin.data.normalize import GaussianNormalizer
from langevin.data.sampling import Transitions
from langevin.diffusion.ddpm import DiscreteSchedule, ancestral_sample, vp_schedule
from langevin.nets.activations import mish
from langevin.nets.embeddings import SinusoidalEmbedding
from langevin.nets.ensemble import Ensemble
from langevin.nets.mlp import MLP
from langevin.policies.base import Learner, Metrics, Policy, SystemSpec
from langevin.policies.critics import action_values, bellman_loss, make_critics
from langevin.policies.optimization import apply_gradient, cosine_adam, init_optimizer, move_towards

TIME_SIZE = 16


class DiffusionActor(eqx.Module):
    """eps(a_k, k, s): the noise in a noisy action. Actions are scaled to [-1, 1] inside, observations z-scored."""

    network: MLP
    time_network: MLP
    embedding: SinusoidalEmbedding
    schedule: DiscreteSchedule
    action_low: Float[Array, " action"]
    action_high: Float[Array, " action"]

    def noise(
        self, noisy: Float[Array, " action"], step: Int[Array, ""], observation: Float[Array, " observation"]
    ) -> Float[Array, " action"]:
        """The noise the network sees in a scaled action."""
        time = self.time_network(self.embedding(step.astype(jnp.float32)))
        return self.network(jnp.concatenate([noisy, time, observation]))

    def sample(
        self, observation: Float[Array, " observation"], *, key: PRNGKeyArray
    ) -> Float[Array, " action"]:
        """An action, by the whole chain."""
        schedule = jax.lax.stop_gradient(self.schedule)
        scaled = ancestral_sample(
            lambda noisy, step: self.noise(noisy, step, observation),
            schedule, self.action_low.shape, limit=1.0, key=key,
        )  # fmt: skip
        return self.unscaled(jnp.clip(scaled, -1, 1))

    def scaled(self, action: Float[Array, " action"]) -> Float[Array, " action"]:
        """From the environment's units to [-1, 1]."""
        low, high = jax.lax.stop_gradient((self.action_low, self.action_high))
        return 2 * (action - low) / (high - low) - 1

    def unscaled(self, action: Float[Array, " action"]) -> Float[Array, " action"]:
        """From [-1, 1] to the environment's units."""
        low, high = jax.lax.stop_gradient((self.action_low, self.action_high))
        return low + (high - low) * (action + 1) / 2


class DiffusionQLState(eqx.Module):
    """Everything Diffusion-QL carries from step to step; `average_actor` is the actor that acts."""

    actor: DiffusionActor
    average_actor: DiffusionActor
    critics: Ensemble
    target_critics: Ensemble
    actor_optimizer: optax.OptState
    critic_optimizer: optax.OptState
    normalizer: GaussianNormalizer


class DiffusionQL(Learner):
    """Diffusion-QL with the official settings.

    q_weight: eta, of the critic against cloning. chain: whether the actor's gradient runs through the whole chain
    ("full", the paper) or one denoising step from a noised logged action ("one_step", Kang et al. 2023, Eq. 9).
    diffusion_steps: N. average_rate, average_every, average_from: of the actor's running average. candidates: samples
    the policy chooses among, with probability exp(Q) (Appendix). gradient_clip: largest norm of actor and critic
    gradients; none leaves them. decay_steps: updates over which both learning rates fall to 0, as IQL's.
    """

    q_weight: float = eqx.field(static=True, default=1.0)
    chain: Literal["full", "one_step"] = eqx.field(static=True, default="full")
    diffusion_steps: int = eqx.field(static=True, default=5)
    discount: float = eqx.field(static=True, default=0.99)
    target_rate: float = eqx.field(static=True, default=0.005)
    average_rate: float = eqx.field(static=True, default=0.005)
    average_every: int = eqx.field(static=True, default=5)
    average_from: int = eqx.field(static=True, default=1_000)
    candidates: int = eqx.field(static=True, default=50)
    learning_rate: float = eqx.field(static=True, default=3e-4)
    gradient_clip: float | None = eqx.field(static=True, default=None)
    decay_steps: int | None = eqx.field(static=True, default=None)
    width: int = eqx.field(static=True, default=256)
    depth: int = eqx.field(static=True, default=3)

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """Adam with a cosine decay, after clipping."""
        clip = (
            optax.identity() if self.gradient_clip is None else optax.clip_by_global_norm(self.gradient_clip)
        )
        return optax.chain(clip, cosine_adam(self.learning_rate, self.decay_steps))

    def init(self, spec: SystemSpec, *, key: PRNGKeyArray) -> DiffusionQLState:
        """Fresh networks; targets and average start equal to them."""
        actor_key, time_key, critic_key = jax.random.split(key, 3)
        inputs = spec.action_size + TIME_SIZE + spec.observation_size
        actor = DiffusionActor(
            MLP(inputs, spec.action_size, self.width, self.depth, mish, key=actor_key),
            MLP(TIME_SIZE, TIME_SIZE, 2 * TIME_SIZE, 1, mish, key=time_key),
            SinusoidalEmbedding(TIME_SIZE, lowest_frequency=1e-4, highest_frequency=1.0),
            vp_schedule(self.diffusion_steps),
            spec.action_low,
            spec.action_high,
        )
        critics = make_critics(spec, self.width, self.depth, activation=mish, key=critic_key)
        return DiffusionQLState(
            actor=actor,
            average_actor=actor,
            critics=critics,
            target_critics=critics,
            actor_optimizer=init_optimizer(self.optimizer, actor),
            critic_optimizer=init_optimizer(self.optimizer, critics),
            normalizer=spec.observation_normalizer,
        )

    def targets(
        self, state: DiffusionQLState, batch: Transitions, *, key: PRNGKeyArray
    ) -> Float[Array, " batch"]:
        """y = r + gamma (1 - terminal) min_i Q'_i(s', a'), a' of the averaged actor (Eq. 4)."""
        next_observations = state.normalizer.normalize(batch.next_observations)
        next_actions = sample_chain(state.average_actor, next_observations, key=key)
        values = action_values(state.target_critics, next_observations, next_actions).min(axis=0)
        return batch.rewards + self.discount * (1 - batch.terminations) * values

    def actor_loss(
        self,
        actor: DiffusionActor,
        critics: Ensemble,
        observations: Float[Array, "batch observation"],
        actions: Float[Array, "batch action"],
        *,
        key: PRNGKeyArray,
    ) -> tuple[Float[Array, ""], Metrics]:
        """mean |eps - eps(a_k, k, s)|^2 - eta mean Q_i(s, a_0) / mean |Q_j| (Eqs. 2, 3).

        i is one of the two critics by chance and j the other, as in the authors' code.
        """
        step_key, noise_key, sample_key, critic_key = jax.random.split(key, 4)
        steps = jax.random.randint(step_key, actions.shape[:1], 0, self.diffusion_steps)
        noise = jax.random.normal(noise_key, actions.shape)
        schedule = jax.lax.stop_gradient(actor.schedule)
        noisy = jax.vmap(schedule.noised)(jax.vmap(actor.scaled)(actions), steps, noise)
        predicted = jax.vmap(actor.noise)(noisy, steps, observations)
        cloning = jnp.mean((predicted - noise) ** 2)  # Eq. 2
        if self.chain == "full":
            sampled = sample_chain(actor, observations, key=sample_key)
        else:
            clean = jax.vmap(schedule.clean_of)(noisy, steps, predicted)
            sampled = jax.vmap(actor.unscaled)(jnp.clip(clean, -1, 1))
        values = action_values(critics, observations, sampled)
        chosen = jax.random.bernoulli(critic_key).astype(jnp.int32)
        size = jax.lax.stop_gradient(jnp.abs(values[1 - chosen]).mean())
        loss = cloning - self.q_weight * values[chosen].mean() / size  # Eq. 3
        return loss, {"actor/loss": loss, "actor/cloning": cloning}

    def update(
        self, state: DiffusionQLState, batch: Transitions, *, step: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[DiffusionQLState, Metrics]:
        """Critics, actor, targets and, every few steps, the averaged actor (Algorithm 1)."""
        target_key, actor_key = jax.random.split(key)
        observations = state.normalizer.normalize(batch.observations)
        targets = jax.lax.stop_gradient(self.targets(state, batch, key=target_key))
        gradient, critic_metrics = eqx.filter_grad(bellman_loss, has_aux=True)(
            state.critics, batch, observations, targets
        )
        critics, critic_optimizer = apply_gradient(
            self.optimizer, state.critics, gradient, state.critic_optimizer
        )
        gradient, actor_metrics = eqx.filter_grad(self.actor_loss, has_aux=True)(
            state.actor, critics, observations, batch.actions, key=actor_key
        )
        actor, actor_optimizer = apply_gradient(self.optimizer, state.actor, gradient, state.actor_optimizer)
        averages = (step >= self.average_from) & (step % self.average_every == 0)
        state = DiffusionQLState(
            actor=actor,
            average_actor=move_towards(
                state.average_actor, actor, jnp.where(averages, self.average_rate, 0.0)
            ),
            critics=critics,
            target_critics=move_towards(state.target_critics, critics, self.target_rate),
            actor_optimizer=actor_optimizer,
            critic_optimizer=critic_optimizer,
            normalizer=state.normalizer,
        )
        return state, critic_metrics | actor_metrics

    def policy(self, state: DiffusionQLState) -> "DiffusionPolicy":
        """The online actor with the target critics' choice among its samples, as in the authors' code."""
        return DiffusionPolicy(state.actor, state.target_critics, state.normalizer, self.candidates)


class DiffusionPolicy(Policy):
    """Draws `candidates` actions and takes one with probability proportional to exp(min_i Q_i); has no density."""

    actor: DiffusionActor
    critics: Ensemble
    normalizer: GaussianNormalizer
    candidates: int = eqx.field(static=True)

    def start(self, batch_size: int) -> None:
        """Nothing to remember."""

    def act(
        self, observations: Float[Array, "batch observation"], memory: None, *, key: PRNGKeyArray
    ) -> tuple[Float[Array, "batch action"], None]:
        """One of the candidates for every observation."""
        sample_key, choice_key = jax.random.split(key)
        repeated = jnp.repeat(self.normalizer.normalize(observations), self.candidates, axis=0)
        actions = sample_chain(self.actor, repeated, key=sample_key)
        values = action_values(self.critics, repeated, actions).min(axis=0).reshape(-1, self.candidates)
        chosen = jax.random.categorical(choice_key, values, axis=1)
        actions = actions.reshape(*values.shape, -1)
        return jnp.take_along_axis(actions, chosen[:, None, None], axis=1)[:, 0], None


def sample_chain(
    actor: DiffusionActor, observations: Float[Array, "batch observation"], *, key: PRNGKeyArray
) -> Float[Array, "batch action"]:
    """An action for every z-scored observation."""
    keys = jax.random.split(key, observations.shape[0])
    return jax.vmap(lambda observation, key: actor.sample(observation, key=key))(observations, keys)
