"""Every dataset that can be made here, by its id."""

import math
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from langevin.data.trajectories import Trajectories
from langevin.envs.behaviour_policies import behaviour_of, read_behaviour
from langevin.envs.collect import make_dataset as make_maze_dataset
from langevin.envs.collect import makeable_datasets as maze_datasets
from langevin.envs.robot_datasets import (
    Actor,
    join_streams,
    make_robot_dataset,
    robot_metadata,
    robot_recipes,
)
from langevin.envs.tasks import TASKS, Task, task_of_dataset
from langevin.errors import UsageError, nearest
from langevin.experiments.online import OnlineTraining, medium_return, train_replay
from langevin.experiments.runs import load_run, one_seed
from langevin.policies.base import Policy, keeps_memory
from langevin.progress import AbstractProgress, SilentProgress

DEFAULT_TRANSITIONS = 1_000_000
TARGET_TRANSITIONS = 10_000
"""Of a target set: the off-dynamics planner's."""
MOST_REPLAY_STEPS = 1_000_000
"""SAC is medium after a tenth to a third of these, or something is wrong."""


def makeable_datasets() -> dict[str, str]:
    """Ids of the datasets that can be made here, each with a line about it."""
    robots = {}
    for dataset_id, recipe in robot_recipes().items():
        words = " then ".join(recipe.levels) + " policy"
        robots[dataset_id] = f"{words}, in the shifted body" if recipe.task.shifts else words
    replays = {f"{task.id}/medium-replay-v0": "SAC until medium: its replay buffer" for task in _sources()}
    return maze_datasets() | robots | replays


def default_transitions(dataset_id: str) -> int:
    """How many transitions a dataset has when no one says; a replay has as many as its training took (0 here)."""
    if dataset_id.endswith("/medium-replay-v0"):
        return 0
    return TARGET_TRANSITIONS if dataset_id.endswith("/target-v0") else DEFAULT_TRANSITIONS


def make_dataset(
    dataset_id: str,
    transitions: int | None,
    seed: int,
    action_noise: float = 0.0,
    behaviour: Path | None = None,
    progress: AbstractProgress | None = None,
) -> Trajectories:
    """Make a dataset by its recipe: the same arguments give the same bytes on one machine.

    transitions: None is the recipe's own number. behaviour: for a robot, a behaviour policy's file or the folder of a
    finished run, which acts in place of the recipe's policy.

    **Raises:** `UsageError` for an unknown id or a number that makes no sense.
    """
    known = makeable_datasets()
    if dataset_id not in known:
        shown = [name for name in known if not task_of_dataset(name).shifts]
        raise UsageError(f"dataset {dataset_id!r} cannot be made; {nearest(dataset_id, known, shown)}")
    count = default_transitions(dataset_id) if transitions is None else transitions
    progress = progress or SilentProgress()
    if dataset_id in maze_datasets():
        if behaviour:
            raise UsageError(f"{dataset_id} is made by the waypoint controller; leave out --behaviour")
        return make_maze_dataset(dataset_id, count, seed, action_noise, progress)
    if action_noise:
        raise UsageError(
            f"--action-noise goes with the point mazes; {dataset_id} is made by a stochastic policy"
        )
    if transitions is not None and transitions < 1:
        raise UsageError(f"transitions must be at least 1, got {transitions}")
    if seed < 0:
        raise UsageError(f"seed must not be negative, got {seed}")
    if dataset_id.endswith("/medium-replay-v0"):
        if behaviour:
            raise UsageError(f"{dataset_id} is a replay buffer; leave out --behaviour")
        return make_replay(dataset_id, task_of_dataset(dataset_id), transitions, seed, progress)
    recipe = robot_recipes()[dataset_id]
    chosen = (str(behaviour), behaviour_actor(behaviour, recipe.task)) if behaviour else None
    return make_robot_dataset(dataset_id, recipe, count, seed, chosen, progress)


