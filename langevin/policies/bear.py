"""BEAR (Kumar et al. 2019, "Stabilizing off-policy Q-learning via bootstrapping error reduction").

The policy may put its weight anywhere inside the support of the data's actions, but not outside: samples of both are
kept within a small maximum mean discrepancy by a Lagrange multiplier.
"""

from collections.abc import Callable
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from langevin.data.normalize import GaussianNormalizer
from langevin.data.sampling import Transitions
from langevin.nets.ensemble import Ensemble
from langevin.policies.action_vae import ActionVAE, latents, make_action_vae
from langevin.policies.base import Learner, Metrics, Policy, SystemSpec
from langevin.policies.critics import action_values, bellman_loss, best_candidate_value, best_of, make_critics
from langevin.policies.gaussian import SquashedGaussianActor, make_gaussian_actor, sample_actions
from langevin.policies.optimization import apply_gradient, init_optimizer, move_towards

KernelName = Literal["laplacian", "gaussian"]
DISTANCES: dict[KernelName, Callable[[Array], Array]] = {
    "laplacian": lambda difference: jnp.abs(difference).sum(axis=-1),
    "gaussian": lambda difference: (difference**2).sum(axis=-1),
}
LOG_MULTIPLIER_BOUNDS = (-5.0, 10.0)
MULTIPLIER_LEARNING_RATE = 1e-3


def mean_discrepancy(
    first: Float[Array, "samples action"],
    second: Float[Array, "others action"],
    kernel: KernelName,
    bandwidth: float,
) -> Float[Array, ""]:
    """sqrt(E k(x, x') - 2 E k(x, y) + E k(y, y')), k = exp(-distance / (2 bandwidth)) (Eq. 5)."""

    def similarity(one: Float[Array, "rows action"], other: Float[Array, "columns action"]):
        return jnp.exp(-DISTANCES[kernel](one[:, None] - other[None]) / (2 * bandwidth)).mean()

    squared = similarity(first, first) - 2 * similarity(first, second) + similarity(second, second)
    return jnp.sqrt(squared + 1e-6)  # the root's slope at 0 is infinite


class BEARState(eqx.Module):
    """Everything BEAR carries from step to step."""

    vae: ActionVAE
    actor: SquashedGaussianActor
    target_actor: SquashedGaussianActor
    critics: Ensemble
    target_critics: Ensemble
    log_multiplier: Float[Array, ""]
    vae_optimizer: optax.OptState
    actor_optimizer: optax.OptState
    critic_optimizer: optax.OptState
    multiplier_optimizer: optax.OptState
    normalizer: GaussianNormalizer


