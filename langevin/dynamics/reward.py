"""A reward model: the expected reward of (observation, action), by least squares on the raw reward."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from langevin.data.normalize import GaussianNormalizer
from langevin.data.sampling import Transitions, sample_transitions
from langevin.dynamics.split import SplitTransitions
from langevin.nets.mlp import MLP


class RewardModel(eqx.Module):
    """Predicts rewards, in the environment's reward units a step."""

    network: MLP
    observation_normalizer: GaussianNormalizer

    def predict(
        self, observations: Float[Array, "batch observation"], actions: Float[Array, "batch action"]
    ) -> Float[Array, " batch"]:
        """Expected rewards of taking these actions."""
        inputs = jnp.concatenate([self.observation_normalizer.normalize(observations), actions], axis=-1)
        return jax.vmap(self.network)(inputs)[:, 0]

    def error(self, transitions: Transitions) -> Float[Array, ""]:
        """Mean squared error, in reward units squared."""
        predicted = self.predict(transitions.observations, transitions.actions)
        return jnp.square(predicted - transitions.rewards).mean()


class RewardState(eqx.Module):
    """Everything the training of a reward model carries from step to step."""

    model: RewardModel
    optimizer_state: optax.OptState
    held_out_error: Float[Array, ""]
    """As last measured."""


class RewardTraining(eqx.Module):
    """Training of a reward model.

    width, depth: units and number of hidden layers. learning_rate: Adam's. batch_size: rows an update.
    evaluate_every: updates between two measurements of the held-out error.
    """

    width: int = eqx.field(static=True, default=256)
    depth: int = eqx.field(static=True, default=2)
    learning_rate: float = eqx.field(static=True, default=1e-3)
    batch_size: int = eqx.field(static=True, default=256)
    evaluate_every: int = eqx.field(static=True, default=500)

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """Adam."""
        return optax.adam(self.learning_rate)

    def init(self, data: SplitTransitions, *, key: PRNGKeyArray) -> RewardState:
        """A fresh network."""
        training = data.training
        in_size = training.observations.shape[-1] + training.actions.shape[-1]
        network = MLP(in_size, 1, self.width, self.depth, jax.nn.relu, key=key)
        model = RewardModel(network, data.scales.observation)
        optimizer_state = self.optimizer.init(eqx.filter(network, eqx.is_inexact_array))
        return RewardState(model, optimizer_state, model.error(data.held_out))

    def update(
        self, state: RewardState, data: SplitTransitions, *, step: Int[Array, ""] | int, key: PRNGKeyArray
    ) -> tuple[RewardState, dict[str, Float[Array, ""]]]:
        """One step of Adam on a batch of training rows."""
        batch = sample_transitions(data.training, self.batch_size, key=key)
        normalizer = state.model.observation_normalizer
        loss, gradient = eqx.filter_value_and_grad(
            lambda network: RewardModel(network, normalizer).error(batch)
        )(state.model.network)
        updates, optimizer_state = self.optimizer.update(gradient, state.optimizer_state)
        model = RewardModel(eqx.apply_updates(state.model.network, updates), normalizer)
        held_out_error = jax.lax.cond(
            (jnp.asarray(step) + 1) % self.evaluate_every == 0,
            lambda: model.error(data.held_out),
            lambda: state.held_out_error,
        )
        metrics = {"reward/loss": loss, "reward/held_out_error": held_out_error}
        return RewardState(model, optimizer_state, held_out_error), metrics

    def done(self, state: RewardState) -> Bool[Array, ""]:
        """Never: rewards are trained for a fixed number of updates."""
        return jnp.array(False)

    def finish(self, state: RewardState) -> RewardModel:
        """The model."""
        return state.model
