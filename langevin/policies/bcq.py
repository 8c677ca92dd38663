"""BCQ (Fujimoto et al. 2019, "Off-policy deep reinforcement learning without exploration"), continuous actions.

A generative model proposes actions the data would take, a small network perturbs them, the critic picks among them.
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
from langevin.policies.action_vae import ActionVAE, latents, make_action_vae
from langevin.policies.base import Learner, Metrics, Policy, SystemSpec
from langevin.policies.critics import action_values, bellman_loss, best_candidate_value, best_of, make_critics
from langevin.policies.optimization import apply_gradient, init_optimizer, move_towards


class Perturbation(eqx.Module):
    """(z-scored observation, action) -> action at most `share` of the half-range away, inside the bounds."""

    network: MLP
    action_low: Float[Array, " action"]
    action_high: Float[Array, " action"]
    share: float = eqx.field(static=True)

    def __call__(
        self, observation: Float[Array, " observation"], action: Float[Array, " action"]
    ) -> Float[Array, " action"]:
        """xi: a + Phi tanh(...) (Section 4.2)."""
        low, high = jax.lax.stop_gradient((self.action_low, self.action_high))
        shift = self.share * (high - low) / 2 * jnp.tanh(self.network(jnp.concatenate([observation, action])))
        return jnp.clip(action + shift, low, high)


class BCQState(eqx.Module):
    """Everything BCQ carries from step to step."""

    vae: ActionVAE
    perturbation: Perturbation
    target_perturbation: Perturbation
    critics: Ensemble
    target_critics: Ensemble
    vae_optimizer: optax.OptState
    perturbation_optimizer: optax.OptState
    critic_optimizer: optax.OptState
    normalizer: GaussianNormalizer


class BCQ(Learner):
    """BCQ with the official settings.

    perturbation: Phi, as a share of the action's half-range. candidates: actions a target chooses among.
    act_candidates: actions the policy chooses among. minimum_weight: lambda of the soft clipped double Q.
    """

    perturbation: float = eqx.field(static=True, default=0.05)
    candidates: int = eqx.field(static=True, default=10)
    act_candidates: int = eqx.field(static=True, default=100)
    minimum_weight: float = eqx.field(static=True, default=0.75)
    discount: float = eqx.field(static=True, default=0.99)
    target_rate: float = eqx.field(static=True, default=0.005)
    learning_rate: float = eqx.field(static=True, default=1e-3)
    vae_width: int = eqx.field(static=True, default=750)
    width: int = eqx.field(static=True, default=256)
    depth: int = eqx.field(static=True, default=2)

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """Adam, for all networks."""
        return optax.adam(self.learning_rate)

    def init(self, spec: SystemSpec, *, key: PRNGKeyArray) -> BCQState:
        """Fresh networks; the targets start equal to them."""
        vae_key, perturbation_key, critic_key = jax.random.split(key, 3)
        vae = make_action_vae(spec, self.vae_width, key=vae_key)
        inputs = spec.observation_size + spec.action_size
        network = MLP(inputs, spec.action_size, self.width, self.depth, jax.nn.relu, key=perturbation_key)
        perturbation = Perturbation(network, spec.action_low, spec.action_high, self.perturbation)
        critics = make_critics(spec, self.width, self.depth, key=critic_key)
        return BCQState(
            vae=vae,
            perturbation=perturbation,
            target_perturbation=perturbation,
            critics=critics,
            target_critics=critics,
            vae_optimizer=init_optimizer(self.optimizer, vae),
            perturbation_optimizer=init_optimizer(self.optimizer, perturbation),
            critic_optimizer=init_optimizer(self.optimizer, critics),
            normalizer=spec.observation_normalizer,
        )

    def targets(self, state: BCQState, batch: Transitions, *, key: PRNGKeyArray) -> Float[Array, " batch"]:
        """y = r + gamma (1 - terminal) max_j {lambda min_i Q'_i + (1 - lambda) max_i Q'_i}(s', a_j) (Eq. 13)."""
        next_observations = state.normalizer.normalize(batch.next_observations)
        repeated = jnp.repeat(next_observations, self.candidates, axis=0)
        actions = proposed_actions(state.vae, state.target_perturbation, repeated, key=key)
        best = best_candidate_value(
            state.target_critics, repeated, actions, self.candidates, self.minimum_weight
        )
        return batch.rewards + self.discount * (1 - batch.terminations) * best

    def perturbation_loss(
        self,
        perturbation: Perturbation,
        vae: ActionVAE,
        critics: Ensemble,
        observations: Float[Array, "batch observation"],
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, ""]:
        """-mean Q_1(s, a + xi(s, a)), a ~ VAE (Eq. 12)."""
        actions = proposed_actions(vae, perturbation, observations, key=key)
        return -action_values(critics, observations, actions)[0].mean()

    def update(
        self, state: BCQState, batch: Transitions, *, step: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[BCQState, Metrics]:
        """VAE, critics, perturbation, targets (Algorithm 1)."""
        vae_key, target_key, perturbation_key = jax.random.split(key, 3)
        observations = state.normalizer.normalize(batch.observations)
        vae_loss, gradient = eqx.filter_value_and_grad(ActionVAE.loss)(
            state.vae, observations, batch.actions, key=vae_key
        )
        vae, vae_optimizer = apply_gradient(self.optimizer, state.vae, gradient, state.vae_optimizer)
        state = eqx.tree_at(lambda s: (s.vae, s.vae_optimizer), state, (vae, vae_optimizer))

        targets = jax.lax.stop_gradient(self.targets(state, batch, key=target_key))
        gradient, metrics = eqx.filter_grad(bellman_loss, has_aux=True)(
            state.critics, batch, observations, targets
        )
        critics, critic_optimizer = apply_gradient(
            self.optimizer, state.critics, gradient, state.critic_optimizer
        )
        gradient = eqx.filter_grad(self.perturbation_loss)(
            state.perturbation, vae, critics, observations, key=perturbation_key
        )
        perturbation, perturbation_optimizer = apply_gradient(
            self.optimizer, state.perturbation, gradient, state.perturbation_optimizer
        )
        state = BCQState(
            vae=vae,
            perturbation=perturbation,
            target_perturbation=move_towards(state.target_perturbation, perturbation, self.target_rate),
            critics=critics,
            target_critics=move_towards(state.target_critics, critics, self.target_rate),
            vae_optimizer=vae_optimizer,
            perturbation_optimizer=perturbation_optimizer,
            critic_optimizer=critic_optimizer,
            normalizer=state.normalizer,
        )
        return state, metrics | {"vae/loss": vae_loss}

    def policy(self, state: BCQState) -> "BCQPolicy":
        """The best of `act_candidates` perturbed proposals."""
        return BCQPolicy(state.vae, state.perturbation, state.critics, state.normalizer, self.act_candidates)


class BCQPolicy(Policy):
    """Takes the proposal of highest Q_1; its choice has no density."""

    vae: ActionVAE
    perturbation: Perturbation
    critics: Ensemble
    normalizer: GaussianNormalizer
    candidates: int = eqx.field(static=True)

    def start(self, batch_size: int) -> None:
        """Nothing to remember."""

    def act(
        self, observations: Float[Array, "batch observation"], memory: None, *, key: PRNGKeyArray
    ) -> tuple[Float[Array, "batch action"], None]:
        """argmax_j Q_1(s, a_j) (Eq. 11)."""
        repeated = jnp.repeat(self.normalizer.normalize(observations), self.candidates, axis=0)
        actions = proposed_actions(self.vae, self.perturbation, repeated, key=key)
        return best_of(actions, action_values(self.critics, repeated, actions)[0], self.candidates), None


def proposed_actions(
    vae: ActionVAE,
    perturbation: Perturbation,
    observations: Float[Array, "batch observation"],
    *,
    key: PRNGKeyArray,
) -> Float[Array, "batch action"]:
    """One perturbed action of the generative model for every observation."""
    decoded = jax.vmap(vae.decode)(observations, latents(vae, observations.shape[:1], key=key))
    return jax.vmap(perturbation)(observations, decoded)
