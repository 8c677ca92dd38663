"""A world that can be worked out by hand: one dimension, s' = s + STEP * a, reward s."""

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from langevin.data.normalize import GaussianNormalizer
from langevin.dynamics.ensemble import DynamicsModel, GaussianNetwork
from langevin.dynamics.reward import RewardModel
from langevin.dynamics.split import Scales
from langevin.nets.ensemble import Ensemble
from langevin.nets.mlp import MLP
from langevin.policies.base import Policy

STEP = 0.1


def linear(weights, bias):
    """A network without hidden layers: x W + b."""
    network = MLP(len(weights), len(bias), 1, 0, key=jax.random.key(0))
    new = jnp.asarray(weights, jnp.float32), jnp.asarray(bias, jnp.float32)
    return eqx.tree_at(lambda n: (n.layers[0].weight, n.layers[0].bias), network, new)


class Feedback(Policy):
    """a = gain * s."""

    gain: jax.Array

    def start(self, batch_size):
        return None

    def act(self, observations, memory, *, key):
        return self.gain * observations, None


@pytest.fixture(scope="session")
def dynamics() -> DynamicsModel:
    """Two members that both know the law exactly."""
    identity = GaussianNormalizer(jnp.zeros(1), jnp.ones(1))
    wide = jnp.full(1, 1e3)
    members = Ensemble(lambda key: GaussianNetwork(2, 1, 1, 0, key=key), 2, key=jax.random.key(0))
    law = linear([[0.0, 0.0], [STEP, 0.0]], [0.0, -10.0]).layers[0]
    both = jnp.stack([law.weight] * 2), jnp.stack([law.bias] * 2)
    members = eqx.tree_at(
        lambda m: (m.networks.network.layers[0].weight, m.networks.network.layers[0].bias), members, both
    )
    scales = Scales(identity, identity, identity, -wide, wide, -wide, wide)
    return DynamicsModel(members, jnp.array([0, 1], jnp.int32), scales)


@pytest.fixture(scope="session")
def reward() -> RewardModel:
    """r(s, a) = s."""
    return RewardModel(linear([[1.0], [0.0]], [0.0]), GaussianNormalizer(jnp.zeros(1), jnp.ones(1)))


@pytest.fixture(scope="session")
def feedback():
    """Makes the policy a = gain * s."""
    return lambda gain: Feedback(jnp.float32(gain))
