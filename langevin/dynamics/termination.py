"""When an imagined trajectory ends: each task family's rule, as a pure function of the next observation.

A world model predicts states, not endings. The real environment's ending is a known function of the state it
has just reached (gymnasium 1.x, MuJoCo v5: ``is_healthy`` of hopper_v5.py and walker2d_v5.py), so it is
evaluated, not learned.
"""

import difflib
from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from langevin.errors import UsageError

TerminationRule = Callable[[Float[Array, "*batch observation"]], Bool[Array, "*batch"]]
"""Next observations, raw units -> True where that transition ended the episode in failure."""


def never(next_observations: Float[Array, "*batch observation"]) -> Bool[Array, "*batch"]:
    """Mazes and HalfCheetah: an episode ends at its time limit only, which is a truncation."""
    return jnp.zeros(next_observations.shape[:-1], dtype=bool)


def hopper(next_observations: Float[Array, "*batch observation"]) -> Bool[Array, "*batch"]:
    """Hopper-v5 falls: height at most 0.7 m, torso angle beyond 0.2 rad, or a state value beyond 100.

    The observation is [height, torso angle, 3 joint angles, velocities clipped to +-10], without the position
    along the track, so a velocity beyond 100 ends the real episode unseen here; no sane state gets there.
    """
    height, angle = next_observations[..., 0], next_observations[..., 1]
    bounded = jnp.all(jnp.abs(next_observations[..., 1:]) < 100.0, axis=-1)
    # Said as "not healthy", so that a NaN, which fails every comparison, counts as a fall.
    return ~(bounded & (height > 0.7) & (jnp.abs(angle) < 0.2))


def walker2d(next_observations: Float[Array, "*batch observation"]) -> Bool[Array, "*batch"]:
    """Walker2d-v5 falls: height outside (0.8, 2.0) m or torso angle outside (-1, 1) rad.

    The observation is [height, torso angle, 6 joint angles, velocities clipped to +-10].
    """
    height, angle = next_observations[..., 0], next_observations[..., 1]
    return ~((height > 0.8) & (height < 2.0) & (jnp.abs(angle) < 1.0))


TERMINATION_RULES: dict[str, TerminationRule] = {
    "pointmaze": never,
    "halfcheetah": never,
    "hopper": hopper,
    "walker2d": walker2d,
}
"""Task family, the part of a task's id before its first "/", -> its rule."""


def termination_rule(task_id: str) -> TerminationRule:
    """The rule of a task ("pointmaze/umaze", "hopper/foot_friction").

    Raises UsageError, naming the nearest families, for a family without a rule.
    """
    family = task_id.split("/")[0]
    if family not in TERMINATION_RULES:
        near = difflib.get_close_matches(family, TERMINATION_RULES) or sorted(TERMINATION_RULES)
        raise UsageError(
            f"task {task_id!r} has no termination rule: its family {family!r} is unknown; use one of "
            f"{', '.join(near)}, or add the family to TERMINATION_RULES in langevin/dynamics/termination.py"
        )
    return TERMINATION_RULES[family]


def first_terminal(terminals: Bool[Array, "*batch horizon"]) -> Bool[Array, "*batch horizon"]:
    """Which transitions of a rollout happened: those up to and *including* its first terminal one.

    The terminating transition counts, its reward too; whatever the model imagined after it does not.
    """
    ended = jnp.cumsum(terminals, axis=-1)
    return (ended - terminals) == 0
