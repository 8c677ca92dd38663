"""A network fitted to transitions for a number of updates, its held-out error measured along the way."""

from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from langevin.data.sampling import Transitions, sample_transitions
from langevin.dynamics.split import SplitTransitions
from langevin.nets.mlp import MLP


@runtime_checkable
class Fitted(Protocol):
    """A model of one network."""

    network: MLP

    def error(self, transitions: Transitions) -> Float[Array, ""]:
        """What is made small."""
        ...


class FitState(eqx.Module):
    """Everything the training carries from step to step. held_out_error: as last measured."""

    model: Any
    optimizer_state: optax.OptState
    held_out_error: Float[Array, ""]


def first_fit(model: Fitted, optimizer: optax.GradientTransformation, data: SplitTransitions) -> FitState:
    """The state before the first update."""
    optimizer_state = optimizer.init(eqx.filter(model.network, eqx.is_inexact_array))
    return FitState(model, optimizer_state, model.error(data.held_out))


def fit_step(
    state: FitState,
    optimizer: optax.GradientTransformation,
    data: SplitTransitions,
    batch_size: int,
    evaluate_every: int,
    *,
    step: Int[Array, ""] | int,
    key: PRNGKeyArray,
) -> tuple[FitState, Float[Array, ""]]:
    """One step on a batch of training rows, and the loss before it; every so many steps the held-out error anew."""
    batch = sample_transitions(data.training, batch_size, key=key)

    def with_network(network: MLP) -> Any:
        return eqx.tree_at(lambda model: model.network, state.model, network)

    loss, gradient = eqx.filter_value_and_grad(lambda network: with_network(network).error(batch))(
        state.model.network
    )
    updates, optimizer_state = optimizer.update(gradient, state.optimizer_state)
    model = with_network(eqx.apply_updates(state.model.network, updates))
    held_out_error = jax.lax.cond(
        (jnp.asarray(step) + 1) % evaluate_every == 0,
        lambda: model.error(data.held_out),
        lambda: state.held_out_error,
    )
    return FitState(model, optimizer_state, held_out_error), loss
