"""Datasets made on the spot: behaviour policies in the real systems."""

import math
from collections.abc import Iterator
from importlib.metadata import version

import numpy as np
from jaxtyping import Float, Int
from mujoco import MjData, mj_step  # pyright: ignore[reportAttributeAccessIssue]

from langevin.data.trajectories import Trajectories
from langevin.envs.mazes import Cell, Maze
from langevin.envs.physics import SPEED_LIMIT, point_maze_model
from langevin.envs.point_maze import GOAL_NOISE, START_NOISE
from langevin.envs.tasks import TASKS, Task, task_of_dataset
from langevin.errors import UsageError, nearest
from langevin.progress import AbstractProgress, SilentProgress

REACHED = 0.1
"""Metres from a waypoint at which the next one is taken."""
GAIN = 10.0
"""Force per metre of distance to the waypoint; the velocity is damped with gain 1."""
ROWS_A_REPORT = 10_000
RECORDED_VERSIONS = ("langevin", "mujoco", "gymnasium-robotics", "numpy")


def makeable_datasets() -> dict[str, str]:
    """Ids of the datasets that can be made here, each with a line about it."""
    return {
        f"{task_id}-v0": "waypoint controller, "
        + ("an episode a goal" if task.drawn_goals else f"{task.max_steps} steps an episode")
        for task_id, task in TASKS.items()
        if task.maze is not None
    }


def make_dataset(
    dataset_id: str,
    transitions: int,
    seed: int,
    action_noise: float = 0.0,
    progress: AbstractProgress | None = None,
) -> Trajectories:
    """Collect a dataset by its recipe: the same arguments give the same bytes.

    `action_noise` is the standard deviation of the Gaussian noise added to an action before it is clipped to
    its bounds (D4RL's noisy variant: 0.5).

    **Raises:** `UsageError` for an unknown id or a number that makes no sense.
    """
    if dataset_id not in makeable_datasets():
        raise UsageError(f"dataset {dataset_id!r} cannot be made; {nearest(dataset_id, makeable_datasets())}")
    if transitions < 1:
        raise UsageError(f"transitions must be at least 1, got {transitions}")
    if seed < 0:
        raise UsageError(f"seed must not be negative, got {seed}")
    if not (math.isfinite(action_noise) and action_noise >= 0):
        raise UsageError(f"action_noise must be a finite standard deviation >= 0, got {action_noise}")
    task = task_of_dataset(dataset_id)
    states, actions, goals, chases = _waypoint_stream(
        task, transitions, seed, action_noise, progress or SilentProgress()
    )
    ends = np.append(np.arange(task.max_steps, transitions, task.max_steps), transitions)
    observations, next_observations = states[:-1], states[1:]
    if task.drawn_goals:  # an episode is one goal's chase, and shows it
        ends = np.append(chases[1:], transitions)
        observations, next_observations = (
            np.concatenate([rows, goals], axis=1) for rows in (observations, next_observations)
        )
    truncations = np.zeros(transitions, bool)
    truncations[ends - 1] = True
    assert task.reward is not None
    return Trajectories(
        observations=observations,
        actions=actions,
        rewards=task.reward(observations, actions, next_observations),
        terminations=task.termination(observations, actions, next_observations),
        truncations=truncations,
        next_observations=next_observations,
        episode_ends=ends,
        action_low=task.action_low,
        action_high=task.action_high,
        metadata={
            "id": dataset_id,
            "task": task.id,
            "reference_scores": [task.random_score, task.expert_score],
            "physics": {"environment": "gymnasium-robotics PointMaze-v3", "time_step_seconds": 0.01},
            "recipe": {
                "controller": "waypoint",
                "gain": GAIN,
                "waypoint_radius": REACHED,
                "goal_noise": GOAL_NOISE,
                "action_noise": action_noise,
                "episode_steps": "one goal" if task.drawn_goals else task.max_steps,
                "position_reset": False,
            },
            "seed": seed,
            "versions": {name: version(name) for name in RECORDED_VERSIONS},
        },
    )


