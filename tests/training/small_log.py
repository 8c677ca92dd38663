"""A log of one dimension, the system it is of, and what the policies of a run do in it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from langevin.data.trajectories import Trajectories
from langevin.envs.tasks import logged_task
from langevin.training.algorithms.system import System


def small_log(first_ends_by_itself=False):
    """Two episodes of s' = s + 0.1 a, paid the position."""
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (60, 1)).astype(np.float32)
    after = np.cumsum(0.1 * actions, axis=0).astype(np.float32)
    states = np.concatenate([np.zeros((1, 1), np.float32), after[:-1]])
    terminations = first_ends_by_itself & (np.arange(60) == 29)
    return Trajectories(
        observations=states, actions=actions, rewards=states[:, 0], next_observations=after,
        terminations=terminations, truncations=(np.arange(60) % 30 == 29) & ~terminations,
        episode_ends=np.array([30, 60]), action_low=-np.ones(1, np.float32), action_high=np.ones(1, np.float32),
        metadata={},
    )  # fmt: skip


def small_system():
    low, high = -np.ones(1, np.float32), np.ones(1, np.float32)
    return System(logged_task(1, low, high), 1, 1, low, high)


def actions_of(policies):
    """What the first seed's policy does in five states."""

    @eqx.filter_jit
    def act(policies):
        policy = jax.tree.map(lambda leaf: leaf[0] if eqx.is_array(leaf) else leaf, policies)
        return policy.act(jnp.linspace(-1, 1, 5)[:, None], policy.start(5), key=jax.random.key(0))[0]

    return np.asarray(act(policies))
