"""A saved policy that remembers collects data episode by episode: nothing of one is carried into the next."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from langevin.envs.robot_datasets import run_streams
from langevin.envs.tasks import get_task
from langevin.experiments.datasets import actor_of_policy
from langevin.policies.base import Policy
from langevin.progress import SilentProgress


class Counting(Policy):
    """Its memory: steps of this episode, one number for the whole batch as a plan's age is, and what it has earned."""

    actions: Array

    def start(self, batch_size):
        return jnp.int32(0), jnp.zeros(batch_size)

    def act(self, observations, memory, *, key):
        age, earned = memory
        taken = 0.01 * age + 0.001 * earned[:, None] + 0 * self.actions
        return jnp.broadcast_to(taken, (observations.shape[0], self.actions.size)), (age + 1, earned)

    def observe(self, memory, rewards):
        return memory[0], memory[1] + rewards


def test_each_episode_has_its_own_memory():
    actor, rng = actor_of_policy(Counting(jnp.zeros(3))), np.random.default_rng(0)
    observations = np.zeros((2, 11), np.float32)
    rewards = np.array([1.0, 3.0], np.float32)
    np.testing.assert_allclose(actor.act(observations, rng), 0)
    actor.told(rewards, np.array([False, False]))
    np.testing.assert_allclose(actor.act(observations, rng)[:, 0], [0.011, 0.013], rtol=1e-5)
    actor.told(rewards, np.array([True, False]))
    np.testing.assert_allclose(actor.act(observations, rng)[:, 0], [0.0, 0.026], rtol=1e-5, atol=1e-7)


def test_in_a_stream_the_first_action_of_every_episode_is_a_fresh_ones():
    """Hopper falls many times in 400 steps; at each restart the count begins at nought, and rises until the next."""
    actor = actor_of_policy(Counting(jnp.zeros(3)))
    rows = run_streams(get_task("hopper"), actor, 400, np.random.default_rng(0), SilentProgress())
    ended = rows["terminations"] | rows["truncations"]
    assert ended.sum() > 2
    first = np.concatenate([[True], ended[:-1]])
    np.testing.assert_allclose(rows["actions"][first], 0)
    assert (rows["actions"][~first] > 0).all()