def _waypoint_stream(
    task: Task, rows: int, seed: int, action_noise: float, progress: AbstractProgress
) -> tuple[
    Float[np.ndarray, "rows_and_one 4"],
    Float[np.ndarray, "rows 2"],
    Float[np.ndarray, "rows 2"],
    Int[np.ndarray, " chases"],
]:
    """D4RL's maze2d recipe: one stream of states without resets, chasing one random goal after another.

    Returns states, actions, the goal chased at each row, and the rows at which a chase begins.

    The controller's action is clipped, the noise added, and the sum clipped again, as D4RL does: noise shows
    also where the controller is at a bound. A stream cannot be batched, so it runs on plain floats.
    """
    assert task.maze is not None
    rng, noise_rng = np.random.default_rng(seed).spawn(2)
    model = point_maze_model(task.maze)
    data = MjData(model)
    cells = task.maze.free_cells
    start = task.maze.cell_to_xy(np.array(cells[rng.integers(len(cells))]))
    # Rounded as it is stored, so that the log replays exactly.
    data.qpos[:] = (start + rng.uniform(-START_NOISE, START_NOISE, 2)).astype(np.float32)
    observations = np.empty((rows + 1, 4), np.float32)
    observations[0, :2], observations[0, 2:] = data.qpos, data.qvel
    actions = np.empty((rows, 2), np.float32)
    noise = action_noise * noise_rng.standard_normal((rows, 2)) if action_noise else None
    (x, y), (velocity_x, velocity_y) = data.qpos.tolist(), data.qvel.tolist()
    goals, chases = np.empty((rows, 2), np.float32), []
    waypoints: Iterator[tuple[float, float]] = iter(())
    waypoint, goal, chased_steps = None, (0.0, 0.0), 0
    with progress.track(rows, f"collecting {task.id}") as advance:
        for row in range(rows):
            if waypoint is not None and math.hypot(waypoint[0] - x, waypoint[1] - y) < REACHED:
                waypoint = next(waypoints, None)
            if waypoint is None or chased_steps == task.max_steps:
                route = _route(task.maze, x, y, rng)
                waypoints, goal = iter(route), route[-1]
                waypoint, chased_steps = next(waypoints), 0
                chases.append(row)
            force_x = _clip(GAIN * (waypoint[0] - x) - velocity_x, 1.0)
            force_y = _clip(GAIN * (waypoint[1] - y) - velocity_y, 1.0)
            if noise is not None:
                force_x = _clip(force_x + noise[row, 0], 1.0)
                force_y = _clip(force_y + noise[row, 1], 1.0)
            actions[row] = force_x, force_y
            goals[row] = goal
            data.ctrl[:] = actions[row]
            if abs(velocity_x) > SPEED_LIMIT or abs(velocity_y) > SPEED_LIMIT:
                data.qvel[:] = _clip(velocity_x, SPEED_LIMIT), _clip(velocity_y, SPEED_LIMIT)
            mj_step(model, data)
            (x, y), (velocity_x, velocity_y) = data.qpos.tolist(), data.qvel.tolist()
            observations[row + 1] = x, y, velocity_x, velocity_y
            chased_steps += 1
            if (row + 1) % ROWS_A_REPORT == 0:
                advance(ROWS_A_REPORT)
    return observations, actions, goals, np.array(chases)


def _route(maze: Maze, x: float, y: float, rng: np.random.Generator) -> list[tuple[float, float]]:
    """Centres of the cells on the shortest way to a random goal, and last the goal itself."""
    goal_cell: Cell = maze.free_cells[rng.integers(len(maze.free_cells))]
    goal = maze.cell_to_xy(np.array(goal_cell)) + rng.uniform(-GOAL_NOISE, GOAL_NOISE, 2)
    row, column = maze.xy_to_cell(np.array([x, y])).tolist()
    centres = maze.cell_to_xy(np.array(maze.shortest_path((row, column), goal_cell)))[1:-1]
    return [(float(a), float(b)) for a, b in [*centres, goal]]


def _clip(value: float, limit: float) -> float:
    return max(-limit, min(limit, value))
