"""Gradient steps on Equinox modules: arrays move, everything else stays."""

from typing import Any, TypeVar

import equinox as eqx
import jax
import optax
from jaxtyping import Array, Float

Module = TypeVar("Module")


def cosine_adam(learning_rate: float, decay_steps: int | None) -> optax.GradientTransformation:
    """Adam whose learning rate falls to 0 over `decay_steps` updates by a cosine; 0 or none keeps it as it is."""
    if not decay_steps:
        return optax.adam(learning_rate)
    return optax.adam(optax.cosine_decay_schedule(learning_rate, decay_steps))


def init_optimizer(optimizer: optax.GradientTransformation, module: Any) -> optax.OptState:
    """The optimiser's state for the module's floating-point arrays."""
    return optimizer.init(eqx.filter(module, eqx.is_inexact_array))


def apply_gradient(
    optimizer: optax.GradientTransformation, module: Module, gradient: Module, state: optax.OptState
) -> tuple[Module, optax.OptState]:
    """The module after one optimiser step, and the optimiser's new state."""
    parameters = eqx.filter(module, eqx.is_inexact_array)
    updates, state = optimizer.update(gradient, state, parameters)  # pyright: ignore[reportArgumentType]
    return eqx.apply_updates(module, updates), state


def move_towards(target: Module, online: Module, rate: float | Float[Array, ""]) -> Module:
    """target <- (1 - rate) target + rate online, for a target network or an exponential average."""
    moving, fixed = eqx.partition(target, eqx.is_inexact_array)
    source = eqx.filter(online, eqx.is_inexact_array)
    moved = jax.tree.map(lambda old, new: old + rate * (new - old), moving, source)
    return eqx.combine(moved, fixed)
