"""A learned controller: the action that leads from where a system is to where a plan wants it (inverse dynamics).

Ajay et al. 2023 (Decision Diffuser) execute planned states by such a model, because planned actions are the noisier
half of a plan; theirs looks one step ahead, ours one row of the plan, so that a row's jitter weighs less.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from langevin.nets.mlp import MLP
from langevin.policies.optimization import apply_gradient, init_optimizer


class InverseController(eqx.Module):
    """Observation and the position wanted one row later -> action; all in [-1, 1]."""

    network: MLP

    def __call__(
        self, observation: Float[Array, " observation"], position: Float[Array, " goal"]
    ) -> Float[Array, " action"]:
        # The way to go is small beside the places: given by itself, it need not be learned as their difference.
        offset = position - observation[: position.size]
        return jnp.tanh(self.network(jnp.concatenate([observation, 10 * offset])))


class InverseState(eqx.Module):
    """A controller in training."""

    controller: InverseController
    optimizer_state: optax.OptState


class InverseTraining(eqx.Module):
    """How the controller is built and trained: a ReLU network, by the square error of its actions."""

    width: int = eqx.field(static=True, default=128)
    depth: int = eqx.field(static=True, default=2)
    learning_rate: float = eqx.field(static=True, default=1e-3)

    @property
    def optimizer(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)

    def init(
        self, observation_size: int, goal_size: int, action_size: int, *, key: PRNGKeyArray
    ) -> InverseState:
        """A fresh network."""
        network = MLP(observation_size + goal_size, action_size, self.width, self.depth, key=key)
        controller = InverseController(network)
        return InverseState(controller, init_optimizer(self.optimizer, controller))

    def loss(
        self,
        controller: InverseController,
        observations: Float[Array, "batch rows observation"],
        actions: Float[Array, "batch rows action"],
        mask: Bool[Array, "batch rows"],
        goal_size: int,
    ) -> Float[Array, ""]:
        """Mean square error of each row's action, given the next row's position; rows with a real successor only."""
        found = jax.vmap(jax.vmap(controller))(observations[:, :-1], observations[:, 1:, :goal_size])
        errors = ((found - actions[:, :-1]) ** 2).mean(axis=-1)
        return jnp.where(mask[:, 1:], errors, 0.0).sum() / jnp.maximum(mask[:, 1:].sum(), 1)

    def update(
        self,
        state: InverseState,
        observations: Float[Array, "batch rows observation"],
        actions: Float[Array, "batch rows action"],
        mask: Bool[Array, "batch rows"],
        goal_size: int,
    ) -> tuple[InverseState, Float[Array, ""]]:
        """One gradient step; the loss before it."""
        loss, gradient = eqx.filter_value_and_grad(self.loss)(
            state.controller, observations, actions, mask, goal_size
        )
        controller, optimizer_state = apply_gradient(
            self.optimizer, state.controller, gradient, state.optimizer_state
        )
        return InverseState(controller, optimizer_state), loss
