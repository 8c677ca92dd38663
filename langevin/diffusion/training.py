"""Training a denoising network: Adam, a learning rate that ramps up and decays, and an average of the weights."""

from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

Parts = TypeVar("Parts")


class DiffusionState(eqx.Module):
    """A denoising network in training: the weights, their exponential average (sampled from), the optimiser."""

    network: Any
    average: Any
    optimizer_state: optax.OptState


class DiffusionOptimizer(eqx.Module):
    """How the weights move.

    learning_rate: Adam's, after `warmup_steps` updates of linear ramp; with `decay_steps` it then falls along a
    cosine to zero at that update (none: at the last of a training that has a number of them; 0: it stays).
    average_decay: of the exponential average, per update; the average starts short (the warm-up of EDM: decay =
    min(average_decay, (1 + step) / (10 + step))).
    """

    learning_rate: float = eqx.field(static=True, default=3e-4)
    warmup_steps: int = eqx.field(static=True, default=100)
    decay_steps: int | None = eqx.field(static=True, default=None)
    average_decay: float = eqx.field(static=True, default=0.995)

    def transformation(self) -> optax.GradientTransformation:
        """Adam with the schedule above."""
        if not self.decay_steps:
            # Of no steps at all, optax's ramp never leaves its start, which is 0.
            ramp = optax.linear_schedule(0.0, self.learning_rate, self.warmup_steps)
            return optax.adam(ramp if self.warmup_steps else self.learning_rate)
        warmup = min(self.warmup_steps, max(self.decay_steps // 10, 1))
        return optax.adam(
            optax.warmup_cosine_decay_schedule(
                0.0, self.learning_rate, warmup, max(self.decay_steps, warmup + 1)
            )
        )

    def init(self, network: eqx.Module) -> DiffusionState:
        """The state before the first update; the average starts at the weights."""
        parameters = eqx.filter(network, eqx.is_inexact_array)
        average = jax.tree.map(lambda leaf: jnp.array(leaf) if eqx.is_array(leaf) else leaf, network)
        return DiffusionState(network, average, self.transformation().init(parameters))

    def update(
        self,
        state: DiffusionState,
        loss: Callable[[Any], Float[Array, ""]],
        *,
        step: Int[Array, ""],
    ) -> tuple[DiffusionState, Float[Array, ""]]:
        """One gradient step on `loss(network)` and one step of the average; returns the loss before it."""
        return self.update_with_parts(state, lambda network: (value := loss(network), value), step=step)

    def update_with_parts(
        self,
        state: DiffusionState,
        loss: Callable[[Any], tuple[Float[Array, ""], Parts]],
        *,
        step: Int[Array, ""],
    ) -> tuple[DiffusionState, Parts]:
        """The same of a loss that says what it is made of; returns what it said."""
        (_, parts), gradient = eqx.filter_value_and_grad(loss, has_aux=True)(state.network)
        parameters = eqx.filter(state.network, eqx.is_inexact_array)
        updates, optimizer_state = self.transformation().update(gradient, state.optimizer_state, parameters)
        network = eqx.apply_updates(state.network, updates)
        decay = jnp.minimum(self.average_decay, (1 + step) / (10 + step))
        moving, fixed = eqx.partition(state.average, eqx.is_inexact_array)
        moved = jax.tree.map(
            lambda old, new: decay * old + (1 - decay) * new,
            moving,
            eqx.filter(network, eqx.is_inexact_array),
        )
        return DiffusionState(network, eqx.combine(moved, fixed), optimizer_state), parts
