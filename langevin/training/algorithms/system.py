"""What an algorithm is handed besides its settings: the system it controls, and the data of it."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from langevin.data.normalize import GaussianNormalizer
from langevin.data.sampling import Transitions
from langevin.data.trajectories import Trajectories
from langevin.envs.tasks import Task
from langevin.errors import UsageError
from langevin.policies.base import SystemSpec


@dataclass(frozen=True)
class System:
    """Sizes and bounds of the system, and its task: rewards, terminals, goal, reference scores."""

    task: Task
    observation_size: int
    action_size: int
    action_low: Float[np.ndarray, " action"]
    action_high: Float[np.ndarray, " action"]
    learns_endings: bool = False
    """Whether a world model must learn when the system ends an episode, for the task has no rule of it."""

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
        """Data of the right shape with nothing in it, to learn array shapes from without the dataset.

        States count up, so that data may be searched for ways from one to another.
        """
        blank = Trajectories.blank(
            self.observation_size, self.action_size, self.action_low, self.action_high, rows
        )
        states = np.broadcast_to(
            np.arange(rows + 1, dtype=np.float32)[:, None], (rows + 1, self.observation_size)
        )
        return dataclasses.replace(blank, observations=states[:-1], next_observations=states[1:])


def system_of(task: Task, *datasets: Trajectories) -> System:
    """The system of a task, as wide in its actions as its datasets: a source's may reach further than the target's.

    Raises UsageError when a source and a target have not the same dimensions.
    """
    first, *others = datasets
    for other in others:
        for name in ("observation", "action"):
            sizes = [getattr(data, f"{name}_size") for data in (first, other)]
            if sizes[0] != sizes[1]:
                raise UsageError(
                    f"the source has {sizes[0]} {name} dimensions and the target {sizes[1]}; "
                    "choose datasets of one robot"
                )
    return System(
        task,
        first.observation_size,
        first.action_size,
        np.min([data.action_low for data in datasets], axis=0).astype(np.float32),
        np.max([data.action_high for data in datasets], axis=0).astype(np.float32),
    )


Results = dict[str, Any]
"""Stage name -> finished state of one seed."""
