"""Hierarchical Diffuser: one stage that trains both levels."""

import dataclasses
from dataclasses import dataclass

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from langevin.data.sampling import Windows, windows_of
from langevin.data.trajectories import Trajectories
from langevin.diffusion.chain_sampler import ChainSampler, ChainSampling
from langevin.errors import require_at_least, require_between
from langevin.planners.controllers import ControllerName
from langevin.planners.goal_planner import GoalPlanner, PlannerPolicy
from langevin.planners.hierarchical import HierarchicalPlanner, HierarchyState, HierarchyTraining
from langevin.planners.receding import RecedingPlanner
from langevin.planners.segments import SegmentFiller
from langevin.planners.window_diffusion import WindowTraining
from langevin.policies.base import Policy
from langevin.training.algorithms.diffuser import STATE_SIZE
from langevin.training.algorithms.system import Results, System
from langevin.training.stage import Stage


@dataclass(frozen=True)
class HierarchicalDiffuserConfig:
    """Settings of both levels. The last three are of mazes, where a plan has a goal."""

    steps: int
    """Gradient steps of each level."""
    planner: HierarchyTraining
    sampling: ChainSampling = ChainSampling()
    """How both levels are sampled."""
    replan_every: int = 1
    """Environment steps between two plans; in mazes 0 plans once an episode."""
    controller: ControllerName = "waypoint"
    """How a plan becomes an action: by D4RL's law towards its states, or its own actions."""
    arrivals: int = 1
    """Rows of arrival tried, the earliest within reach taken; 1 is the last row alone."""

    def __post_init__(self):
        require_at_least(1, arrivals=self.arrivals)
        require_at_least(0, replan_every=self.replan_every)


def prepare(config: HierarchicalDiffuserConfig, trajectories: Trajectories) -> Windows:
    """Windows of as many jumps as a plan has; in mazes without the goal that an observation may show."""
    windows = windows_of(trajectories, config.planner.steps)
    if config.planner.high.goal_size == 0:
        return windows
    return eqx.tree_at(lambda w: w.observations, windows, windows.observations[:, :STATE_SIZE])


def both_levels(config: HierarchicalDiffuserConfig, observation_size: int) -> HierarchyTraining:
    """The levels' training with what follows from the jump, and with learning rates that decay over the stage."""
    jump = config.planner.jump

    def paced(training: WindowTraining, **settings: int) -> WindowTraining:
        optimizer = dataclasses.replace(training.optimizer, decay_steps=config.steps)
        return dataclasses.replace(training, optimizer=optimizer, **settings)

    return dataclasses.replace(
        config.planner,
        high=paced(config.planner.high, stride=jump),
        low=paced(config.planner.low, horizon=jump + 1, goal_size=observation_size, shortest=jump),
    )


def stages(config: HierarchicalDiffuserConfig, system: System) -> list[Stage]:
    """Training is one stage, "policy"."""
    maze = system.task.maze
    training = both_levels(config, STATE_SIZE if maze else system.observation_size)
    high, low = training.high, training.low
    if maze is None:
        require_between(1, training.jump, replan_every=config.replan_every)

    def init(data: Windows, results: Results, *, key: PRNGKeyArray):
        return training.init(data, key=key)

    def update(state, data: Windows, results: Results, *, step: Int[Array, ""], key: PRNGKeyArray):
        return training.update(state, data, step=step, key=key)

    def sampler_of(level: WindowTraining) -> ChainSampler:
        return config.sampling.sampler(level.chain.ddpm().schedule)

    def policy(state: HierarchyState, results: Results) -> Policy:
        fill = SegmentFiller(low.finish(state.low), sampler_of(low))
        bounds = jnp.asarray(system.action_low), jnp.asarray(system.action_high)
        if maze is None:
            chooser = RecedingPlanner(
                high.finish(state.high), sampler_of(high), *bounds, replan_every=config.replan_every
            )
            return HierarchicalPlanner(chooser, fill)
        goal = None if system.task.drawn_goals else jnp.asarray(maze.goal, jnp.float32)
        planner = GoalPlanner(high.finish(state.high), None, state.fastest, high.goal_size, fill)
        return PlannerPolicy(
            planner, goal, *bounds, sampler_of(high), config.controller, config.arrivals, config.replan_every,
            high.shortest,
        )  # fmt: skip

    return [Stage("policy", config.steps, init, update, policy=policy)]
