"""Physics shifts: named edits of a MuJoCo model, and the nine settings of the off-dynamics planner (its Table I)."""

# MuJoCo ships no type stubs:
# pyright: reportAttributeAccessIssue=false

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

import mujoco

from langevin.errors import UsageError

OWNERS = {
    "mass": "body", "radius": "geom", "half_length": "geom", "friction": "geom", "gear": "actuator",
    "control_range": "actuator", "stiffness": "joint", "damping": "joint",
}  # fmt: skip
"""What each field belongs to."""
MODEL_FIELDS = ("total_mass", "gravity")
"""Fields of the model as a whole."""


@dataclass(frozen=True)
class PhysicsShift:
    """One edit: a field of a named body (mass), geom (radius, half_length, friction), actuator (gear, control_range) or
    joint (stiffness, damping), or of the whole model (total_mass, gravity), to a value or by a scale.

    name may hold `*` and `?` and then means every match; an actuator without a name goes by its joint's. friction is
    the sliding one (contact takes the larger of both geoms'), control_range the bound on both sides, gravity the
    downward acceleration. anchor: a half_length grows on both sides of the centre, or away from the "heel", the end
    nearer to the joint. keep_mass: a geom whose size changes keeps its mass instead of its density.

    **Raises:** `UsageError` for settings that make no sense; `apply` for names that the model does not have.
    """

    field: str
    name: str = ""
    value: float | int | None = None
    scale: float | int | None = None
    anchor: Literal["centre", "heel"] = "centre"
    keep_mass: bool = False

    def __post_init__(self):
        if self.field not in (*OWNERS, *MODEL_FIELDS):
            raise UsageError(
                f"a shift's field must be one of {', '.join((*OWNERS, *MODEL_FIELDS))}; got {self.field!r}"
            )
        if (self.value is None) == (self.scale is None):
            raise UsageError(f"the shift of {self.field} needs either a value or a scale, not both or none")
        given = self.scale if self.value is None else self.value
        assert given is not None
        if not math.isfinite(given):
            raise UsageError(f"the shift of {self.field} must be a finite number, got {given}")
        if self.field in ("mass", "total_mass", "radius", "half_length", "control_range") and given <= 0:
            raise UsageError(f"{self.field} must stay above 0, got {given}")
        if given < 0 and self.field != "gravity":
            raise UsageError(f"{self.field} must not be negative, got {given}")
        if (self.field in OWNERS) != bool(self.name):
            owner = OWNERS.get(self.field)
            raise UsageError(
                f"the shift of {self.field} needs the name of a {owner}" if owner
                else f"{self.field} belongs to the whole model; leave out the name {self.name!r}"
            )  # fmt: skip
        if self.field not in ("radius", "half_length") and (self.keep_mass or self.anchor != "centre"):
            raise UsageError(f"keep_mass and anchor go with radius and half_length, not with {self.field}")

    def new(self, old: float) -> float:
        """What the field becomes."""
        return float(old * self.scale if self.value is None else self.value)  # type: ignore[operator]

    def __str__(self) -> str:
        change = f"to {self.value:g}" if self.value is not None else f"times {self.scale:g}"
        options = (", mass kept" if self.keep_mass else "") + (
            ", from the heel" if self.anchor == "heel" else ""
        )
        return f"{self.field} {self.name} {change}{options}".replace("  ", " ")


Shifts = tuple[PhysicsShift, ...]


def shifts_of(tables: Iterable[Mapping[str, Any] | PhysicsShift]) -> Shifts:
    """Shifts from the dicts that `shift_tables` gave."""
    return tuple(table if isinstance(table, PhysicsShift) else PhysicsShift(**table) for table in tables)


def shift_tables(shifts: Shifts) -> list[dict[str, Any]]:
    """Shifts as dicts that JSON can hold, without what was left at its default."""
    default = PhysicsShift("gravity", value=0.0)
    return [
        {name: value for name, value in asdict(shift).items()
         if name == "field" or (value is not None and value != getattr(default, name))
         or (name == "value" and value is not None)}
        for shift in shifts
    ]  # fmt: skip


def edit_spec(spec: mujoco.MjSpec, shift: PhysicsShift) -> None:
    """Make the edit where MuJoCo can still derive everything else from it. Masses are `edit_masses`'.

    **Raises:** `UsageError` for a name that the model does not have.
    """
    if shift.field in ("mass", "total_mass"):
        return
    if shift.field == "gravity":
        spec.option.gravity[2] = -shift.new(-spec.option.gravity[2])
        return
    for element in _named(spec, shift):
        if shift.field in ("radius", "half_length"):
            _resize(spec, element, shift)
        elif shift.field == "friction":
            element.friction[0] = shift.new(element.friction[0])
        elif shift.field == "gear":
            element.gear[0] = shift.new(element.gear[0])
        elif shift.field == "control_range":
            bound = shift.new(element.ctrlrange[1])
            element.ctrlrange[:] = -bound, bound
        else:
            coefficients = getattr(element, shift.field)
            coefficients[0] = shift.new(coefficients[0])


