"""The tasks: what an observation is, what is rewarded, when an episode ends, and what scores mean."""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from jaxtyping import Bool, Float, Float32

from langevin.envs.mazes import LARGE, MEDIUM, UMAZE, Maze
from langevin.envs.robots import HALFCHEETAH, HOPPER, ROBOTS, WALKER2D, Falls, Physics, Robot
from langevin.envs.shifts import NAMED_SHIFTS, Shifts
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
    reward: Callable[[Any, Any, Any], Any] | None
    """(observations, actions, next_observations) -> rewards; NumPy or JAX, any leading axes. None where the reward
    needs what an observation does not hold (a robot's x): the simulator alone knows it."""
    termination: Callable[[Any, Any, Any], Any]
    """(observations, actions, next_observations) -> bool; NumPy or JAX, any leading axes."""
    maze: Maze | None = None
    drawn_goals: bool = False
    """Whether a maze's goal is drawn anew each episode, and then shown: the last two entries of an observation."""
    robot: Robot | None = None
    physics: Physics = "v5"
    """Of a robot: gymnasium's today, or that of D4RL's data."""
    shifts: Shifts = ()
    """What is changed of a robot's body."""

    @property
    def has_simulator(self) -> bool:
        """Whether policies can be run in the real system here, and so be scored."""
        return self.maze is not None or self.robot is not None

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


def drawn_goal_reward(
    observations: Float[Any, "*batch observation"],
    actions: Float[Any, "*batch action"],
    next_observations: Float[Any, "*batch observation"],
) -> Float[Any, "*batch"]:
    """1 for every step that ends within `GOAL_RADIUS` metres of the goal that the observation shows, else 0."""
    offset = next_observations[..., :2] - next_observations[..., -2:]
    return ((offset**2).sum(axis=-1) <= GOAL_RADIUS**2).astype(next_observations.dtype)


def never_terminates(
    observations: Float[Any, "*batch observation"],
    actions: Float[Any, "*batch action"],
    next_observations: Float[Any, "*batch observation"],
) -> Bool[Any, "*batch"]:
    """No state ends the episode: only the clock does."""
    return next_observations.__array_namespace__().zeros(next_observations.shape[:-1], bool)


def _point_maze(
    name: str, maze: Maze, max_steps: int, random_score: float, expert_score: float, drawn_goals: bool = False
) -> Task:
    return Task(
        id=f"pointmaze/multi-{name}" if drawn_goals else f"pointmaze/{name}",
        observation_size=6 if drawn_goals else 4,
        action_size=2,
        action_low=np.full(2, -1, np.float32),
        action_high=np.full(2, 1, np.float32),
        max_steps=max_steps,
        random_score=random_score,
        expert_score=expert_score,
        reward=drawn_goal_reward if drawn_goals else GoalReward((float(maze.goal[0]), float(maze.goal[1]))),
        termination=never_terminates,
        maze=maze,
        drawn_goals=drawn_goals,
    )


def _point_mazes(
    name: str, maze: Maze, max_steps: int, random_score: float, expert_score: float
) -> Iterator[Task]:
    """The maze with D4RL's goal, and with goals drawn each episode, scored on the same references as Diffuser does."""
    for drawn_goals in (False, True):
        yield _point_maze(name, maze, max_steps, random_score, expert_score, drawn_goals)


def _robot_task(
    robot: Robot, random_score: float, expert_score: float, physics: Physics = "v5", shift: str = ""
) -> Task:
    name = robot.name if physics == "v5" else f"{robot.name}-{physics}"
    return Task(
        id=f"{name}/{shift}" if shift else name,
        observation_size=robot.observation_size,
        action_size=robot.actions,
        action_low=np.full(robot.actions, -1, np.float32),
        action_high=np.full(robot.actions, 1, np.float32),
        max_steps=1000,
        random_score=random_score,
        expert_score=expert_score,
        reward=None,
        termination=never_terminates if robot is HALFCHEETAH else Falls(robot),
        robot=robot,
        physics=physics,
        shifts=NAMED_SHIFTS[f"{robot.name}/{shift}"] if shift else (),
    )


def _robot_tasks(robot: Robot, random_score: float, expert_score: float) -> Iterator[Task]:
    """A robot and its shifted variants, under both physics. Scores are on the source's references."""
    for physics in get_args(Physics):
        yield _robot_task(robot, random_score, expert_score, physics)
        for setting in NAMED_SHIFTS:
            owner, shift = setting.split("/")
            if owner == robot.name:
                yield _robot_task(robot, random_score, expert_score, physics, shift)


# References and limits are D4RL's, for maze2d-{umaze,medium,large}-v1 and the -v2 robots.
TASKS = {
    task.id: task
    for task in (
        *_point_mazes("umaze", UMAZE, max_steps=300, random_score=23.85, expert_score=161.86),
        *_point_mazes("medium", MEDIUM, max_steps=600, random_score=13.13, expert_score=277.39),
        *_point_mazes("large", LARGE, max_steps=800, random_score=6.7, expert_score=273.99),
        *_robot_tasks(HOPPER, random_score=-20.272305, expert_score=3234.3),
        *_robot_tasks(WALKER2D, random_score=1.629008, expert_score=4592.3),
        *_robot_tasks(HALFCHEETAH, random_score=-280.178953, expert_score=12135.0),
    )
}

UNSHIFTED = [task.id for task in TASKS.values() if not task.shifts]


def get_task(task_id: str, physics: Physics = "v5") -> Task:
    """The task of that id; a robot's under the physics asked for ("d4rl": hopper and hopper-d4rl are then the same).

    **Raises:** `UsageError` naming the nearest ids.
    """
    robot, _, shift = task_id.partition("/")
    if physics != "v5" and robot in ROBOTS:
        return get_task(f"{robot}-{physics}" + (f"/{shift}" if shift else ""))
    if task_id not in TASKS:
        raise UsageError(f"no task is called {task_id!r}; {nearest(task_id, TASKS, UNSHIFTED)}")
    return TASKS[task_id]


def task_of_dataset(dataset_id: str) -> Task:
    """The task a dataset id belongs to: pointmaze/umaze for pointmaze/umaze-noisy-v0, hopper for hopper/medium-v0.

    **Raises:** `UsageError` when the id has no version or names no task.
    """
    match = re.fullmatch(r"(.+)-v\d+", dataset_id)
    if match is None:
        raise UsageError(f"dataset id {dataset_id!r} must end in a version, as pointmaze/umaze-v0 does")
    owners = [task_id for task_id in TASKS if re.match(rf"{re.escape(task_id)}(?![^-/])", match[1])]
    if not owners:
        raise UsageError(f"dataset {dataset_id!r} belongs to no task; {nearest(match[1], TASKS, UNSHIFTED)}")
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
