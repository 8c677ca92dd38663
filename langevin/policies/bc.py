"""Behaviour cloning: the mean action of the data, by least squares."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from langevin.data.normalize import GaussianNormalizer
from langevin.data.sampling import Transitions
from langevin.policies.actors import DeterministicActor, DeterministicPolicy, make_actor
from langevin.policies.base import Learner, Metrics, SystemSpec
from langevin.policies.optimization import apply_gradient, init_optimizer


class BCState(eqx.Module):
    """The actor, its optimiser and the normaliser."""

    actor: DeterministicActor
    optimizer_state: optax.OptState
    normalizer: GaussianNormalizer


class BC(Learner):
    """Behaviour cloning with a deterministic actor; the baseline every offline learner must beat.

    learning_rate: Adam's. width, depth: units and number of hidden layers.
    """

    learning_rate: float = eqx.field(static=True, default=3e-4)
    width: int = eqx.field(static=True, default=256)
    depth: int = eqx.field(static=True, default=2)

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """Adam."""
        return optax.adam(self.learning_rate)

    def init(self, spec: SystemSpec, *, key: PRNGKeyArray) -> BCState:
        """A fresh actor."""
        actor = make_actor(spec, self.width, self.depth, key=key)
        return BCState(actor, init_optimizer(self.optimizer, actor), spec.observation_normalizer)

    def loss(
        self, actor: DeterministicActor, normalizer: GaussianNormalizer, batch: Transitions
    ) -> Float[Array, ""]:
        """mean (pi(s) - a)^2 over batch and action dimensions."""
        actions = jax.vmap(actor)(normalizer.normalize(batch.observations))
        return jnp.mean((actions - batch.actions) ** 2)

    def update(
        self, state: BCState, batch: Transitions, *, step: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[BCState, Metrics]:
        """One step of Adam; neither step nor key is used."""
        loss, gradient = eqx.filter_value_and_grad(self.loss)(state.actor, state.normalizer, batch)
        actor, optimizer_state = apply_gradient(self.optimizer, state.actor, gradient, state.optimizer_state)
        return BCState(actor, optimizer_state, state.normalizer), {"actor/loss": loss}

    def policy(self, state: BCState) -> DeterministicPolicy:
        """The actor."""
        return DeterministicPolicy(state.actor, state.normalizer)