def edit_masses(model: mujoco.MjModel, total_mass: float | None, shifts: Shifts) -> None:
    """Set masses in the compiled model, inertias with them, and derive again what depends on them.

    total_mass: what the model asks for, kg; None leaves the bodies as their geoms make them.

    **Raises:** `UsageError` for a body that the model does not have.
    """
    if total_mass is not None:
        mujoco.mj_setTotalmass(model, total_mass)
    for shift in shifts:
        if shift.field == "total_mass":
            mujoco.mj_setTotalmass(model, shift.new(float(model.body_mass.sum())))
        elif shift.field == "mass":
            names = [model.body(index).name for index in range(1, model.nbody)]
            for name in _matches(shift, names):
                body = model.body(name)
                ratio = shift.new(float(body.mass[0])) / float(body.mass[0])
                body.mass[:] *= ratio
                body.inertia[:] *= ratio
    mujoco.mj_setConst(model, mujoco.MjData(model))


def _resize(spec: mujoco.MjSpec, geom: Any, shift: PhysicsShift) -> None:
    """Change a capsule's size; one given by its end points keeps them as its axis."""
    if geom.type != mujoco.mjtGeom.mjGEOM_CAPSULE:
        raise UsageError(f"only a capsule's {shift.field} can be shifted; geom {geom.name!r} is none")
    index = 0 if shift.field == "radius" else 1
    if index == 1 and not math.isnan(geom.fromto[0]):
        raise UsageError(
            f"geom {geom.name!r} is given by its end points, so its half_length cannot be shifted"
        )
    if shift.keep_mass:
        geom.mass = _geom_mass(spec, geom.name)
    old = float(geom.size[index])
    geom.size[index] = shift.new(old)
    if shift.anchor == "heel":
        # The heel is the end behind the centre along x, where the joint of every foot here is.
        geom.pos[0] += shift.new(old) - old


def _geom_mass(spec: mujoco.MjSpec, name: str) -> float:
    """Mass of a geom that has a density: what its body lacks without it."""
    whole, without = spec.copy(), spec.copy()
    body = whole.geom(name).parent.name
    mass = float(whole.compile().body(body).mass[0])
    if len(list(without.geom(name).parent.geoms)) == 1:
        return mass
    without.geom(name).mass = 0.0
    return mass - float(without.compile().body(body).mass[0])


def _named(spec: mujoco.MjSpec, shift: PhysicsShift) -> list[Any]:
    owner = OWNERS[shift.field]
    name_of = (lambda a: a.name or a.target) if owner == "actuator" else (lambda element: element.name)
    elements = {name_of(element): element for element in getattr(spec, f"{owner}s")}
    return [elements[name] for name in _matches(shift, list(elements))]


def _matches(shift: PhysicsShift, names: list[str]) -> list[str]:
    found = [name for name in names if fnmatchcase(name, shift.name)]
    if not found:
        known = ", ".join(name for name in names if name)
        raise UsageError(f"the model has no {OWNERS[shift.field]} named {shift.name!r}; it has {known}")
    return found


NAMED_SHIFTS: dict[str, Shifts] = {
    # 1-3: the models of today are the paper's.
    "halfcheetah/total_mass": (PhysicsShift("total_mass", value=7.0),),
    "halfcheetah/torso_size": (PhysicsShift("radius", "torso", value=0.092),),
    "halfcheetah/control_range": (PhysicsShift("control_range", "*", value=0.5),),
    # 4: gear 0, because MuJoCo does not compile an empty control range.
    "walker2d/thigh_action": (PhysicsShift("gear", "thigh_joint", value=0.0),),
    "walker2d/foot_gear": (PhysicsShift("gear", "foot*_joint", value=70.0),),
    "walker2d/foot_length": (PhysicsShift("half_length", "foot*_geom", value=0.25),),
    "walker2d/foot_length_heel": (PhysicsShift("half_length", "foot*_geom", value=0.25, anchor="heel"),),
    "walker2d/foot_length_same_mass": (
        PhysicsShift("half_length", "foot*_geom", value=0.25, keep_mass=True),
    ),
    "hopper/foot_friction": (PhysicsShift("friction", "foot_geom", value=1.7),),
    # 8: the paper does not say which joint; rooty alone is almost no shift, all three roots hold x in place.
    "hopper/torso_stiffness": (PhysicsShift("stiffness", "rooty", value=3.0),),
    "hopper/torso_stiffness_strong": (PhysicsShift("stiffness", "root*", value=3.0),),
    # 9: the source's leg is .04 already, so the paper's ratio is kept; or its numbers, with a source of .03.
    "hopper/leg_size": (PhysicsShift("radius", "leg_geom", value=0.04 * 4 / 3),),
    "hopper/leg_size_literal_source": (PhysicsShift("radius", "leg_geom", value=0.03),),
}
"""The nine settings of the off-dynamics planner and their options, by task id."""

ALMOST_NO_SHIFT = {
    "hopper/torso_stiffness": (
        "a stiffness on rooty alone is almost no shift (mean one-step difference .0006 of a standard deviation); "
        "hopper/torso_stiffness_strong stiffens all three root joints"
    )
}
"""Settings that a person should not mistake for a shift."""
