"""Inverse dynamics: the action that takes one observation to the next."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from langevin.data.normalize import GaussianNormalizer
from langevin.data.sampling import Transitions, sample_transitions
from langevin.nets.mlp import MLP


class InverseModel(eqx.Module):
    """I(s, s') -> a, clipped to the range of the data's actions.

    The network sees the z-scored observation and the z-scored *difference* to the next one: differences are
    small against positions, and the action is in them.
    """

    network: MLP
    observation_normalizer: GaussianNormalizer
    difference_normalizer: GaussianNormalizer
    action_low: Float[Array, " action"]
    action_high: Float[Array, " action"]

    def predict(
        self,
        observations: Float[Array, "batch observation"],
        next_observations: Float[Array, "batch observation"],
    ) -> Float[Array, "batch action"]:
        """Actions in the environment's units."""
        standard = self.observation_normalizer.normalize(observations)
        difference = self.difference_normalizer.normalize(next_observations - observations)
        actions = jax.vmap(self.network)(jnp.concatenate([standard, difference], axis=-1))
        return jnp.clip(actions, self.action_low, self.action_high)


class InverseState(eqx.Module):
    """An inverse model in training."""

    model: InverseModel
    optimizer_state: optax.OptState


class InverseTraining(eqx.Module):
    """Least squares on the action (off-dynamics planner, Eq. 6), Adam.

    width, depth: of the ReLU network. learning_rate: Adam's.
    """

    width: int = eqx.field(static=True, default=256)
    depth: int = eqx.field(static=True, default=2)
    batch_size: int = eqx.field(static=True, default=256)
    learning_rate: float = eqx.field(static=True, default=1e-3)

    def init(self, transitions: Transitions, *, key: PRNGKeyArray) -> InverseState:
        """A fresh network, normalisers fitted to the data."""
        observations, actions = transitions.observations, transitions.actions
        size, action_size = observations.shape[1], actions.shape[1]
        network = MLP(2 * size, action_size, self.width, self.depth, jax.nn.relu, key=key)
        model = InverseModel(
            network,
            GaussianNormalizer.fit(observations),
            GaussianNormalizer.fit(transitions.next_observations - observations),
            actions.min(axis=0),
            actions.max(axis=0),
        )
        return InverseState(model, self._optimizer().init(eqx.filter(network, eqx.is_inexact_array)))

    def update(
        self, state: InverseState, transitions: Transitions, *, step: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[InverseState, dict[str, Float[Array, ""]]]:
        """Draw a batch and take one gradient step on mean (I(s, s') - a)^2."""
        batch = sample_transitions(transitions, self.batch_size, key=key)
        model = state.model

        def loss(network: MLP) -> Float[Array, ""]:
            standard = model.observation_normalizer.normalize(batch.observations)
            difference = model.difference_normalizer.normalize(batch.next_observations - batch.observations)
            predicted = jax.vmap(network)(jnp.concatenate([standard, difference], axis=-1))
            return jnp.mean((predicted - batch.actions) ** 2)

        value, gradient = eqx.filter_value_and_grad(loss)(model.network)
        updates, optimizer_state = self._optimizer().update(gradient, state.optimizer_state)
        network = eqx.apply_updates(model.network, updates)
        model = eqx.tree_at(lambda m: m.network, model, network)
        return InverseState(model, optimizer_state), {"inverse/loss": value}

    def finish(self, state: InverseState) -> InverseModel:
        """The trained model."""
        return state.model

    def _optimizer(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)
