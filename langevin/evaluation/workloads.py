"""What `langevin bench` times: the programs that training spends its time in, on data made of noise.

Training programs go through the same compiled scan as `langevin train`; the sizes are those of the presets.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray

from langevin.data.trajectories import Trajectories
from langevin.dynamics.ensemble import rollout
from langevin.envs.tasks import get_task
from langevin.evaluation.speed import Program, matmul_flops
from langevin.imagination.worlds import acting
from langevin.policies.td3bc import TD3BC
from langevin.training.algorithms import dydiff
from langevin.training.algorithms.registry import find_algorithm, load_settings
from langevin.training.algorithms.system import Results, System
from langevin.training.programs import StagePrograms
from langevin.training.stage import Stage

TASK = "pointmaze/umaze"
DATASET = f"{TASK}-v0"
ROWS, EPISODE_ROWS = 50_000, 500
IMAGINED = 200
"""Rollouts a round of a learner that imagines."""


@dataclass(frozen=True)
class Workload:
    """Something worth timing.

    label: the row's name in the table. unit: what is counted a second. build: makes the program for a number of
    seeds (only training of several seeds looks at it).
    """

    label: str
    unit: str
    build: Callable[[int], Program]


def training_program(stage: Stage, data: Any, seeds: Sequence[int], chunk_steps: int) -> Program:
    """Chunks of `chunk_steps` updates of a stage for all seeds at once, as the training loop runs them.

    A unit is one update of one seed.
    """
    programs = StagePrograms(stage, 0, data, {}, seeds)
    state, step = programs.init(), 0
    alive = np.ones(len(seeds), bool)

    def run() -> None:
        nonlocal state, step
        state, _, _ = programs.advance(state, alive, step, chunk_steps)
        step += chunk_steps

    updates = chunk_steps * len(seeds)
    return Program(run, updates, updates * update_flops(stage, data))


def update_flops(stage: Stage, data: Any) -> float:
    """Floating-point operations of the matrix products in one update of one seed."""
    key = jax.random.key(0)
    state = eqx.filter_eval_shape(stage.init, data, {}, key=key)
    return matmul_flops(stage.update, state, data, {}, step=jnp.int32(0), key=key)


def learner_stage(name: str, observation_size: int = 17, action_size: int = 6) -> tuple[Stage, Any]:
    """A learner at its published settings, and its data; the default sizes are those of HalfCheetah.

    Of one that imagines it is the training of its policy, from few imagined rows, for their number costs an update
    nothing; MPPI trains an ensemble and no policy.
    """
    logged = noise(observation_size, action_size)
    system = System(get_task(TASK), observation_size, action_size, logged.action_low, logged.action_high)
    algorithm = find_algorithm(name)
    imagines = algorithm.imagines and name != "mppi"
    config = load_settings(name, None, "paper", "noise", {"rollouts": IMAGINED} if imagines else {})
    stages, data = algorithm.stages(config, system), algorithm.prepare(config, logged)
    if imagines:
        return with_models(stages, data)
    timed = "dynamics" if name == "mppi" else stages[0].name
    return next(stage for stage in stages if stage.name == timed), data


def with_models(stages: Sequence[Stage], data: Any) -> tuple[Stage, Any]:
    """The last stage, and data that hold the untrained models of those before it: how fast it is they do not change."""
    *models, policy = stages
    given = data, untrained(models, data)

    def init(given: Any, results: Results, *, key: PRNGKeyArray) -> Any:
        return policy.init(*given, key=key)

    def update(state: Any, given: Any, results: Results, *, step: Int[Array, ""], key: PRNGKeyArray) -> Any:
        return policy.update(state, *given, step=step, key=key)

    return Stage(policy.name, policy.steps, init, update), given


def untrained(models: Sequence[Stage], data: Any) -> Results:
    """The models of these stages with initial weights."""
    results: Results = {}
    for index, stage in enumerate(models):
        state = stage.init(data, results, key=jax.random.key(index))
        results[stage.name] = state if stage.finish is None else stage.finish(state, data, results)
    return results


def world_model_stage() -> tuple[Stage, dydiff.DyDiffData]:
    """The training of the temporal U-Net, DyDiff's cpu preset, and data."""
    config, system = world_model_settings()
    data = dydiff.prepare(config, noise(system.observation_size, system.action_size))
    return dydiff.world_model_stage(config), data


