"""Q-functions of z-scored observations and raw actions, several side by side."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from langevin.data.sampling import Transitions
from langevin.nets.ensemble import Ensemble
from langevin.nets.mlp import MLP
from langevin.policies.base import Metrics, SystemSpec


def make_critics(
    spec: SystemSpec,
    width: int,
    depth: int,
    *,
    activation: Callable = jax.nn.relu,
    layer_norm: bool = False,
    key: PRNGKeyArray,
) -> Ensemble:
    """Two networks of `depth` hidden layers of `width` units, each with initial values of its own.

    layer_norm: whether hidden layers are normalised, so that values of rows unlike the data stay bounded (Ball et al.
    2023, "Efficient online reinforcement learning with offline data", Section 4.2).
    """
    inputs = spec.observation_size + spec.action_size
    return Ensemble(
        lambda key: MLP(inputs, 1, width, depth, activation, layer_norm=layer_norm, key=key), 2, key=key
    )


def action_values(
    critics: Ensemble, observations: Float[Array, "batch observation"], actions: Float[Array, "batch action"]
) -> Float[Array, "critics batch"]:
    """Q_i(s, a) of every critic.

    Critic by critic and not as one batch of critics: on a CPU a product of a batch of matrices takes a sixth longer
    than the same products one by one, which two cores can also share.
    """
    inputs = jnp.concatenate([observations, actions], axis=-1)
    values = [jax.vmap(critics.member(index))(inputs)[:, 0] for index in range(critics.members)]
    return jnp.stack(values)


def bellman_loss(
    critics: Ensemble,
    batch: Transitions,
    observations: Float[Array, "batch observation"],
    targets: Float[Array, " batch"],
) -> tuple[Float[Array, ""], Metrics]:
    """sum_i mean (Q_i(s, a) - y)^2, observations z-scored; beside it what to log."""
    values = action_values(critics, observations, batch.actions)
    loss = jnp.mean((values - targets) ** 2, axis=1).sum()
    return loss, {"critic/loss": loss, "critic/value": values.mean()}


def soft_clipped_minimum(
    values: Float[Array, "critics *batch"], minimum_weight: float
) -> Float[Array, "*batch"]:
    """lambda min_i Q_i + (1 - lambda) max_i Q_i (BCQ, Eq. 13)."""
    return minimum_weight * values.min(axis=0) + (1 - minimum_weight) * values.max(axis=0)


def best_candidate_value(
    critics: Ensemble,
    observations: Float[Array, "rows observation"],
    actions: Float[Array, "rows action"],
    candidates: int,
    minimum_weight: float,
) -> Float[Array, " batch"]:
    """max_j {lambda min_i Q_i + (1 - lambda) max_i Q_i}(s, a_j) over every `candidates` rows that stand together."""
    values = soft_clipped_minimum(action_values(critics, observations, actions), minimum_weight)
    return values.reshape(-1, candidates).max(axis=1)


def best_of(
    actions: Float[Array, "rows action"], values: Float[Array, " rows"], candidates: int
) -> Float[Array, "batch action"]:
    """The action of highest value among every `candidates` rows that stand together."""
    chosen = values.reshape(-1, candidates).argmax(axis=1)
    grouped = actions.reshape(len(chosen), candidates, -1)
    return jnp.take_along_axis(grouped, chosen[:, None, None], axis=1)[:, 0]
