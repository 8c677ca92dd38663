"""The robots as gymnasium environments, shifted or not, which `gymnasium.make` and Minari rebuild on any machine.

    shifts = [{"field": "gear", "name": "foot*", "value": 70.0}]
    gymnasium.make("langevin.envs.gymnasium_envs:langevin/walker2d-v0", shifts=shifts)

An environment's spec holds the physics and the shifts as plain numbers, and no file: the model is made from gymnasium's
own when the environment is.
"""

# MuJoCo ships no type stubs:
# pyright: reportAttributeAccessIssue=false

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import mujoco
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv
from gymnasium.envs.mujoco.hopper_v5 import HopperEnv
from gymnasium.envs.mujoco.walker2d_v5 import Walker2dEnv

from langevin.envs.robot_model import robot_model
from langevin.envs.robots import ROBOTS, Physics, Robot
from langevin.envs.shifts import Shifts, shift_tables, shifts_of
from langevin.envs.tasks import Task

Tables = Sequence[Mapping[str, Any]]


class _Shifted:
    """Gymnasium's environment around a model of ours; mixed into each robot's class."""

    robot: Robot

    def __init__(self, physics: Physics = "v5", shifts: Tables = (), **kwargs: Any):
        self.physics: Physics = physics
        self.shifts: Shifts = shifts_of(shifts)
        super().__init__(**kwargs)
        # EzPickle rebuilds from what it was given last.
        gymnasium.utils.EzPickle.__init__(
            self,  # type: ignore[arg-type]
            physics=physics,
            shifts=shift_tables(self.shifts),
            **kwargs,
        )

    def _initialize_simulation(self) -> tuple[Any, Any]:
        model = robot_model(self.robot, self.physics, self.shifts)
        return model, mujoco.MjData(model)

    @property
    def healthy_reward(self) -> float:
        """D4RL's environments paid it on the last step as well."""
        paid = self.physics == "d4rl" or self.is_healthy  # type: ignore[attr-defined]
        return paid * self._healthy_reward  # type: ignore[attr-defined]


class ShiftedHopper(_Shifted, HopperEnv):
    """Gymnasium's Hopper-v5 around a body of ours."""

    robot = ROBOTS["hopper"]


class ShiftedWalker2d(_Shifted, Walker2dEnv):
    """Gymnasium's Walker2d-v5 around a body of ours."""

    robot = ROBOTS["walker2d"]


class ShiftedHalfCheetah(_Shifted, HalfCheetahEnv):
    """Gymnasium's HalfCheetah-v5 around a body of ours."""

    robot = ROBOTS["halfcheetah"]


for _class in (ShiftedHopper, ShiftedWalker2d, ShiftedHalfCheetah):
    gymnasium.register(
        f"langevin/{_class.robot.name}-v0",
        entry_point=f"{__name__}:{_class.__name__}",
        max_episode_steps=1000,
    )


def environment_of(task: Task) -> gymnasium.Env:
    """A robot's task as a gymnasium environment; its spec rebuilds it from numbers alone."""
    assert task.robot is not None
    return gymnasium.make(
        f"{__name__}:langevin/{task.robot.name}-v0", physics=task.physics, shifts=shift_tables(task.shifts)
    )