class BEAR(Learner):
    """BEAR with the authors' settings.

    threshold: of the discrepancy (epsilon). kernel, bandwidth: its kernel; 10 for Laplacian, 20 for Gaussian.
    matched_samples: actions of policy and data compared in a state. candidates: actions a target and the policy choose
    among. minimum_weight: lambda of the soft clipped double Q. warmup_steps: updates in which the actor only matches.
    """

    threshold: float = eqx.field(static=True, default=0.05)
    kernel: KernelName = eqx.field(static=True, default="laplacian")
    bandwidth: float = eqx.field(static=True, default=10.0)
    matched_samples: int = eqx.field(static=True, default=5)
    candidates: int = eqx.field(static=True, default=10)
    minimum_weight: float = eqx.field(static=True, default=0.75)
    warmup_steps: int = eqx.field(static=True, default=20_000)
    discount: float = eqx.field(static=True, default=0.99)
    target_rate: float = eqx.field(static=True, default=0.005)
    actor_learning_rate: float = eqx.field(static=True, default=1e-4)
    critic_learning_rate: float = eqx.field(static=True, default=3e-4)
    vae_width: int = eqx.field(static=True, default=750)
    width: int = eqx.field(static=True, default=256)
    depth: int = eqx.field(static=True, default=2)

    @property
    def actor_optimizer(self) -> optax.GradientTransformation:
        """Adam."""
        return optax.adam(self.actor_learning_rate)

    @property
    def critic_optimizer(self) -> optax.GradientTransformation:
        """Adam, for critics and VAE."""
        return optax.adam(self.critic_learning_rate)

    def init(self, spec: SystemSpec, *, key: PRNGKeyArray) -> BEARState:
        """Fresh networks, multiplier 1; the targets start equal to them."""
        vae_key, actor_key, critic_key = jax.random.split(key, 3)
        vae = make_action_vae(spec, self.vae_width, key=vae_key)
        actor = make_gaussian_actor(spec, self.width, self.depth, key=actor_key)
        critics = make_critics(spec, self.width, self.depth, key=critic_key)
        log_multiplier = jnp.zeros(())
        return BEARState(
            vae=vae,
            actor=actor,
            target_actor=actor,
            critics=critics,
            target_critics=critics,
            log_multiplier=log_multiplier,
            vae_optimizer=init_optimizer(self.critic_optimizer, vae),
            actor_optimizer=init_optimizer(self.actor_optimizer, actor),
            critic_optimizer=init_optimizer(self.critic_optimizer, critics),
            multiplier_optimizer=optax.adam(MULTIPLIER_LEARNING_RATE).init(log_multiplier),
            normalizer=spec.observation_normalizer,
        )

    def targets(self, state: BEARState, batch: Transitions, *, key: PRNGKeyArray) -> Float[Array, " batch"]:
        """y = r + gamma (1 - terminal) max_j {lambda min_i Q'_i + (1 - lambda) max_i Q'_i}(s', a_j), a_j ~ pi'."""
        next_observations = state.normalizer.normalize(batch.next_observations)
        repeated = jnp.repeat(next_observations, self.candidates, axis=0)
        actions, _ = sample_actions(state.target_actor, repeated, key=key)
        best = best_candidate_value(
            state.target_critics, repeated, actions, self.candidates, self.minimum_weight
        )
        return batch.rewards + self.discount * (1 - batch.terminations) * best

    def discrepancies(
        self,
        actor: SquashedGaussianActor,
        vae: ActionVAE,
        observations: Float[Array, "batch observation"],
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, " batch"]:
        """MMD of policy and data in each state, between actions before their tanh as in the authors' code."""
        latent_key, noise_key = jax.random.split(key)
        shape = (observations.shape[0], self.matched_samples)
        drawn = latents(vae, shape, key=latent_key)
        noise = jax.random.normal(noise_key, (*shape, actor.action_low.size))

        def one(observation: Array, latent: Array, noise: Array) -> Array:
            logged = jax.vmap(vae.decode_latent, in_axes=(None, 0))(observation, latent)
            mean, log_std = actor.gaussian(observation)
            return mean_discrepancy(mean + jnp.exp(log_std) * noise, logged, self.kernel, self.bandwidth)

        return jax.vmap(one)(observations, drawn, noise)

    def actor_loss(
        self,
        actor: SquashedGaussianActor,
        state: BEARState,
        observations: Float[Array, "batch observation"],
        value_weight: Float[Array, ""],
        *,
        key: PRNGKeyArray,
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """-mean min_i Q_i(s, a) + multiplier (MMD - epsilon), a ~ pi (Eq. 4); beside it MMD - epsilon."""
        action_key, matching_key = jax.random.split(key)
        actions, _ = sample_actions(actor, observations, key=action_key)
        values = action_values(state.critics, observations, actions).min(axis=0)
        excess = self.discrepancies(actor, state.vae, observations, key=matching_key).mean() - self.threshold
        return -value_weight * values.mean() + jnp.exp(state.log_multiplier) * excess, excess

    def update(
        self, state: BEARState, batch: Transitions, *, step: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[BEARState, Metrics]:
        """VAE, critics, actor, multiplier, targets (Algorithm 1)."""
        vae_key, target_key, actor_key = jax.random.split(key, 3)
        observations = state.normalizer.normalize(batch.observations)
        vae_loss, gradient = eqx.filter_value_and_grad(ActionVAE.loss)(
            state.vae, observations, batch.actions, key=vae_key
        )
        vae, vae_optimizer = apply_gradient(self.critic_optimizer, state.vae, gradient, state.vae_optimizer)

        targets = jax.lax.stop_gradient(self.targets(state, batch, key=target_key))
        gradient, metrics = eqx.filter_grad(bellman_loss, has_aux=True)(
            state.critics, batch, observations, targets
        )
        critics, critic_optimizer = apply_gradient(
            self.critic_optimizer, state.critics, gradient, state.critic_optimizer
        )
        state = eqx.tree_at(lambda s: (s.vae, s.critics), state, (vae, critics))

        value_weight = jnp.where(step < self.warmup_steps, 0.0, 1.0)
        gradient, excess = eqx.filter_grad(self.actor_loss, has_aux=True)(
            state.actor, state, observations, value_weight, key=actor_key
        )
        actor, actor_optimizer = apply_gradient(
            self.actor_optimizer, state.actor, gradient, state.actor_optimizer
        )
        ascent = jax.grad(lambda log_multiplier: -jnp.exp(log_multiplier) * excess)(state.log_multiplier)
        log_multiplier, multiplier_optimizer = apply_gradient(
            optax.adam(MULTIPLIER_LEARNING_RATE), state.log_multiplier, ascent, state.multiplier_optimizer
        )
        state = BEARState(
            vae=vae,
            actor=actor,
            target_actor=move_towards(state.target_actor, actor, self.target_rate),
            critics=critics,
            target_critics=move_towards(state.target_critics, critics, self.target_rate),
            log_multiplier=jnp.clip(log_multiplier, *LOG_MULTIPLIER_BOUNDS),
            vae_optimizer=vae_optimizer,
            actor_optimizer=actor_optimizer,
            critic_optimizer=critic_optimizer,
            multiplier_optimizer=multiplier_optimizer,
            normalizer=state.normalizer,
        )
        return state, metrics | {"vae/loss": vae_loss, "actor/discrepancy": excess + self.threshold}

    def policy(self, state: BEARState) -> "BEARPolicy":
        """The best of `candidates` samples."""
        return BEARPolicy(state.actor, state.critics, state.normalizer, self.candidates)


class BEARPolicy(Policy):
    """Takes the sample of highest Q_1; its choice has no density."""

    actor: SquashedGaussianActor
    critics: Ensemble
    normalizer: GaussianNormalizer
    candidates: int = eqx.field(static=True)

    def start(self, batch_size: int) -> None:
        """Nothing to remember."""

    def act(
        self, observations: Float[Array, "batch observation"], memory: None, *, key: PRNGKeyArray
    ) -> tuple[Float[Array, "batch action"], None]:
        """argmax_j Q_1(s, a_j), a_j ~ pi (Section 5)."""
        repeated = jnp.repeat(self.normalizer.normalize(observations), self.candidates, axis=0)
        actions, _ = sample_actions(self.actor, repeated, key=key)
        return best_of(actions, action_values(self.critics, repeated, actions)[0], self.candidates), None
