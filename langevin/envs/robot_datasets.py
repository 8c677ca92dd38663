"""The robots' datasets, by D4RL's recipes: streams of a behaviour policy, and target sets in a shifted body."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32
from threadpoolctl import threadpool_limits

from langevin.data.trajectories import Trajectories
from langevin.envs.behaviour_policies import behaviour_of, shipped_behaviours
from langevin.envs.gymnasium_envs import environment_of
from langevin.envs.locomotion import LocomotionSimulator
from langevin.envs.shifts import shift_tables
from langevin.envs.stepping import make_simulator
from langevin.envs.tasks import TASKS, Task, get_task
from langevin.progress import AbstractProgress, SilentProgress

Act = Callable[
    [Float[np.ndarray, "batch observation"], np.random.Generator], Float32[np.ndarray, "batch action"]
]


@dataclass(frozen=True)
class Actor:
    """A behaviour: how it acts, and what it makes of being told, after each step, the rewards that its last actions
    earned and which of the episodes are over."""

    act: Act
    told: Callable[[Float32[np.ndarray, " batch"], Bool[np.ndarray, " batch"]], None] = (
        lambda rewards, ended: None
    )


MOST_COPIES = 100
"""Robots side by side. Each leaves one stream, whose last episode is cut where the stream ends."""
REFERENCE_EPISODES = 20
RECORDED_VERSIONS = ("langevin", "mujoco", "gymnasium", "numpy")
SOURCE_LEVELS = ("random", "medium", "expert")


@dataclass(frozen=True)
class Recipe:
    """Which policies act, in order, in which task; the transitions are shared equally between them."""

    task: Task
    levels: tuple[str, ...]


def robot_recipes() -> dict[str, Recipe]:
    """Dataset id -> recipe. The policies were trained in today's physics, so that is where they act."""
    recipes = {}
    for task in TASKS.values():
        if task.robot is None or task.physics != "v5":
            continue
        if task.shifts:
            recipes[f"{task.id}/target-v0"] = Recipe(task, ("medium",))
            continue
        for level in SOURCE_LEVELS:
            recipes[f"{task.id}/{level}-v0"] = Recipe(task, (level,))
        recipes[f"{task.id}/medium-expert-v0"] = Recipe(task, ("medium", "expert"))
    return recipes


