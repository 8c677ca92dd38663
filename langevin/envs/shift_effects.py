"""What a physics shift does: the numbers it changes in the model, and how far one step leads elsewhere."""

# MuJoCo ships no type stubs:
# pyright: reportAttributeAccessIssue=false

from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from jaxtyping import Float

from langevin.envs.robot_model import robot_model
from langevin.envs.shifts import OWNERS, PhysicsShift
from langevin.envs.stepping import make_simulator
from langevin.envs.tasks import Task, get_task

COMPARED_ROWS = 2_000


def changed_fields(task: Task) -> list[dict[str, Any]]:
    """Field, name, value before and value after, of every element that a shifted task's shifts are about."""
    assert task.robot is not None
    source, target = robot_model(task.robot, task.physics), robot_model(task.robot, task.physics, task.shifts)
    found = []
    for shift in task.shifts:
        for name in _names(source, shift):
            before, after = _value(source, shift, name), _value(target, shift, name)
            found.append({"field": shift.field, "name": name, "before": before, "after": after})
    return found


def one_step_difference(
    task: Task, observations: Float[np.ndarray, "rows observation"], actions: Float[np.ndarray, "rows action"]
) -> float:
    """Mean over rows and dimensions of |next state here - next state of the source|, in standard deviations of what one
    step changes in the source. At most COMPARED_ROWS rows are compared, evenly spaced, all at x = 0: a spring on x,
    which no observation shows, is not seen."""
    assert task.robot is not None
    rows = np.linspace(0, len(observations) - 1, min(COMPARED_ROWS, len(observations))).astype(int)
    states, taken = observations[rows], actions[rows]
    source = get_task(task.robot.name, task.physics)
    here, there = (make_simulator(of, 1).advance(states, taken)[0] for of in (task, source))
    spread = (there - states).std(axis=0)
    return float((np.abs(here - there) / np.where(spread > 0, spread, 1.0)).mean())


def _names(model: Any, shift: PhysicsShift) -> list[str]:
    if shift.field not in OWNERS:
        return [""]
    owner = OWNERS[shift.field]
    count = {"body": model.nbody, "geom": model.ngeom, "actuator": model.nu, "joint": model.njnt}[owner]
    names = [_name(model, owner, index) for index in range(count)]
    return [name for name in names if name and fnmatchcase(name, shift.name)]


def _name(model: Any, owner: str, index: int) -> str:
    """An actuator without a name goes by its joint's."""
    name = getattr(model, owner)(index).name
    return name if name or owner != "actuator" else model.joint(int(model.actuator_trnid[index, 0])).name


def _value(model: Any, shift: PhysicsShift, name: str) -> float:
    if shift.field == "total_mass":
        return float(model.body_mass.sum())
    if shift.field == "gravity":
        return -float(model.opt.gravity[2])
    owner = OWNERS[shift.field]
    count = {"body": model.nbody, "geom": model.ngeom, "actuator": model.nu, "joint": model.njnt}[owner]
    index = next(index for index in range(count) if _name(model, owner, index) == name)
    element = getattr(model, owner)(index)
    value = {
        "mass": lambda: element.mass[0],
        "radius": lambda: element.size[0],
        "half_length": lambda: element.size[1],
        "friction": lambda: element.friction[0],
        "gear": lambda: element.gear[0],
        "control_range": lambda: element.ctrlrange[1],
        "stiffness": lambda: np.ravel(element.stiffness)[0],
        "damping": lambda: model.dof_damping[model.jnt_dofadr[index]],
    }[shift.field]()
    return float(value)
