"""When an episode of a system ends that nobody has a rule for: learned from the log's own terminations."""

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


class TerminationModel(eqx.Module):
    """Whether the system ends an episode with a transition; it sees where that leads, as a fall is a place."""

    network: MLP
    observation_normalizer: GaussianNormalizer

    def logits(
        self,
        observations: Float[Array, "*batch observation"],
        actions: Float[Array, "*batch action"],
        next_observations: Float[Array, "*batch observation"],
    ) -> Float[Array, "*batch"]:
        """Log odds of an ending."""
        normalize = self.observation_normalizer.normalize
        inputs = jnp.concatenate([normalize(observations), actions, normalize(next_observations)], axis=-1)
        rows = inputs.reshape(-1, inputs.shape[-1])
        return jax.vmap(self.network)(rows)[:, 0].reshape(inputs.shape[:-1])

    def __call__(
        self,
        observations: Float[Array, "*batch observation"],
        actions: Float[Array, "*batch action"],
        next_observations: Float[Array, "*batch observation"],
    ) -> Bool[Array, "*batch"]:
        """Whether an ending is more likely than not."""
        return self.logits(observations, actions, next_observations) > 0

    def error(self, transitions: Transitions) -> Float[Array, ""]:
        """Mean binary cross-entropy, in nats."""
        logits = self.logits(transitions.observations, transitions.actions, transitions.next_observations)
        return optax.sigmoid_binary_cross_entropy(logits, transitions.terminations).mean()


class TerminationTraining(eqx.Module):
    """Training of a termination model.

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
        size = 2 * training.observations.shape[-1] + training.actions.shape[-1]
        network = MLP(size, 1, self.width, self.depth, jax.nn.relu, key=key)
        return first_fit(TerminationModel(network, data.scales.observation), self.optimizer, data)

    def update(
        self, state: FitState, data: SplitTransitions, *, step: Int[Array, ""] | int, key: PRNGKeyArray
    ) -> tuple[FitState, dict[str, Float[Array, ""]]]:
        """One step of Adam on a batch of training rows."""
        state, loss = fit_step(
            state, self.optimizer, data, self.batch_size, self.evaluate_every, step=step, key=key
        )
        return state, {"termination/loss": loss, "termination/held_out_error": state.held_out_error}

    def finish(self, state: FitState) -> TerminationModel:
        """The model."""
        return state.model
