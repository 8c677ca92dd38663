"""The MuJoCo model of each task, edited in memory: no file is written."""

# MuJoCo ships no type stubs:
# pyright: reportAttributeAccessIssue=false

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import mujoco

from langevin.envs.mazes import Maze

WALL_HEIGHT = 0.4
SPEED_LIMIT = 5.0
"""Metres per second: gymnasium-robotics clips the ball's velocity to this *before* each step."""


@cache
def point_maze_model(maze: Maze) -> mujoco.MjModel:
    """gymnasium-robotics' force-actuated ball among the walls of a maze, built once per maze.

    The wall boxes stand in the order that gymnasium-robotics writes them, so contacts come in the same order.
    The one addition is a sensor of the ball's acceleration, which warm-starts the solver at the next step.
    """
    spec = mujoco.MjSpec.from_file(
        str(installed_folder("gymnasium_robotics") / "envs/assets/point/point.xml")
    )
    rows, columns = maze.shape
    for row in range(rows):
        for column in range(columns):
            if maze.walls[row, column]:
                spec.worldbody.add_geom(
                    name=f"block_{row}_{column}",
                    type=mujoco.mjtGeom.mjGEOM_BOX,
                    pos=[column + 0.5 - columns / 2, rows / 2 - (row + 0.5), WALL_HEIGHT / 2],
                    size=[0.5, 0.5, WALL_HEIGHT / 2],
                    contype=1,
                    conaffinity=1,
                )
    spec.add_sensor(
        name="acceleration",
        type=mujoco.mjtSensor.mjSENS_FRAMELINACC,
        objtype=mujoco.mjtObj.mjOBJ_XBODY,
        objname="particle",
    )
    return spec.compile()


def installed_folder(package: str) -> Path:
    """Folder of an installed package, without importing it (importing this one prints a notice)."""
    found = find_spec(package)
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent
