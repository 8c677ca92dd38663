"""Small logs of systems in which it is plain what an action came to."""

import numpy as np

from langevin.data.trajectories import Trajectories
from langevin.envs.tasks import logged_task
from langevin.training.algorithms.system import System


def bandit(episodes=200, length=3):
    """Episodes in which every action is -0.5, which earns nothing, or 0.5, which earns 1; states are noise."""
    rng = np.random.default_rng(0)
    rows = episodes * length
    actions = rng.choice([-0.5, 0.5], (rows, 1))
    states = rng.normal(size=(episodes, length + 1, 2))
    return joined(states, actions, (actions[:, 0] > 0).astype(np.float32))


def line(episodes=200, length=5):
    """A point on a line that starts in its middle and is pushed all the way to one side, or to the other."""
    rng = np.random.default_rng(0)
    pushes = rng.choice([-0.8, 0.8], episodes)
    states = np.zeros((episodes, length + 1, 4))
    states[..., 0] = 0.25 * pushes[:, None] * np.arange(length + 1)
    states[..., 1] = rng.normal(0, 1, (episodes, length + 1))
    return joined(states, np.repeat(pushes, length)[:, None], np.zeros(episodes * length))


def joined(states, actions, rewards):
    """Equally long episodes, each cut off at its end."""
    episodes, length = states.shape[0], states.shape[1] - 1
    ends = length * np.arange(1, episodes + 1)
    rows = np.arange(episodes * length)
    return Trajectories(
        observations=states[:, :-1].reshape(-1, states.shape[2]),
        actions=actions,
        rewards=rewards,
        terminations=np.zeros(len(rows), bool),
        truncations=np.isin(rows + 1, ends),
        next_observations=states[:, 1:].reshape(-1, states.shape[2]),
        episode_ends=ends,
        action_low=-np.ones(actions.shape[1]),
        action_high=np.ones(actions.shape[1]),
    )


def system_of_log(trajectories, task=None):
    """The system of a log, with a task of nothing but its data unless one is given."""
    low, high = trajectories.action_low, trajectories.action_high
    size = trajectories.observation_size
    return System(task or logged_task(size, low, high), size, trajectories.action_size, low, high)
