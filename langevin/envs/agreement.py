"""Whether a dataset is what its task would have logged."""

from collections.abc import Iterator

import numpy as np

from langevin.data.checks import Finding
from langevin.data.trajectories import Trajectories
from langevin.envs.tasks import Task
from langevin.errors import DatasetError


def require_same_shapes(trajectories: Trajectories, task: Task) -> None:
    """Refuse data of another task.

    **Raises:** `DatasetError` when observations or actions are not of the task's size or bounds.
    """
    for name in ("observation_size", "action_size"):
        expected, got = getattr(task, name), getattr(trajectories, name)
        if expected != got:
            raise DatasetError(f"the dataset's {name} is {got}, but task {task.id} has {expected}")
    for name in ("action_low", "action_high"):
        expected, got = getattr(task, name), getattr(trajectories, name)
        if not np.array_equal(expected, got):
            raise DatasetError(
                f"the dataset's {name} is {got.tolist()}, but task {task.id} has {expected.tolist()}"
            )


def find_disagreements(trajectories: Trajectories, task: Task) -> Iterator[Finding]:
    """Findings about the rows that the task's reward, termination rule, clock and walls would not have given.

    **Raises:** `DatasetError` as `require_same_shapes`.
    """
    require_same_shapes(trajectories, task)
    step = trajectories.observations, trajectories.actions, trajectories.next_observations
    if task.reward is not None:
        wrong_reward = ~np.isclose(task.reward(*step), trajectories.rewards, rtol=1e-4, atol=1e-4)
        yield from _rows(wrong_reward, "rewards", "differ from the task's reward")
    wrong_end = task.termination(*step) != trajectories.terminations
    yield from _rows(wrong_end, "terminations", "differ from the task's termination rule")
    too_long = trajectories.episode_lengths() > task.max_steps
    yield from _rows(too_long, "episode_ends", f"are episodes of more than {task.max_steps} steps")
    if task.maze is not None:
        in_wall = ~task.maze.legal(trajectories.observations[:, :2])
        yield from _rows(in_wall, "observations", "lie inside a wall")


def _rows(wrong: np.ndarray, field: str, what: str) -> Iterator[Finding]:
    if wrong.any():
        message = f"{wrong.sum()} of {wrong.size} rows, the first {np.argmax(wrong)}, {what}"
        yield Finding("warning", field, message)
