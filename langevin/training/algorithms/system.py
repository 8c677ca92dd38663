"""What an algorithm is handed besides its settings: the system it controls, and the data of it."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from langevin.data.normalize import GaussianNormalizer
from langevin.data.sampling import Transitions
from langevin.data.trajectories import Trajectories
from langevin.envs.tasks import Task
from langevin.policies.base import SystemSpec


@dataclass(frozen=True)
class System:
    """Sizes and bounds of the system, and its task: rewards, terminals, goal, reference scores."""

    task: Task
    observation_size: int
    action_size: int
    action_low: Float[np.ndarray, " action"]
    action_high: Float[np.ndarray, " action"]

    def spec(self, transitions: Transitions) -> SystemSpec:
        """What a learner must know; observations are z-scored by these transitions."""
        return SystemSpec(
            self.observation_size,
            self.action_size,
            jnp.asarray(self.action_low),
            jnp.asarray(self.action_high),
            GaussianNormalizer.fit(transitions.observations),
        )

    def blank_data(self, rows: int) -> Trajectories:
        """Data of the right shape with nothing in it, to learn array shapes from without the dataset."""
        return Trajectories.blank(
            self.observation_size, self.action_size, self.action_low, self.action_high, rows
        )


def system_of(trajectories: Trajectories, task: Task) -> System:
    """The system a dataset was logged from."""
    return System(
        task,
        trajectories.observation_size,
        trajectories.action_size,
        np.asarray(trajectories.action_low, np.float32),
        np.asarray(trajectories.action_high, np.float32),
    )


Results = dict[str, Any]
"""Stage name -> finished state of one seed."""
