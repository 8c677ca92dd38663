"""A mechanism of two dimensions and one action: its models' weights are drawn, or those of a linear system."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from langevin.data.normalize import GaussianNormalizer
from langevin.data.sampling import Transitions
from langevin.dynamics.ensemble import DynamicsModel, GaussianNetwork
from langevin.dynamics.reward import RewardModel
from langevin.dynamics.split import Scales
from langevin.nets.ensemble import Ensemble
from langevin.nets.mlp import MLP
from langevin.planners.mechanism import Mechanism
from langevin.planners.window_diffusion import Scale

SIZE, ACTION = 2, 1
RNG = np.random.default_rng(3)
OBSERVATIONS = (2 + np.array([3.0, 0.4]) * RNG.normal(size=(200, SIZE))).astype(np.float32)
ACTIONS = RNG.uniform(-1, 1, (200, ACTION)).astype(np.float32)
NEXT = (OBSERVATIONS + np.array([0.5, 0.2]) * RNG.normal(size=(200, SIZE))).astype(np.float32)


def scales():
    """Of the rows above."""
    rows = [jnp.asarray(array) for array in (OBSERVATIONS, ACTIONS, np.zeros(200), np.zeros(200), NEXT)]
    return Scales.fit(Transitions(*rows))


def mechanism(depth=1, seed=0):
    """Three members, of which the last and the first are the elites; depth 0 makes every model linear."""
    ensemble_key, reward_key = jax.random.split(jax.random.key(seed))
    members = Ensemble(
        lambda key: GaussianNetwork(SIZE + ACTION, SIZE, 8, depth, key=key), 3, key=ensemble_key
    )
    dynamics = DynamicsModel(members, jnp.array([2, 0], jnp.int32), scales())
    reward = RewardModel(MLP(SIZE + ACTION, 1, 8, depth, jnp.tanh, key=reward_key), scales().observation)
    scale = Scale.fit(jnp.asarray(OBSERVATIONS), jnp.asarray(ACTIONS), GaussianNormalizer)
    return Mechanism(dynamics, reward, scale)


def linear_mechanism(gain, deviation, rewards):
    """s' = s + gain [z(s), z(a)] + noise, all z-scored but the change's own unit; R = rewards · [z(s), a].

    deviation: of the noise, in standard deviations of the change.
    """
    model = mechanism(depth=0)
    both = np.concatenate([gain, np.zeros_like(gain)], axis=1)
    log_variance = np.concatenate([np.zeros(SIZE), 2 * np.log(deviation)])
    last = lambda m: (
        m.dynamics.members.networks.network.layers[0].weight, m.dynamics.members.networks.network.layers[0].bias,
        m.reward.network.layers[0].weight, m.reward.network.layers[0].bias,
    )  # fmt: skip
    values = (np.stack([both] * 3), np.stack([log_variance] * 3), np.asarray(rewards)[:, None], np.zeros(1))
    return eqx.tree_at(last, model, tuple(jnp.asarray(value, jnp.float32) for value in values))
