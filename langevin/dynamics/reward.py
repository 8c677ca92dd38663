"""A reward model: the expected reward of (observation, action), by least squares on the raw reward."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from langevin.data.normalize import GaussianNormalizer
from langevin.data.sampling import Transitions
from langevin.dynamics.fitting import FitState, first_fit, fit_step
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

    def init(self, data: SplitTransitions, *, key: PRNGKeyArray) -> FitState:
        """A fresh network."""
        training = data.training
        in_size = training.observations.shape[-1] + training.actions.shape[-1]
        network = MLP(in_size, 1, self.width, self.depth, jax.nn.relu, key=key)
        return first_fit(RewardModel(network, data.scales.observation), self.optimizer, data)

    def update(
        self, state: FitState, data: SplitTransitions, *, step: Int[Array, ""] | int, key: PRNGKeyArray
    ) -> tuple[FitState, dict[str, Float[Array, ""]]]:
        """One step of Adam on a batch of training rows."""
        state, loss = fit_step(
            state, self.optimizer, data, self.batch_size, self.evaluate_every, step=step, key=key
        )
        return state, {"reward/loss": loss, "reward/held_out_error": state.held_out_error}

    def done(self, state: FitState) -> Bool[Array, ""]:
        """Never: rewards are trained for a fixed number of updates."""
        return jnp.array(False)

    def finish(self, state: FitState) -> RewardModel:
        """The model."""
        return state.model
