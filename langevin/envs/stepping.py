"""Batched stepping of the real systems in closed loop."""

import os

from langevin.envs.locomotion import LocomotionSimulator
from langevin.envs.point_maze import PointMazeSimulator
from langevin.envs.simulator import Simulator
from langevin.envs.tasks import Task
from langevin.errors import UsageError


def make_simulator(task: Task, batch_size: int, threads: int | None = None) -> Simulator:
    """`batch_size` copies of the task's environment, stepped by `threads` threads (default: one a core).

    **Raises:** `UsageError` for a task without a simulator or a batch of none.
    """
    if batch_size < 1:
        raise UsageError(f"a simulator needs at least one environment, got batch_size {batch_size}")
    if threads is not None and threads < 1:
        raise UsageError(f"a simulator needs at least one thread, got {threads}")
    if not task.has_simulator:
        raise UsageError(f"a {task.id} system has no simulator here, so policies cannot be run in it")
    kind = PointMazeSimulator if task.maze is not None else LocomotionSimulator
    return kind(task, batch_size, threads or os.cpu_count() or 1)