def make_replay(
    dataset_id: str, task: Task, transitions: int | None, seed: int, progress: AbstractProgress
) -> Trajectories:
    """The replay buffer of a training like the one that led to the medium policy, up to where this one is medium too.

    How soon that is, last bits of rounding decide: with another processor or version it is another training. With
    `transitions` the buffer is as long as they say, whatever its policy has come to.
    A buffer of 16 environments as streams, one environment's after another's.
    """
    origin = behaviour_of(task, "medium").origin
    steps = transitions or MOST_REPLAY_STEPS
    settings = OnlineTraining(
        steps=steps,
        seed=seed,
        copies=origin["copies"],
        updates_a_step=origin["updates_a_step"],
        capacity=steps + 1_000,  # a round may go a few steps further
    )
    rows = train_replay(settings, task, progress, math.inf if transitions else medium_return(task))
    recipe = {
        "controller": "SAC in training",
        "until": f"{transitions} transitions" if transitions else "medium",
        "environment_steps": len(rows["rewards"]),
    }
    return join_streams([rows], task, {**robot_metadata(dataset_id, task, seed), "recipe": recipe})


def behaviour_actor(path: Path, task: Task) -> Actor:
    """How a saved policy acts: a behaviour policy's file, or the first seed of a finished run."""
    if path.suffix == ".npz":
        return Actor(read_behaviour(path).act)
    loaded = load_run(path)
    spec = loaded.system
    if (spec.observation_size, spec.action_size) != (task.observation_size, task.action_size):
        raise UsageError(
            f"{path} acts on {spec.observation_size} observations with {spec.action_size} actions; {task.id} has "
            f"{task.observation_size} and {task.action_size}"
        )
    return actor_of_policy(one_seed(loaded.policies, 0))


def actor_of_policy(policy: Policy) -> Actor:
    """A policy as a behaviour; one that remembers has a memory for each episode, made anew when the next one begins."""
    if keeps_memory(policy):
        rows = Memories(policy)
        return Actor(rows.act, rows.told)
    step = eqx.filter_jit(lambda observations, key: policy.act(observations, None, key=key)[0])

    def act(observations: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.asarray(step(jnp.asarray(observations), jax.random.key(int(rng.integers(2**31)))))

    return Actor(act)


class Memories:
    """A policy with memory, acting row by row: episodes of one batch do not begin together, and a plan has one age."""

    def __init__(self, policy: Policy):
        self._policy = policy
        self._rows: Any = None
        self._act = eqx.filter_jit(self._act_rows)
        self._tell = eqx.filter_jit(self._tell_rows)

    def act(self, observations: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Actions of every row, and what each remembers of having taken it."""
        count = len(observations)
        self._rows = self._fresh(count) if self._rows is None else self._rows
        keys = jax.random.split(jax.random.key(int(rng.integers(2**31))), count)
        actions, self._rows = self._act(jnp.asarray(observations), self._rows, keys)
        return np.asarray(actions)

    def told(self, rewards: np.ndarray, ended: np.ndarray) -> None:
        """Every row's reward; the rows of ended episodes forget all."""
        self._rows = self._tell(self._rows, jnp.asarray(rewards), jnp.asarray(ended))

    def _fresh(self, count: int) -> Any:
        return jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (count, *jnp.shape(leaf))), self._policy.start(1)
        )

    def _act_rows(self, observations, rows, keys):
        def one(inputs):
            observation, memory, key = inputs
            action, memory = self._policy.act(observation[None], memory, key=key)
            return action[0], memory

        return jax.lax.map(one, (observations, rows, keys))

    def _tell_rows(self, rows, rewards, ended):
        told = jax.vmap(lambda memory, reward: self._policy.observe(memory, reward[None]))(rows, rewards)
        return jax.tree.map(
            lambda fresh, kept: jnp.where(ended.reshape(-1, *[1] * (kept.ndim - 1)), fresh, kept),
            self._fresh(len(rewards)), told,
        )  # fmt: skip


def _sources() -> list[Task]:
    return [
        task for task in TASKS.values() if task.robot is not None and task.physics == "v5" and not task.shifts
    ]
