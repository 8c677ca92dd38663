"""How far any world model can be trusted, in any task: its rollouts against the simulator under the same actions.

Five questions of one set of rollouts. Where does it end up (error by step)? What does it say is earned there? Does it
end episodes when the system does? Does it know how sure it is (the coverage of its own 90% intervals)? And does it keep
to where the data are, and out of the walls?
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from langevin.dynamics.support import Support
from langevin.envs.stepping import make_simulator
from langevin.envs.tasks import Task
from langevin.imagination.worlds import DynamicsWorld, Imagined

SAMPLES = 19
"""Rollouts of each start and its actions: between the least and the greatest of 19 draws a twentieth lies 90% of the
time, for (19 - 1) / (19 + 1) = 0.9. So that is the model's 90% interval, whatever its distribution."""
REPORTED_STEPS = (1, 5, 10, 20, 50, 99)


def true_rollouts(
    task: Task, starts: Float[Any, "rollouts observation"], actions: Float[Any, "rollouts horizon action"]
) -> Imagined:
    """What the simulator answers to the actions: row t + 1 answers action t, the last one none. It goes on past a
    terminal, as a world model does."""
    simulator = make_simulator(task, len(starts))
    simulator.set_state(np.asarray(starts))
    observations, rewards, terminations = [np.asarray(starts, np.float32)], [], []
    for step in range(actions.shape[1] - 1):
        after, earned, ended = simulator.step(np.asarray(actions[:, step]))
        observations.append(after)
        rewards.append(earned)
        terminations.append(ended)
    return Imagined(
        jnp.asarray(np.stack(observations, axis=1)), jnp.asarray(actions),
        jnp.asarray(np.stack(rewards, axis=1), jnp.float32), jnp.asarray(np.stack(terminations, axis=1)),
    )  # fmt: skip


@eqx.filter_jit
def sampled_rollouts(
    world: DynamicsWorld,
    starts: Float[Array, "rollouts observation"],
    actions: Float[Array, "rollouts horizon action"],
    *,
    key: PRNGKeyArray,
) -> Imagined:
    """`SAMPLES` rollouts of every start under its actions, samples on the leading axis."""
    return jax.lax.map(lambda key: world.replay(starts, actions, key=key), jax.random.split(key, SAMPLES))


def world_row(
    found: Imagined, truth: Imagined, scale: Float[np.ndarray, " observation"], support: Support, task: Task
) -> dict[str, Any]:
    """What the samples of `sampled_rollouts` are worth, one JSON object.

    error: root mean square over dimensions in units of `scale` (the data's standard deviation), mean over samples and
    rollouts that the simulator has not ended, by step, with its 95% half-width over rollouts. reward_error: mean
    absolute, beside the spread of true rewards. end_accuracy: share of transitions on which model and simulator agree
    whether the episode ends. end_error: how many steps apart the two end an episode, the horizon standing for never.
    coverage: share of true numbers inside the model's 90% interval, by step; None of a single sample, which has no
    interval. known: share of imagined states that lie where data are. legal: share of rollouts with no state inside a
    wall, None outside mazes.
    """
    errors = state_errors(found, truth, scale)
    counted = np.asarray(truth.valid)
    steps = [step for step in REPORTED_STEPS if step <= counted.shape[1] and counted[:, step - 1].any()]
    covered = inside_interval(found, truth) if len(found.rewards) > 1 else None
    imagined = np.asarray(found.observations)[:, :, 1:]
    known = np.asarray(_known(support, found.observations[:, :, 1:]))
    agree = np.asarray(found.terminations) == np.asarray(truth.terminations)
    reward_errors = np.abs(np.asarray(found.rewards) - np.asarray(truth.rewards)).mean(axis=0)
    return {
        "error": {str(step): _mean(errors, counted, step) for step in steps},
        "error_half_width": {str(step): _half_width(errors, counted, step) for step in steps},
        "error_by_step": [0.0, *(_mean(errors, counted, step) for step in range(1, _last(counted) + 1))],
        "reward_error": float(reward_errors[counted].mean()),
        "reward_spread": float(np.asarray(truth.rewards)[counted].std()),
        "end_accuracy": float(agree[:, counted].mean()),
        "ended": float(np.asarray(truth.terminations).any(axis=1).mean()),
        "end_error": float(np.abs(lengths(found) - lengths(truth)).mean()),
        "coverage": None if covered is None else {str(step): _mean(covered, counted, step) for step in steps},
        "known": float(known[:, counted].mean()),
        "legal": legal_share(imagined, task),
        "rollouts": len(errors),
        "samples": len(found.rewards),
    }