def make_robot_dataset(
    dataset_id: str,
    recipe: Recipe,
    transitions: int,
    seed: int,
    behaviour: tuple[str, Actor] | None = None,
    progress: AbstractProgress | None = None,
) -> Trajectories:
    """Run the recipe's policies, or `behaviour` (a name and how it acts) in their place. Same arguments, same bytes.

    **Raises:** `UsageError` when a policy did not come with the package.
    """
    actors = [behaviour] if behaviour else [(level, actor_of(recipe.task, level)) for level in recipe.levels]
    parts = [transitions // len(actors) + (index < transitions % len(actors)) for index in range(len(actors))]
    rngs = np.random.default_rng(seed).spawn(len(actors))
    streams = [
        run_streams(recipe.task, actor, count, rng, progress or SilentProgress())
        for (_, actor), count, rng in zip(actors, parts, rngs, strict=True)
        if count
    ]
    task = recipe.task
    metadata = {
        **robot_metadata(dataset_id, task, seed),
        "recipe": {"controller": " then ".join(name for name, _ in actors), "streams_of": MOST_COPIES},
    }
    if task.shifts:
        metadata["target_returns"] = target_returns(task, seed)
    return join_streams(streams, task, metadata)


def robot_metadata(dataset_id: str, task: Task, seed: int) -> dict[str, Any]:
    """What every dataset of a robot says of itself."""
    spec = environment_of(task).spec
    assert task.robot is not None
    assert spec is not None
    return {
        "id": dataset_id,
        "task": task.id,
        "reference_scores": [task.random_score, task.expert_score],
        "physics": {
            "environment": task.robot.gymnasium_id,
            "version": task.physics,
            "shifts": shift_tables(task.shifts),
        },
        "env_spec": spec.to_json(),
        "seed": seed,
        "versions": {name: version(name) for name in RECORDED_VERSIONS},
    }


def actor_of(task: Task, level: str) -> Actor:
    """How a level acts: uniform actions, or a policy that came with the package.

    D4RL's *random* is a freshly initialised policy, whose actions are nearly uniform; ours are uniform.
    """
    if level == "random":
        shape = task.action_size
        return Actor(
            lambda observations, rng: rng.uniform(-1, 1, (len(observations), shape)).astype(np.float32)
        )
    return Actor(behaviour_of(task, level).act)


def run_streams(
    task: Task, actor: Actor, transitions: int, rng: np.random.Generator, progress: AbstractProgress
) -> dict[str, np.ndarray]:
    """Flat rows of streams laid one after another: each copy's episodes in order, truncations after `max_steps` and
    where a stream ends."""
    copies = int(np.clip(transitions // task.max_steps, 1, MOST_COPIES))
    lengths = transitions // copies + (np.arange(copies) < transitions % copies)
    steps = int(lengths.max())
    simulator = make_simulator(task, copies)
    assert isinstance(simulator, LocomotionSimulator)
    observations = simulator.reset(rng)
    clocks = np.zeros(copies, np.int64)
    rows: dict[str, list[np.ndarray]] = {
        name: [] for name in (
            "observations", "actions", "rewards", "terminations", "truncations", "next_observations"
        )
    }  # fmt: skip
    # Threads of the linear algebra wait by spinning, on the cores that the simulation needs: with one for a policy's
    # products 12,000 steps a second became 20,000.
    with progress.track(steps, f"collecting {task.id}") as advance, threadpool_limits(1, "blas"):
        for _ in range(steps):
            actions = actor.act(observations, rng)
            after, rewards, terminations = simulator.step(actions)
            clocks += 1
            truncations = (clocks >= task.max_steps) & ~terminations
            found = observations, actions, rewards, terminations, truncations, after
            for name, values in zip(rows, found, strict=True):
                rows[name].append(values)
            ended = terminations | truncations
            actor.told(rewards, ended)
            if ended.any():
                simulator.reset_rows(ended, rng)
                clocks[ended] = 0
            observations = simulator.observe()
            advance(1)
    return {
        name: np.concatenate(
            [copy[:length] for copy, length in zip(np.stack(parts, axis=1), lengths, strict=True)]
        )
        for name, parts in rows.items()
    } | {"stream_ends": np.cumsum(lengths)}


def join_streams(streams: list[dict[str, np.ndarray]], task: Task, metadata: dict[str, Any]) -> Trajectories:
    """One dataset of several sets of streams; a stream's last row ends an episode, as a truncation if it must."""
    rows = {
        name: np.concatenate([part[name] for part in streams]) for name in streams[0] if name != "stream_ends"
    }
    offsets = np.cumsum([0, *(len(part["rewards"]) for part in streams[:-1])])
    stream_ends = np.concatenate(
        [part["stream_ends"] + offset for part, offset in zip(streams, offsets, strict=True)]
    )
    last = np.zeros(len(rows["rewards"]), bool)
    last[stream_ends - 1] = True
    terminations = rows["terminations"].astype(bool)
    truncations = rows["truncations"].astype(bool)
    metadata["cut_episodes"] = int((last & ~terminations & ~truncations).sum())
    truncations |= last & ~terminations
    return Trajectories(
        observations=rows["observations"],
        actions=rows["actions"],
        rewards=rows["rewards"],
        terminations=terminations,
        truncations=truncations,
        next_observations=rows["next_observations"],
        episode_ends=np.flatnonzero(terminations | truncations) + 1,
        action_low=task.action_low,
        action_high=task.action_high,
        metadata=metadata,
    )


def target_returns(task: Task, seed: int) -> dict[str, float]:
    """Mean returns in the shifted body: of uniform actions, and of the source's expert where there is one."""
    assert task.robot is not None
    source = get_task(task.robot.name, task.physics)
    levels = ["random", *(["expert"] if (task.robot.name, "expert") in shipped_behaviours() else [])]
    return {level: episode_return(task, actor_of(source, level).act, seed) for level in levels}


def episode_return(task: Task, act: Act, seed: int, episodes: int = REFERENCE_EPISODES) -> float:
    """Mean return of whole episodes."""
    rng = np.random.default_rng(seed)
    simulator = make_simulator(task, episodes)
    observations, running, returns = simulator.reset(rng), np.ones(episodes, bool), np.zeros(episodes)
    for _ in range(task.max_steps):
        observations, rewards, terminations = simulator.step(act(observations, rng))
        returns += np.where(running, rewards, 0.0)
        running &= ~terminations
        if not running.any():
            break
    return float(returns.mean())
