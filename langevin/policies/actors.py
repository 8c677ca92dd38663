"""Deterministic actors: a network whose tanh output covers the action bounds."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from langevin.data.normalize import GaussianNormalizer
from langevin.nets.mlp import MLP
from langevin.policies.base import Policy, SystemSpec


class DeterministicActor(eqx.Module):
    """z-scored observation -> action inside the bounds."""

    network: MLP
    action_low: Float[Array, " action"]
    action_high: Float[Array, " action"]

    def __call__(self, observation: Float[Array, " observation"]) -> Float[Array, " action"]:
        """The action for one z-scored observation."""
        low, high = jax.lax.stop_gradient((self.action_low, self.action_high))
        return low + (high - low) * (jnp.tanh(self.network(observation)) + 1) / 2


def make_actor(spec: SystemSpec, width: int, depth: int, *, key: PRNGKeyArray) -> DeterministicActor:
    """A ReLU network of `depth` hidden layers of `width` units."""
    network = MLP(spec.observation_size, spec.action_size, width, depth, jax.nn.relu, key=key)
    return DeterministicActor(network, spec.action_low, spec.action_high)


class DeterministicPolicy(Policy):
    """Acts by an actor; has no memory and no density."""

    actor: DeterministicActor
    normalizer: GaussianNormalizer

    def start(self, batch_size: int) -> None:
        """Nothing to remember."""

    def act(
        self, observations: Float[Array, "batch observation"], memory: None, *, key: PRNGKeyArray
    ) -> tuple[Float[Array, "batch action"], None]:
        """The actor's action for every observation; the key is not used."""
        return jax.vmap(self.actor)(self.normalizer.normalize(observations)), None