def ensemble_rollouts() -> Program:
    """A policy acts in the dynamics ensemble, DyDiff's cpu preset; a unit is one rollout."""
    world, policy, starts, config = untrained_world()

    @eqx.filter_jit
    def roll(world, policy, starts, key):
        return rollout(acting(policy), world.dynamics, starts, config.horizon, key=key)

    return rollouts_program(roll, config.rollouts, world, policy, starts)


def refinements() -> Program:
    """The trajectory diffusion model refines rollouts, DyDiff's cpu preset; a unit is one refined rollout."""
    world, policy, starts, config = untrained_world()
    actions = jnp.zeros((config.rollouts, config.horizon, policy.actor.action_low.size))
    states = jnp.repeat(starts[:, None], config.horizon, axis=1)

    @eqx.filter_jit
    def refine(world, states, actions, key):
        return world.refine(states, actions, key=key)

    return rollouts_program(refine, config.rollouts, world, states, actions)


def rollouts_program(function: Callable, rollouts: int, *arguments: Any) -> Program:
    """A compiled function of arguments and a key, run with a key of its own at every repeat."""
    key = jax.random.key(0)

    def run() -> None:
        nonlocal key
        key = jax.random.fold_in(key, 0)
        jax.block_until_ready(function(*arguments, key))

    return Program(run, rollouts, matmul_flops(function, *arguments, key))


def world_model_settings() -> tuple[Any, System]:
    """DyDiff's cpu preset, and the system it is for."""
    task = get_task(TASK)
    system = System(task, task.observation_size, task.action_size, task.action_low, task.action_high)
    return load_settings("dydiff", None, "cpu", DATASET, {}), system


def untrained_world() -> tuple[Any, Any, jax.Array, Any]:
    """The cpu preset's world, a policy, start states and the settings, with initial weights everywhere."""
    config, system = world_model_settings()
    config = dataclasses.replace(config, final_actions="policy")
    data = dydiff.prepare(config, noise(system.observation_size, system.action_size))
    results = untrained(dydiff.stages(config, system)[:-1], data)
    learner = TD3BC()
    policy = learner.policy(learner.init(system.spec(data.transitions), key=jax.random.key(0)))
    starts = data.transitions.observations[: config.rollouts]
    return dydiff.learned_world(config, system, results), policy, starts, config


def noise(observation_size: int, action_size: int, rows: int = ROWS) -> Trajectories:
    """Episodes of Gaussian observations, uniform actions and no reward, all of one length."""
    rng = np.random.default_rng(0)
    ends = np.arange(EPISODE_ROWS, rows + 1, EPISODE_ROWS)
    low, high = np.full(action_size, -1, np.float32), np.full(action_size, 1, np.float32)
    observations = rng.normal(size=(rows, observation_size)).astype(np.float32)
    blank = Trajectories.blank(observation_size, action_size, low, high, rows)
    return dataclasses.replace(
        blank,
        observations=observations,
        next_observations=np.roll(observations, -1, axis=0),
        actions=rng.uniform(-1, 1, (rows, action_size)).astype(np.float32),
        truncations=np.isin(np.arange(1, rows + 1), ends),
        episode_ends=ends,
    )


WORKLOADS = {
    "td3bc": Workload(
        "TD3+BC, one seed", "updates", lambda seeds: training_program(*learner_stage("td3bc"), [0], 100)
    ),
    "td3bc-seeds": Workload(
        "TD3+BC, seeds at once",
        "seed-updates",
        lambda seeds: training_program(*learner_stage("td3bc"), range(seeds), 100),
    ),
    "unet": Workload(
        "U-Net training", "updates", lambda seeds: training_program(*world_model_stage(), [0], 5)
    ),
    "ensemble": Workload("ensemble rollouts", "rollouts", lambda seeds: ensemble_rollouts()),
    "refinement": Workload("DyDiff refinement", "rollouts", lambda seeds: refinements()),
}
