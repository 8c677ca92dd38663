"""Q-functions of z-scored observations and raw actions, several side by side."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from langevin.nets.ensemble import Ensemble
from langevin.nets.mlp import MLP
from langevin.policies.base import SystemSpec


def make_critics(
    spec: SystemSpec, width: int, depth: int, *, activation: Callable = jax.nn.relu, key: PRNGKeyArray
) -> Ensemble:
    """Two networks of `depth` hidden layers of `width` units, each with initial values of its own."""
    inputs = spec.observation_size + spec.action_size
    return Ensemble(lambda key: MLP(inputs, 1, width, depth, activation, key=key), 2, key=key)


def action_values(
    critics: Ensemble, observations: Float[Array, "batch observation"], actions: Float[Array, "batch action"]
) -> Float[Array, "critics batch"]:
    """Q_i(s, a) of every critic."""
    inputs = jnp.concatenate([observations, actions], axis=-1)
    return jax.vmap(critics, out_axes=1)(inputs)[..., 0]
