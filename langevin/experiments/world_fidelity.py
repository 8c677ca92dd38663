"""How far a run's world model can be trusted, whatever it is: the rows of `langevin fidelity` for every algorithm."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from langevin.data.normalize import GaussianNormalizer
from langevin.data.sampling import sample_windows, transitions_of, windows_of
from langevin.data.trajectories import Trajectories
from langevin.dynamics.support import fit_support
from langevin.envs.behaviours import wandering_actions
from langevin.evaluation.world_fidelity import drawn_rows, sampled_rollouts, true_rollouts, world_row
from langevin.experiments.runs import LoadedRun
from langevin.imagination.pessimism import PenalisedWorld
from langevin.imagination.worlds import DyDiffWorld, DynamicsWorld, EnsembleWorld, Imagined
from langevin.policies.base import Policy, keeps_memory
from langevin.progress import AbstractProgress, SilentProgress
from langevin.training.algorithms.registry import find_algorithm

LONGEST_HORIZON = 100
"""States of a rollout where the world model has no horizon of its own."""
MOST_TRANSITIONS = 1_024
"""Drawn transitions that the simulator is asked about one by one."""


def world_fidelity(
    loaded: LoadedRun,
    states: dict[str, Any],
    trajectories: Trajectories,
    *,
    rollouts: int,
    progress: AbstractProgress | None = None,
) -> list[dict[str, Any]]:
    """A row for every policy and model of one seed (`states`: its finished stages).

    Policies: "data" replays logged actions from logged states, the last one again and again after its episode's end;
    "random" wanders; "trained" is the run's own, acting in its own world, unless it keeps a memory. Of a model that
    answers no actions the policy is "drawn": what it draws for the run's policy, `rollouts` windows as a whole where
    it draws windows, and up to `MOST_TRANSITIONS` transitions one by one.
    """
    progress = progress or SilentProgress()
    transitions, task = transitions_of(trajectories), loaded.system.task
    support = fit_support(transitions)
    scale = np.asarray(GaussianNormalizer.fit(transitions.observations).std)
    if find_algorithm(loaded.config.algorithm).world is not None:
        judge = lambda found, truth: world_row(found, truth, scale, support, task)
        return answering_rows(loaded, states, trajectories, judge, rollouts, progress)
    with progress.track(1, "what it draws against the simulator") as advance:
        drawn = drawn_experience(loaded, states, transitions.observations[:rollouts])
        parts = drawn_rows(drawn, scale, support, task, most=MOST_TRANSITIONS, key=jax.random.key(1))
        advance(1)
    name = loaded.config.algorithm
    return [{"policy": "drawn", "model": f"{name}, {part}", **row} for part, row in parts.items()]


def answering_rows(
    loaded: LoadedRun,
    states: dict[str, Any],
    trajectories: Trajectories,
    judge: Callable[[Imagined, Imagined], dict[str, Any]],
    rollouts: int,
    progress: AbstractProgress,
) -> list[dict[str, Any]]:
    """The rows of a model that answers any actions; `judge(samples, truth)` makes one's numbers."""
    build = find_algorithm(loaded.config.algorithm).world
    assert build is not None
    world = build(loaded.settings, loaded.system, states)
    horizon = loaded.settings.horizon if isinstance(world, DyDiffWorld) else LONGEST_HORIZON
    windows = sample_windows(windows_of(trajectories, horizon), rollouts, key=jax.random.key(1))
    starts, logged = windows.observations[:, 0], windows.actions
    models = examined_worlds(loaded.config.algorithm, world)
    rows = []
    with progress.track(3 * len(models), "the world model against the simulator") as advance:
        for policy, actions in policy_actions(loaded, states, world, starts, logged).items():
            truth = true_rollouts(loaded.system.task, starts, actions)
            for name, model in models.items():
                found = sampled_rollouts(model, starts, actions, key=jax.random.key(0))
                rows.append({"policy": policy, "model": name, **judge(found, truth)})
                advance(1)
    return rows


def drawn_experience(
    loaded: LoadedRun, states: dict[str, Any], starts: Float[Array, "rollouts observation"]
) -> Imagined:
    """What a model that answers no actions draws for the finished policy; `starts` serve as their number alone."""
    draws = find_algorithm(loaded.config.algorithm).draws
    assert draws is not None
    horizon = getattr(loaded.settings, "horizon", 1 + max(MOST_TRANSITIONS // len(starts), 1))
    imagine = eqx.filter_jit(
        lambda world, policy: world.imagine(policy, starts, horizon, key=jax.random.key(0))
    )
    return imagine(draws(loaded.settings, states), trained_policy(loaded, states))


def trained_policy(loaded: LoadedRun, states: dict[str, Any]) -> Policy:
    """The last stage's, as it is judged."""
    last = loaded.stages[-1]
    assert last.policy is not None
    return last.policy(states[last.name], states).greedy()


def examined_worlds(algorithm: str, world: DynamicsWorld) -> dict[str, DynamicsWorld]:
    """The run's world by name; the ensemble also as it samples, and beside the refined rollouts that start from it."""
    if isinstance(world, EnsembleWorld | DyDiffWorld):
        ensemble = EnsembleWorld(world.dynamics, world.reward, None, world.termination)
        sampled = PenalisedWorld(world.dynamics, world.reward, world.termination, None)
        refined = {"refined": world} if isinstance(world, DyDiffWorld) else {}
        return {"ensemble": ensemble, "ensemble, sampled": sampled, **refined}
    return {algorithm: world}


def policy_actions(
    loaded: LoadedRun,
    states: dict[str, Any],
    world: DynamicsWorld,
    starts: Float[Array, "rollouts observation"],
    logged: Float[Array, "rollouts horizon action"],
) -> dict[str, Float[Array, "rollouts horizon action"]]:
    """The actions that are replayed, by policy."""
    rollouts, horizon, size = logged.shape
    low, high = jnp.asarray(loaded.system.action_low), jnp.asarray(loaded.system.action_high)
    wandering = wandering_actions(rollouts, horizon, size, key=jax.random.key(1))
    actions = {"data": logged, "random": low + (high - low) * (wandering + 1) / 2}
    trained = trained_policy(loaded, states)
    if not keeps_memory(trained):
        imagine = eqx.filter_jit(
            lambda world, policy: world.imagine(policy, starts, horizon, key=jax.random.key(2))
        )
        actions["trained"] = imagine(world, trained).actions
    return actions
