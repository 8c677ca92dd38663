"""Models whose answers are known: linear ensembles, rewards made of a few lines, and a policy of one action."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from langevin.data.normalize import GaussianNormalizer
from langevin.dynamics.ensemble import DynamicsModel, GaussianNetwork
from langevin.dynamics.reward import RewardModel
from langevin.dynamics.split import Scales
from langevin.nets.ensemble import Ensemble
from langevin.nets.mlp import MLP
from langevin.policies.base import Policy

UNIT = GaussianNormalizer(jnp.zeros(1), jnp.ones(1))


class Constant(Policy):
    """Always the same action."""

    action: jax.Array

    def start(self, batch_size):
        return None

    def act(self, observations, memory, *, key):
        return jnp.broadcast_to(self.action, (observations.shape[0], *self.action.shape)), None


def linear_ensemble(*laws, widest=1e3):
    """One member a law ((ds/ds, ds/da, ds), (dv/ds, dv/da, v)): the change of a state s under an action a, and the
    logarithm of its variance, each linear with an offset. Nothing is clipped within +-widest."""
    laws = np.asarray(laws, np.float32)
    members = Ensemble(lambda key: GaussianNetwork(2, 1, 1, 0, key=key), len(laws), key=jax.random.key(0))
    weight, bias = laws[:, :, :2].swapaxes(1, 2), laws[:, :, 2]
    networks = members.networks
    members = eqx.tree_at(
        lambda m: (
            m.networks.network.layers[0].weight, m.networks.network.layers[0].bias,
            m.networks.lowest_log_variance, m.networks.highest_log_variance,
        ),
        members,
        (
            jnp.asarray(weight), jnp.asarray(bias),
            jnp.full_like(networks.lowest_log_variance, -100.0),
            jnp.full_like(networks.highest_log_variance, 100.0),
        ),
    )  # fmt: skip
    wide = jnp.full(1, widest)
    scales = Scales(UNIT, UNIT, UNIT, -wide, wide, -wide, wide)
    return DynamicsModel(members, jnp.arange(len(laws), dtype=jnp.int32), scales)


def linear_reward(of_state, of_action):
    """r(s, a) = of_state s + of_action a."""
    network = MLP(2, 1, 1, 0, key=jax.random.key(0))
    new = jnp.array([[of_state], [of_action]], jnp.float32), jnp.zeros(1)
    return RewardModel(eqx.tree_at(lambda n: (n.layers[0].weight, n.layers[0].bias), network, new), UNIT)


def distance_reward(state_weight, action_weight, target):
    """r(s, a) = -|state_weight s + action_weight a - target|, a ReLU on either side."""
    network = MLP(2, 1, 2, 1, jax.nn.relu, key=jax.random.key(0))
    first = jnp.array([[1.0, -1.0]]) * jnp.array([[state_weight], [action_weight]])
    new = first, jnp.array([-target, target]), -jnp.ones((2, 1)), jnp.zeros(1)
    where = lambda n: (n.layers[0].weight, n.layers[0].bias, n.layers[1].weight, n.layers[1].bias)
    return RewardModel(eqx.tree_at(where, network, new), UNIT)


def never(before, actions, after):
    """No state is terminal."""
    return jnp.zeros(after.shape[:-1], bool)
