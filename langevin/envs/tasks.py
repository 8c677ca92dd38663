"""The tasks: what an observation is, what is rewarded, when an episode ends, and what scores mean."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32

from langevin.envs.mazes import LARGE, MEDIUM, UMAZE, Maze
from langevin.errors import UsageError, nearest

GOAL_RADIUS = 0.5


@dataclass(frozen=True, eq=False)
class Task:
    """One control problem. Tasks are compared by identity: `get_task` gives each id one object."""

    id: str
    observation_size: int
    action_size: int
    action_low: Float32[np.ndarray, " action"]
    action_high: Float32[np.ndarray, " action"]
    max_steps: int
    """Environment steps after which an episode is truncated."""
    random_score: float
    """Return of a random policy, in reward units: normalised score 0."""
    expert_score: float
    """Return of the reference expert, in reward units: normalised score 100."""
    reward: Callable[[Any, Any, Any], Any]
    """(observations, actions, next_observations) -> rewards; NumPy or JAX, any leading axes."""
    termination: Callable[[Any, Any, Any], Any]
    """(observations, actions, next_observations) -> bool; NumPy or JAX, any leading axes."""
    maze: Maze | None = None

    @property
    def has_simulator(self) -> bool:
        """Whether policies can be run in the real system here, and so be scored."""
        return self.maze is not None

    def normalized_score(self, returns: Any) -> Any:
        """D4RL's score: 0 for the random reference, 100 for the expert's."""
        return 100 * (np.asarray(returns) - self.random_score) / (self.expert_score - self.random_score)


@dataclass(frozen=True)
class GoalReward:
    """1 for every step that ends within `GOAL_RADIUS` metres of the goal (D4RL's maze2d), else 0."""

    goal: tuple[float, float]

    def __call__(
        self,
        observations: Float[Any, "*batch observation"],
        actions: Float[Any, "*batch action"],
        next_observations: Float[Any, "*batch observation"],
    ) -> Float[Any, "*batch"]:
        offset_x = next_observations[..., 0] - self.goal[0]
        offset_y = next_observations[..., 1] - self.goal[1]
        return (offset_x**2 + offset_y**2 <= GOAL_RADIUS**2).astype(next_observations.dtype)


def never_terminates(
    observations: Float[Any, "*batch observation"],
    actions: Float[Any, "*batch action"],
    next_observations: Float[Any, "*batch observation"],
) -> Bool[Any, "*batch"]:
    """No state ends the episode: only the clock does."""
    return next_observations.__array_namespace__().zeros(next_observations.shape[:-1], bool)


def _point_maze(name: str, maze: Maze, max_steps: int, random_score: float, expert_score: float) -> Task:
    return Task(
        id=f"pointmaze/{name}",
        observation_size=4,
        action_size=2,
        action_low=np.full(2, -1, np.float32),
        action_high=np.full(2, 1, np.float32),
        max_steps=max_steps,
        random_score=random_score,
        expert_score=expert_score,
        reward=GoalReward((float(maze.goal[0]), float(maze.goal[1]))),
        termination=never_terminates,
        maze=maze,
    )


# References and limits are D4RL's for maze2d-{umaze,medium,large}-v1.
TASKS = {
    task.id: task
    for task in (
        _point_maze("umaze", UMAZE, max_steps=300, random_score=23.85, expert_score=161.86),
        _point_maze("medium", MEDIUM, max_steps=600, random_score=13.13, expert_score=277.39),
        _point_maze("large", LARGE, max_steps=800, random_score=6.7, expert_score=273.99),
    )
}


def get_task(task_id: str) -> Task:
    """The task of that id.

    **Raises:** `UsageError` naming the nearest ids.
    """
    if task_id not in TASKS:
        raise UsageError(f"no task is called {task_id!r}; {nearest(task_id, TASKS)}")
    return TASKS[task_id]


def task_of_dataset(dataset_id: str) -> Task:
    """The task a dataset id belongs to: pointmaze/umaze for pointmaze/umaze-v0 and pointmaze/umaze-noisy-v0.

    **Raises:** `UsageError` when the id has no version or names no task.
    """
    match = re.fullmatch(r"(.+)-v\d+", dataset_id)
    if match is None:
        raise UsageError(f"dataset id {dataset_id!r} must end in a version, as pointmaze/umaze-v0 does")
    owners = [task_id for task_id in TASKS if f"{match[1]}-".startswith(f"{task_id}-")]
    if not owners:
        raise UsageError(f"dataset {dataset_id!r} belongs to no task; {nearest(match[1], TASKS)}")
    return TASKS[max(owners, key=len)]


LOGGED = "logged"
"""Id of the task of logs whose system is not one of `TASKS`: it is known by its data alone."""


def find_task(metadata: Mapping[str, Any], dataset_id: str) -> Task | None:
    """The task of a dataset, from its metadata, else from its id; None for logs of another system."""
    try:
        return get_task(metadata["task"]) if metadata.get("task") else task_of_dataset(dataset_id)
    except UsageError:
        return None


def logged_task(
    observation_size: int,
    action_low: Float32[np.ndarray, " action"],
    action_high: Float32[np.ndarray, " action"],
) -> Task:
    """The task of logs of a system that is not simulated here: no reward function, no reference scores.

    Episodes never terminate, which a world model needs to know; see `Task.has_simulator`.
    """
    return Task(
        id=LOGGED,
        observation_size=observation_size,
        action_size=len(action_low),
        action_low=np.asarray(action_low, np.float32),
        action_high=np.asarray(action_high, np.float32),
        max_steps=0,
        random_score=math.nan,
        expert_score=math.nan,
        reward=_unknown_reward,
        termination=never_terminates,
    )


def _unknown_reward(observations: Any, actions: Any, next_observations: Any) -> Any:
    raise UsageError("the reward of a logged system is known at the logged transitions only")