def drawn_rows(
    drawn: Imagined,
    scale: Float[np.ndarray, " observation"],
    support: Support,
    task: Task,
    *,
    most: int,
    key: PRNGKeyArray,
) -> dict[str, dict[str, Any]]:
    """What drawn experience is worth, that answers no actions but its own: `world_row`s of one sample each.

    "trajectories": the simulator replays each one's actions from its first state; missing where transitions stand
    alone. "each transition": it is put into the state that a transition starts in, for at most `most` of them.
    """
    single = each_transition(drawn)
    if len(single.actions) > most:
        chosen = jax.random.choice(key, len(single.actions), (most,), replace=False)
        single = jax.tree.map(lambda leaf: leaf[chosen], single)
    parts = {"trajectories": drawn} if drawn.steps is None else {}
    return {
        name: drawn_row(found, scale, support, task)
        for name, found in (parts | {"each transition": single}).items()
    }


def drawn_row(
    drawn: Imagined, scale: Float[np.ndarray, " observation"], support: Support, task: Task
) -> dict[str, Any]:
    """`world_row` of trajectories that brought their own actions."""
    truth = true_rollouts(task, drawn.observations[:, 0], drawn.actions)
    return world_row(jax.tree.map(lambda leaf: leaf[None], drawn), truth, scale, support, task)


def each_transition(drawn: Imagined) -> Imagined:
    """The valid transitions of trajectories, each as a trajectory of two states."""
    pairs = jnp.stack([drawn.observations[:, :-1], drawn.next_observations], axis=2)
    taken = jnp.repeat(drawn.actions[:, :-1, None], 2, axis=2)
    valid = drawn.valid
    return Imagined(
        pairs[valid], taken[valid], drawn.rewards[..., None][valid], drawn.terminations[..., None][valid]
    )


def state_errors(
    found: Imagined, truth: Imagined, scale: Float[np.ndarray, " observation"]
) -> Float[np.ndarray, "rollouts transitions"]:
    """Root mean square over dimensions of the difference in units of `scale`, mean over samples."""
    difference = np.asarray(found.observations)[:, :, 1:] - np.asarray(truth.observations)[:, 1:]
    return np.sqrt(np.mean((difference / scale) ** 2, axis=-1)).mean(axis=0)


def inside_interval(found: Imagined, truth: Imagined) -> Float[np.ndarray, "rollouts transitions"]:
    """Share of a true state's numbers that lie between the least and the greatest sample."""
    samples, true = np.asarray(found.observations)[:, :, 1:], np.asarray(truth.observations)[:, 1:]
    return ((samples.min(axis=0) <= true) & (true <= samples.max(axis=0))).mean(axis=-1)


def lengths(rollouts: Imagined) -> Float[np.ndarray, "*batch rollouts"]:
    """Transitions up to and including the first terminal."""
    ends = np.asarray(rollouts.terminations)
    return np.where(ends.any(axis=-1), ends.argmax(axis=-1) + 1, ends.shape[-1]).astype(np.float64)


def legal_share(
    observations: Float[np.ndarray, "samples rollouts states observation"], task: Task
) -> float | None:
    """Share of rollouts with no state inside a wall."""
    if task.maze is None:
        return None
    return float(np.asarray(task.maze.legal(observations[..., :2])).all(axis=-1).mean())


@eqx.filter_jit
def _known(
    support: Support, observations: Float[Array, "samples rollouts transitions observation"]
) -> Bool[Array, "samples rollouts transitions"]:
    rows = observations.reshape(-1, observations.shape[-2], observations.shape[-1])
    return jax.lax.map(support.contains, rows).reshape(observations.shape[:-1])


def _mean(values: np.ndarray, counted: np.ndarray, step: int) -> float:
    return float(values[counted[:, step - 1], step - 1].mean())


def _half_width(values: np.ndarray, counted: np.ndarray, step: int) -> float:
    kept = values[counted[:, step - 1], step - 1]
    return float(1.96 * kept.std() / np.sqrt(len(kept)))


def _last(counted: np.ndarray) -> int:
    """The last transition before which any rollout still runs."""
    return int(np.flatnonzero(counted.any(axis=0))[-1]) + 1
