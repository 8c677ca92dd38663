"""Behaviour cloning: the mean action of the data by least squares, or their distribution by maximum likelihood."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from langevin.data.normalize import GaussianNormalizer
from langevin.data.sampling import Transitions
from langevin.policies.actors import DeterministicActor, DeterministicPolicy, make_actor
from langevin.policies.base import Learner, Metrics, SystemSpec
from langevin.policies.gaussian import (
    BoundedMeanActor,
    GaussianPolicy,
    SquashedGaussianActor,
    make_bounded_mean_actor,
    make_gaussian_actor,
)
from langevin.policies.optimization import apply_gradient, init_optimizer

BCActor = DeterministicActor | SquashedGaussianActor | BoundedMeanActor


class BCState(eqx.Module):
    """The actor, its optimiser and the normaliser."""

    actor: BCActor
    optimizer_state: optax.OptState
    normalizer: GaussianNormalizer


class BC(Learner):
    """Behaviour cloning; the baseline every offline learner must beat.

    gaussian: whether the policy is a Gaussian, which can act as randomly as the data did, in place of their mean
    action. squashed: whether that Gaussian is squashed into the action bounds; else its mean is held in them, its
    spread is the same everywhere, and its density is finite on actions at the bounds. learning_rate: Adam's. width,
    depth: units and number of hidden layers.
    """

    gaussian: bool = eqx.field(static=True, default=False)
    squashed: bool = eqx.field(static=True, default=True)
    learning_rate: float = eqx.field(static=True, default=3e-4)
    width: int = eqx.field(static=True, default=256)
    depth: int = eqx.field(static=True, default=2)

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """Adam."""
        return optax.adam(self.learning_rate)

    def init(self, spec: SystemSpec, *, key: PRNGKeyArray) -> BCState:
        """A fresh actor."""
        make_stochastic = make_gaussian_actor if self.squashed else make_bounded_mean_actor
        make = make_stochastic if self.gaussian else make_actor
        actor = make(spec, self.width, self.depth, key=key)
        return BCState(actor, init_optimizer(self.optimizer, actor), spec.observation_normalizer)

    def loss(self, actor: BCActor, normalizer: GaussianNormalizer, batch: Transitions) -> Float[Array, ""]:
        """mean (pi(s) - a)^2 over batch and action dimensions, or -mean log pi(a | s)."""
        observations = normalizer.normalize(batch.observations)
        if isinstance(actor, DeterministicActor):
            return jnp.mean((jax.vmap(actor)(observations) - batch.actions) ** 2)
        return -jax.vmap(actor.log_prob)(observations, batch.actions).mean()

    def update(
        self, state: BCState, batch: Transitions, *, step: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[BCState, Metrics]:
        """One step of Adam; neither step nor key is used."""
        loss, gradient = eqx.filter_value_and_grad(self.loss)(state.actor, state.normalizer, batch)
        actor, optimizer_state = apply_gradient(self.optimizer, state.actor, gradient, state.optimizer_state)
        return BCState(actor, optimizer_state, state.normalizer), {"actor/loss": loss}

    def policy(self, state: BCState) -> DeterministicPolicy | GaussianPolicy:
        """The actor."""
        if isinstance(state.actor, DeterministicActor):
            return DeterministicPolicy(state.actor, state.normalizer)
        return GaussianPolicy(state.actor, state.normalizer)
