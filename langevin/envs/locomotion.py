"""Batched stepping of the planar robots, equal to gymnasium's environments step by step."""

# MuJoCo ships no type stubs:
# pyright: reportAttributeAccessIssue=false

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32
from mujoco import (
    MjData,
    mj_forward,
    mj_getState,
    mj_resetData,
    mj_setState,
    mj_stateSize,
    mj_step,
    mjtState,
)

from langevin.envs.robot_model import robot_model
from langevin.envs.simulator import Simulator, require_finite
from langevin.envs.tasks import Task
from langevin.errors import UsageError

WHOLE_STATE = int(mjtState.mjSTATE_INTEGRATION)


class LocomotionSimulator(Simulator):
    """A batch of robots, each with a MuJoCo state of its own, stepped by a few threads.

    Each copy keeps its solver's warm start from step to step, as gymnasium's environment does, so trajectories are
    equal bit by bit and not only in one step. MuJoCo releases the interpreter's lock while it steps.
    """

    def __init__(self, task: Task, batch_size: int, threads: int):
        assert task.robot is not None
        self.task, self.batch_size = task, batch_size
        self._robot = task.robot
        self._model = robot_model(task.robot, task.physics, task.shifts)
        self._copies = [MjData(self._model) for _ in range(batch_size)]
        self._spare: list[Any] = []
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads)
        self._lock = threading.Lock()
        self._positions = np.zeros((batch_size, self._robot.positions))
        self._velocities = np.zeros((batch_size, self._robot.positions))

    @property
    def time_step(self) -> float:
        """Seconds of an environment step."""
        return float(self._model.opt.timestep) * self._robot.frame_skip

    def reset(self, rng: np.random.Generator) -> Float32[np.ndarray, "batch observation"]:
        """Gymnasium's start: the model's initial state with noise on every position and velocity."""
        self.reset_rows(np.ones(self.batch_size, bool), rng)
        return self._observe(self._positions, self._velocities)

    def reset_rows(self, rows: Bool[np.ndarray, " batch"], rng: np.random.Generator) -> None:
        noise, shape = self._robot.reset_noise, (int(rows.sum()), self._robot.positions)
        positions = self._model.qpos0 + rng.uniform(-noise, noise, shape)
        velocities = noise * rng.standard_normal(shape) if self._robot.normal_velocities else rng.uniform(
            -noise, noise, shape
        )  # fmt: skip
        self._place(np.flatnonzero(rows), positions, velocities)

    def observe(self) -> Float32[np.ndarray, "batch observation"]:
        return self._observe(self._positions, self._velocities)

    def set_state(self, observations: Float[Any, "batch observation"]) -> None:
        """The robots stand at x = 0: an observation does not hold it, and nothing depends on it."""
        positions, velocities = self._split(observations)
        if len(positions) != self.batch_size:
            raise UsageError(f"expected {self.batch_size} states, got {len(positions)}")
        self._place(np.arange(self.batch_size), positions, velocities)

    def set_physical_state(
        self,
        positions: Float[np.ndarray, "batch positions"],
        velocities: Float[np.ndarray, "batch positions"],
    ) -> None:
        """Put the copies at whole states, x included."""
        self._place(np.arange(self.batch_size), positions, velocities)

    def physical_state(
        self,
    ) -> tuple[Float[np.ndarray, "batch positions"], Float[np.ndarray, "batch positions"]]:
        """Positions, x among them, and velocities as they are and not as they are shown."""
        return self._positions.copy(), self._velocities.copy()

    def save(self) -> Float[np.ndarray, "batch state"]:
        """Everything a copy needs to go on as if nothing had been, its solver's warm start too."""
        size = mj_stateSize(self._model, WHOLE_STATE)
        states = np.empty((self.batch_size, size))
        for copy, state in zip(self._copies, states, strict=True):
            mj_getState(self._model, copy, state, WHOLE_STATE)
        return states

    def load(self, states: Float[np.ndarray, "batch state"]) -> None:
        """Put the copies where `save` found them."""
        for row, (copy, state) in enumerate(zip(self._copies, states, strict=True)):
            mj_setState(self._model, copy, state, WHOLE_STATE)
            self._positions[row], self._velocities[row] = copy.qpos, copy.qvel

    def step(
        self, actions: Float[Any, "batch action"]
    ) -> tuple[
        Float32[np.ndarray, "batch observation"], Float32[np.ndarray, " batch"], Bool[np.ndarray, " batch"]
    ]:
        control = self._control(actions, self.batch_size)
        x_before = self._positions[:, 0].copy()
        self._advance(self._copies, control, self._positions, self._velocities)
        rewards, healthy = self._judge(x_before, control, self._positions, self._velocities)
        return self._observe(self._positions, self._velocities), rewards, ~healthy

    def advance(
        self, states: Float[Any, "any_batch observation"], actions: Float[Any, "any_batch action"]
    ) -> tuple[Float32[np.ndarray, "any_batch observation"], Float32[np.ndarray, " any_batch"]]:
        """The solver starts cold, so a step differs from `step`'s by its tolerance."""
        positions, velocities = self._split(states)
        control = self._control(actions, len(positions))
        with self._lock:
            while len(self._spare) < len(positions):
                self._spare.append(MjData(self._model))
            copies = self._spare[: len(positions)]
            for copy, position, velocity in zip(copies, positions, velocities, strict=True):
                mj_resetData(self._model, copy)
                copy.qpos[:], copy.qvel[:] = position, velocity
            self._advance(copies, control, positions, velocities)
        rewards, _ = self._judge(np.zeros(len(positions)), control, positions, velocities)
        return self._observe(positions, velocities), rewards

    def _advance(
        self,
        copies: list[Any],
        control: Float[np.ndarray, "any_batch action"],
        positions: Float[np.ndarray, "any_batch positions"],
        velocities: Float[np.ndarray, "any_batch positions"],
    ) -> None:
        """Step every copy and write its state into the arrays."""
        model, frame_skip = self._model, self._robot.frame_skip

        def work(rows: np.ndarray) -> None:
            for row in rows:
                copy = copies[row]
                copy.ctrl[:] = control[row]
                mj_step(model, copy, nstep=frame_skip)
                positions[row], velocities[row] = copy.qpos, copy.qvel

        parts = np.array_split(np.arange(len(copies)), min(self._threads, len(copies)))
        if len(parts) == 1:
            work(parts[0])
        else:
            list(self._pool.map(work, parts))

    def _judge(
        self,
        x_before: Float[np.ndarray, " any_batch"],
        control: Float[np.ndarray, "any_batch action"],
        positions: Float[np.ndarray, "any_batch positions"],
        velocities: Float[np.ndarray, "any_batch positions"],
    ) -> tuple[Float32[np.ndarray, " any_batch"], Bool[np.ndarray, " any_batch"]]:
        """Rewards, and who is healthy. D4RL's environments paid the healthy reward on the last step as well."""
        robot = self._robot
        healthy = robot.healthy(np.concatenate([positions[:, 1:], velocities], axis=1))
        paid = np.ones_like(healthy) if self.task.physics == "d4rl" else healthy
        forward = (positions[:, 0] - x_before) / self.time_step
        rewards = forward + robot.healthy_reward * paid - robot.control_cost * np.square(control).sum(axis=1)
        return rewards.astype(np.float32), healthy

    def _observe(
        self,
        positions: Float[np.ndarray, "any_batch positions"],
        velocities: Float[np.ndarray, "any_batch positions"],
    ) -> Float32[np.ndarray, "any_batch observation"]:
        limit = self._robot.velocity_clip
        return np.concatenate([positions[:, 1:], np.clip(velocities, -limit, limit)], axis=1).astype(
            np.float32
        )

    def _place(self, rows: np.ndarray, positions: np.ndarray, velocities: np.ndarray) -> None:
        for row, position, velocity in zip(rows, positions, velocities, strict=True):
            copy = self._copies[row]
            mj_resetData(self._model, copy)
            copy.qpos[:], copy.qvel[:] = position, velocity
            mj_forward(self._model, copy)
        self._positions[rows], self._velocities[rows] = positions, velocities

    def _split(self, observations: Float[Any, "any_batch observation"]) -> tuple[np.ndarray, np.ndarray]:
        """Positions with x = 0, and velocities."""
        states = np.asarray(observations, np.float64)
        size = self._robot.observation_size
        if states.ndim != 2 or states.shape[1] != size:
            raise UsageError(f"expected states of {size} entries, got an array of shape {states.shape}")
        inner = self._robot.positions - 1
        return np.concatenate([np.zeros((len(states), 1)), states[:, :inner]], axis=1), states[
            :, inner:
        ].copy()

    def _control(
        self, actions: Float[Any, "any_batch action"], rows: int
    ) -> Float[np.ndarray, "any_batch action"]:
        if np.shape(actions) != (rows, self._robot.actions):
            raise UsageError(
                f"expected actions of shape {(rows, self._robot.actions)}, got {np.shape(actions)}"
            )
        control = np.clip(np.asarray(actions, np.float64), self.task.action_low, self.task.action_high)
        require_finite(control)
        return control
