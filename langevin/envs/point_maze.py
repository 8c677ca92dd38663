"""Batched stepping of the point mazes: one persistent thread pool over all environments."""

import threading
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32
from mujoco import MjData  # pyright: ignore[reportAttributeAccessIssue]
from mujoco.rollout import Rollout

from langevin.envs.physics import SPEED_LIMIT, point_maze_model
from langevin.envs.simulator import Simulator, require_finite
from langevin.envs.tasks import Task
from langevin.errors import UsageError

GOAL_NOISE = 0.1
"""Half-width in metres of the uniform noise around the centre of a drawn goal's cell."""
START_NOISE = 0.1
"""Half-width in metres of the uniform noise around the centre of the cell where an episode starts."""


class PointMazeSimulator(Simulator):
    """The ball in a maze: the observation [x, y, x velocity, y velocity] (metres, seconds) is the state, and where
    goals are drawn the goal's [x, y] stands after it.

    Steps equal gymnasium-robotics' PointMaze-v3: velocities are clipped to `SPEED_LIMIT` before the step and
    shown as they are after it, and the contact solver starts from the last step's acceleration.
    """

    def __init__(self, task: Task, batch_size: int, threads: int):
        assert task.maze is not None
        self.task, self.batch_size = task, batch_size
        assert task.reward is not None
        self._maze, self._reward = task.maze, task.reward
        self._model = point_maze_model(task.maze)
        self._data = [MjData(self._model) for _ in range(threads)]
        self._pool = Rollout(nthread=threads if threads > 1 else 0)
        # MuJoCo releases the interpreter while it steps, and a callback out of JAX may come from any thread.
        self._lock = threading.Lock()
        self._states = np.zeros((batch_size, 4))
        self._accelerations = np.zeros((batch_size, 2))
        self._goals = np.zeros((batch_size, 2 if task.drawn_goals else 0), np.float32)

    def reset(self, rng: np.random.Generator) -> Float32[np.ndarray, "batch observation"]:
        """A free cell drawn uniformly, `START_NOISE` around its centre, at rest."""
        self.reset_rows(np.ones(self.batch_size, bool), rng)
        return self.observe()

    def reset_rows(self, rows: Bool[np.ndarray, " batch"], rng: np.random.Generator) -> None:
        count = int(rows.sum())
        cells = rng.choice(self._maze.free_cells, size=count)
        noise = rng.uniform(-START_NOISE, START_NOISE, (count, 2))
        starts = np.concatenate([self._maze.cell_to_xy(cells) + noise, np.zeros_like(noise)], axis=1)
        # Rounded as they are shown, so that a log replays exactly.
        self._states[rows] = starts.astype(np.float32)
        self._accelerations[rows] = 0.0
        if self.task.drawn_goals:
            cells = rng.choice(self._maze.free_cells, size=count)
            self._goals[rows] = self._maze.cell_to_xy(cells) + rng.uniform(
                -GOAL_NOISE, GOAL_NOISE, (count, 2)
            )

    def observe(self) -> Float32[np.ndarray, "batch observation"]:
        return np.concatenate([self._states.astype(np.float32), self._goals], axis=1)

    def set_state(self, observations: Float[Any, "batch observation"]) -> None:
        states = np.asarray(observations, np.float64)
        shape = self.batch_size, self.task.observation_size
        if states.shape != shape:
            raise UsageError(f"expected states of shape {shape}, got {states.shape}")
        self._states, self._goals = states[:, :4].copy(), states[:, 4:].astype(np.float32)
        self._accelerations = np.zeros((self.batch_size, 2))

    def step(
        self, actions: Float[Any, "batch action"]
    ) -> tuple[
        Float32[np.ndarray, "batch observation"], Float32[np.ndarray, " batch"], Bool[np.ndarray, " batch"]
    ]:
        if np.shape(actions) != (self.batch_size, 2):
            raise UsageError(f"expected actions of shape {(self.batch_size, 2)}, got {np.shape(actions)}")
        observations = self.observe()
        self._states, self._accelerations = self._advance(self._states, actions, self._accelerations)
        next_observations = self.observe()
        rewards = self._reward(observations, actions, next_observations)
        return next_observations, rewards, self.task.termination(observations, actions, next_observations)

    def advance(
        self, states: Float[Any, "any_batch observation"], actions: Float[Any, "any_batch action"]
    ) -> tuple[Float32[np.ndarray, "any_batch observation"], Float32[np.ndarray, " any_batch"]]:
        """The contact solver starts cold, so a step differs from `step`'s by its tolerance (about 1e-8)."""
        before, actions = np.asarray(states, np.float32), np.asarray(actions, np.float32)
        after, _ = self._advance(before[:, :4].astype(np.float64), actions, np.zeros((len(before), 2)))
        after = np.concatenate([after.astype(np.float32), before[:, 4:]], axis=1)
        return after, self._reward(before, actions, after)

    def _advance(
        self,
        states: Float[np.ndarray, "any_batch 4"],
        actions: Float[Any, "any_batch 2"],
        accelerations: Float[np.ndarray, "any_batch 2"],
    ) -> tuple[Float[np.ndarray, "any_batch 4"], Float[np.ndarray, "any_batch 2"]]:
        physics = np.zeros((len(states), 5))
        physics[:, 1:3] = states[:, :2]
        physics[:, 3:] = np.clip(states[:, 2:], -SPEED_LIMIT, SPEED_LIMIT)
        control = np.clip(np.asarray(actions, np.float64), self.task.action_low, self.task.action_high)
        require_finite(control)
        with self._lock:
            after, sensors = self._pool.rollout(
                self._model, self._data, physics, control[:, None], initial_warmstart=accelerations
            )
        return np.asarray(after)[:, 0, 1:], np.asarray(sensors)[:, 0, :2]
