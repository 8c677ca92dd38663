"""How far a world model can be trusted: its rollouts against the simulator replaying the same actions.

Two numbers, always together. The *error*: distance between imagined and true position, step by step, under the same
actions (DyDiff, Figures 4 and 7). The *legal share*: rollouts with no state inside a wall (Figures 8, 9). A model can
have either without the other: one that ignores the actions draws legal paths that are not the policy's, one that
obeys them drives through walls it has never met.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from langevin.dynamics.ensemble import replay, rollout
from langevin.envs.behaviours import along_the_way, next_cells, straight_to, wandering_actions
from langevin.envs.stepping import make_simulator
from langevin.envs.tasks import Task
from langevin.imagination.halting import Halt, hold
from langevin.imagination.worlds import Act, DyDiffWorld, act_along

REPORTED_STEPS = (10, 50, 99)
POLICY_NAMES = ("data", "random", "medium", "good")
"""data: actions from the dataset. random: Ornstein-Uhlenbeck noise. medium: drives straight at the goal, walls or not.
good: the waypoint controller, to the task's goal. A run's own policy is added as "trained"."""

Behaviour = Callable[..., tuple[Float[Array, "rollouts horizon action"], Act | None]]


class Refinements(eqx.Module):
    """Imagined states before (index 0, the ensemble's) and after each refinement, and the actions each was given."""

    observations: list[Float[Array, "rollouts horizon observation"]]
    actions: list[Float[Array, "rollouts horizon action"]]


def closed_loop_policies(task: Task) -> dict[str, Act]:
    """The reference behaviours that react to what they see."""
    assert task.maze is not None
    maze, table = task.maze, next_cells(task.maze)
    return {
        "medium": lambda observations, *, key: straight_to(maze.goal, observations),
        "good": lambda observations, *, key: along_the_way(maze, table, observations),
    }


def refine_closed_loop(
    world: DyDiffWorld,
    act: Act,
    starts: Float[Array, "rollouts observation"],
    horizon: int,
    refinements: int,
    *,
    key: PRNGKeyArray,
) -> Refinements:
    """A policy rolled out in the ensemble, then refined again and again, acting anew after each time.

    Where the world keeps its rollouts to the data, those are refined; index 0 is the ensemble's all the same.
    """
    rollout_key, key = jax.random.split(key)
    roll = eqx.filter_jit(rollout)
    ensemble = roll(act, world.dynamics, starts, horizon, key=rollout_key)
    refined = ensemble
    if world.edge is not None:
        refined = roll(act, world.dynamics, starts, horizon, key=rollout_key, edge=world.edge)
    return _refine(world, ensemble, refined, act, refinements, key=key)


def refine_open_loop(
    world: DyDiffWorld,
    starts: Float[Array, "rollouts observation"],
    actions: Float[Array, "rollouts horizon action"],
    refinements: int,
    *,
    key: PRNGKeyArray,
) -> Refinements:
    """Given actions replayed in the ensemble; each refinement is of the last one's states, under the same actions.

    Kept to the data as in `refine_closed_loop`.
    """
    replay_key, key = jax.random.split(key)
    answer = eqx.filter_jit(replay)
    ensemble = refined = answer(world.dynamics, starts, actions[:, :-1], key=replay_key)
    if world.edge is not None:
        refined = answer(world.dynamics, starts, actions[:, :-1], key=replay_key, edge=world.edge)
    return _refine(world, (ensemble, actions), (refined, actions), None, refinements, key=key)


def _refine(world, ensemble, refined, act, refinements, *, key) -> Refinements:
    states, given = [ensemble[0]], [ensemble[1]]
    observations, actions = refined
    for sample_key, act_key in jax.random.split(key, (refinements, 2)):
        observations = _refine_once(world, observations, actions, key=sample_key)
        states.append(observations)
        given.append(actions)
        actions = actions if act is None else eqx.filter_jit(act_along)(act, observations, key=act_key)
    return Refinements(states, given)


@eqx.filter_jit
def _refine_once(world, observations, actions, *, key):
    """A program of its own, which all policies share: a refinement takes long to compile."""
    return world.refine(observations, actions, key=key)


@eqx.filter_jit
def held_where_halted(found: Refinements, halt: Halt, *, kept: bool = False) -> Refinements:
    """States and actions held from where the ensemble's rollout or its refinement leaves the data.

    Of rollouts that were kept to the data before they were refined, only their own leaving counts.
    """
    observations, actions = [], []
    for states, given in zip(found.observations, found.actions, strict=True):
        left = halt.left(states)
        left = left if kept else left | halt.left(found.observations[0])
        observations.append(hold(states, left))
        actions.append(hold(given, left))
    return Refinements(observations, actions)


def simulate(
    task: Task, starts: Float[Any, "rollouts observation"], actions: Float[Any, "rollouts horizon action"]
) -> Float[np.ndarray, "rollouts horizon observation"]:
    """The simulator under the same actions: row t + 1 answers action t."""
    simulator = make_simulator(task, len(starts))
    simulator.set_state(np.asarray(starts))
    rows = [np.asarray(starts, np.float32)]
    for step in range(actions.shape[1] - 1):
        rows.append(simulator.step(np.asarray(actions[:, step]))[0])
    return np.stack(rows, axis=1)


def position_errors(
    imagined: Float[Any, "rollouts horizon observation"], true: Float[Any, "rollouts horizon observation"]
) -> Float[np.ndarray, "rollouts horizon"]:
    """Distance between imagined and true positions, in maze cells."""
    return np.linalg.norm(np.asarray(imagined)[..., :2] - np.asarray(true)[..., :2], axis=-1)


def examine(
    world: DyDiffWorld,
    task: Task,
    starts: Float[Array, "rollouts observation"],
    data_actions: Float[Array, "rollouts horizon action"],
    trained: Act | None = None,
    *,
    refinements: int = 3,
    key: PRNGKeyArray,
) -> dict[str, Refinements]:
    """Refinements of every policy: the data's own windows from their own starts, all others from the same starts."""
    horizon = data_actions.shape[1]
    data_key, noise_key, random_key, loop_key = jax.random.split(key, 4)
    wandering = wandering_actions(len(starts), horizon, task.action_size, key=noise_key)
    results = {
        "data": refine_open_loop(world, starts, data_actions, refinements, key=data_key),
        "random": refine_open_loop(world, starts, wandering, refinements, key=random_key),
    }
    policies = closed_loop_policies(task) | ({"trained": trained} if trained else {})
    for name, act in policies.items():
        results[name] = refine_closed_loop(world, act, starts, horizon, refinements, key=loop_key)
    return results


def fidelity_rows(task: Task, policy: str, found: Refinements, **labels: Any) -> list[dict[str, Any]]:
    """One row a refinement: mean position error (in cells) at some steps, its 95% half-width, and the legal share.

    Row 0 is the ensemble. Each is measured against the simulator under the actions *it* was given.
    """
    assert task.maze is not None
    rows = []
    for index, (observations, actions) in enumerate(zip(found.observations, found.actions, strict=True)):
        errors = position_errors(observations, simulate(task, np.asarray(observations[:, 0]), actions))
        legal = np.asarray(task.maze.legal(np.asarray(observations)[..., :2]).all(axis=1))
        steps = [step for step in REPORTED_STEPS if step < errors.shape[1]]
        rows.append({
            **labels,
            "policy": policy,
            "model": "refined" if index else "ensemble",
            "refinement": index,
            "error": {str(step): float(errors[:, step].mean()) for step in steps},
            "error_half_width": {
                str(step): float(1.96 * errors[:, step].std() / np.sqrt(len(errors))) for step in steps
            },
            "legal": float(legal.mean()),
            "rollouts": len(errors),
        })  # fmt: skip
    return rows


def error_curve(task: Task, policy: str, found: Refinements, refinement: int, label: str) -> dict[str, Any]:
    """Mean position error by step with its 95% band over start states."""
    observations, actions = found.observations[refinement], found.actions[refinement]
    errors = position_errors(observations, simulate(task, np.asarray(observations[:, 0]), actions))
    mean, half_width = errors.mean(axis=0), 1.96 * errors.std(axis=0) / np.sqrt(len(errors))
    return {
        "label": label,
        "policy": policy,
        "error_by_step": mean.tolist(),
        "low": np.maximum(mean - half_width, 0).tolist(),
        "high": (mean + half_width).tolist(),
    }


NAMES = {
    "data": "Under the data's own actions",
    "random": "Under random actions",
    "medium": "For a policy that heads straight for the goal, walls or not,",
    "good": "For a good policy (the waypoint controller)",
    "trained": "For the policy this run trained",
}
TRUSTED = 0.1
"""Cells: an imagined position this near the true one may be trusted."""
USABLE = 0.3
"""Cells: near enough to be of use, and no nearer."""


def verdict(rows: list[dict[str, Any]]) -> list[str]:
    """In words: for each policy, which rollouts to trust, and for how long. Rows of one conditioning strength."""
    return [
        _sentence(NAMES[policy], [row for row in rows if row["policy"] == policy])
        for policy in dict.fromkeys(row["policy"] for row in rows)
    ]


def _sentence(policy: str, rows: list[dict[str, Any]]) -> str:
    compared = {
        _model_words(row): row for row in rows if row["refinement"] <= 1
    }  # fmt: skip
    ensemble = next(iter(compared.values()))
    last = max(ensemble["error"], key=int)
    trusted = [step for step in ensemble["error"] if ensemble["error"][step] < TRUSTED]
    reach = f"to within a tenth of a cell up to step {trusted[-1]}" if trusted else "not even for 10 steps"
    found = "; ".join(
        f"{name} {row['error'][last]:.2f} cells off, {row['legal']:.0%} legal"
        for name, row in compared.items()
    )
    return f"{policy} the ensemble is right {reach}. At step {last}: {found}. {_advice(compared, last)}"


def _model_words(row: dict[str, Any]) -> str:
    name = "refined once" if row["refinement"] else "ensemble"
    return f"{name} and halted at the edge of the data" if row.get("halted") else name


def _advice(compared: dict[str, dict[str, Any]], last: str) -> str:
    near = [name for name, row in compared.items() if row["error"][last] < TRUSTED]
    nearest = min(compared, key=lambda name: compared[name]["error"][last])
    if len(near) == len(compared):
        return "Any of them may be trusted."
    if near:
        return f"Trust: {' or '.join(near)}."
    if compared[nearest]["error"][last] < USABLE:
        return f"Of use, with care: {nearest}."
    most_legal = max(compared, key=lambda name: compared[name]["legal"])
    return f"Trust none of them for where it ends up; {most_legal} at least keeps most to the maze."
