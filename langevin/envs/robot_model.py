"""A robot's MuJoCo model, from gymnasium's own file, edited in memory: no file is written."""

# MuJoCo ships no type stubs:
# pyright: reportAttributeAccessIssue=false

import math
from functools import cache

import mujoco

from langevin.envs.physics import installed_folder
from langevin.envs.robots import Physics, Robot
from langevin.envs.shifts import Shifts, edit_masses, edit_spec

DENSITY = 1000.0
ARENA_BYTES = 1 << 20
"""Memory for contacts of one simulation: gymnasium's models ask for 13 MB, which a thousand copies cannot have."""


@cache
def robot_model(robot: Robot, physics: Physics = "v5", shifts: Shifts = ()) -> mujoco.MjModel:
    """The compiled model, built once for each combination. With physics "v5" and no shifts it equals gymnasium's.

    **Raises:** `UsageError` for a shift of something that the robot does not have.
    """
    file = robot.d4rl_xml_file if physics == "d4rl" else robot.xml_file
    spec = mujoco.MjSpec.from_file(str(installed_folder("gymnasium") / "envs/mujoco/assets" / file))
    # Set in the compiled model instead: the compiler's own setting is deprecated and logs to the working directory.
    total_mass = spec.compiler.settotalmass if spec.compiler.settotalmass > 0 else None
    spec.compiler.settotalmass = -1
    spec.memory = ARENA_BYTES
    for shift in shifts:
        edit_spec(spec, shift)
    if physics == "d4rl" and total_mass is None:
        _old_capsule_masses(spec)
    model = spec.compile()
    edit_masses(model, total_mass, shifts)
    return model


def _old_capsule_masses(spec: mujoco.MjSpec) -> None:
    """Give capsules the mass that MuJoCo computed when D4RL was made: a cylinder half a radius longer.

    The capsule itself becomes massless and keeps the contacts.
    """
    for body in spec.bodies:
        for geom in list(body.geoms):
            if geom.type == mujoco.mjtGeom.mjGEOM_CAPSULE and math.isnan(geom.mass):
                radius, half_length = geom.size[:2]
                geom.mass = 0.0
                body.add_geom(
                    type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=[radius, half_length + radius / 2, 0],
                    pos=geom.pos, quat=geom.quat, density=DENSITY, contype=0, conaffinity=0,
                )  # fmt: skip
