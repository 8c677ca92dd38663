"""Hierarchical Diffuser: one stage that trains both levels."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from langevin.data.return_windows import ReturnWindows, return_windows
from langevin.data.sampling import Windows, sample_windows
from langevin.data.trajectories import Trajectories
from langevin.diffusion.chain_sampler import ChainSampler, ChainSampling
from langevin.errors import UsageError, require_at_least, require_between
from langevin.planners.controllers import ControllerName
from langevin.planners.goal_planner import GoalPlanner, PlannerPolicy
from langevin.planners.hierarchical import (
    HierarchicalPlanner,
    HierarchyState,
    HierarchyTraining,
    ValuedHierarchy,
    init_valued_hierarchy,
    update_valued_hierarchy,
)
from langevin.planners.plan_value import ValueTraining, chain_of
from langevin.planners.receding import RecedingPlanner
from langevin.planners.segments import SegmentFiller
from langevin.planners.value_guidance import ValueGuidance
from langevin.planners.window_diffusion import WindowState, WindowTraining
from langevin.training.algorithms.mazes import STATE_SIZE, goal_of, require_fresh_plans, state_windows
from langevin.training.algorithms.planning import paced_planner, paced_value
from langevin.training.algorithms.system import Results, System
from langevin.training.stage import Stage


@dataclass(frozen=True)
class HierarchicalDiffuserConfig:
    """Settings of both levels: to a goal if `planner.high.goal_size` is more than 0, else guided by value."""

    steps: int
    """Gradient steps of each level."""
    planner: HierarchyTraining
    sampling: ChainSampling = ChainSampling()
    """How both levels are sampled."""
    replan_every: int = 1
    """Environment steps between two plans; to a goal 0 plans once an episode."""
    controller: Literal["waypoint", "actions"] = "waypoint"
    """To a goal: how a plan becomes an action, by D4RL's law towards its states or its own actions."""
    arrivals: int = 1
    """To a goal: rows of arrival tried, the earliest within reach taken; 1 is the last row alone."""
    value: ValueTraining = ValueTraining()
    """Without a goal: what a plan of jumps is worth."""
    guidance: ValueGuidance = ValueGuidance()
    """Without a goal: how plans are drawn towards what is worth more."""
    candidates: int = 64
    """Without a goal: plans of which the one of greatest value is followed."""

    def __post_init__(self):
        require_at_least(1, arrivals=self.arrivals, candidates=self.candidates)
        require_at_least(0, replan_every=self.replan_every)
        for level in (self.planner.high, self.planner.low):
            chain_of(level)
        if not self.to_a_goal and not self.value.noised:
            raise UsageError("value.noised must be true, for plans are guided while they are noised")

    @property
    def to_a_goal(self) -> bool:
        """Which of the two forms it is."""
        return self.planner.high.goal_size > 0


def prepare(config: HierarchicalDiffuserConfig, trajectories: Trajectories) -> Windows | ReturnWindows:
    """Windows of as many jumps as a plan has: each with its return, or to a goal of states without the goal that an
    observation may show after them."""
    if not config.to_a_goal:
        return return_windows(trajectories, config.planner.steps, config.value.discount)
    return state_windows(trajectories, config.planner.steps)


def both_levels(planner: HierarchyTraining, updates: int, observation_size: int) -> HierarchyTraining:
    """The levels' training with what follows from the jump, and with learning rates that decay over the updates."""

    def paced(training: WindowTraining, **settings: int) -> WindowTraining:
        return dataclasses.replace(paced_planner(training, updates), **settings)

    return dataclasses.replace(
        planner,
        high=paced(planner.high, stride=planner.jump),
        low=paced(planner.low, horizon=planner.jump + 1, goal_size=observation_size, shortest=planner.jump),
    )


def stages(config: HierarchicalDiffuserConfig, system: System) -> list[Stage]:
    """Training is one stage, "policy". Raises UsageError for a goal in a task without one."""
    return [(goal_stage if config.to_a_goal else value_stage)(config, system)]


def goal_stage(config: HierarchicalDiffuserConfig, system: System) -> Stage:
    """Both levels, and a policy that follows filled plans to the task's goal."""
    training = both_levels(config.planner, config.steps, STATE_SIZE)
    policy = goal_policy(
        training, system, config.sampling, config.controller, config.arrivals, config.replan_every
    )

    def init(data: Windows, results: Results, *, key: PRNGKeyArray):
        return training.init(data, key=key)

    def update(state, data: Windows, results: Results, *, step: Int[Array, ""], key: PRNGKeyArray):
        batch_key, update_key = jax.random.split(key)
        batch = sample_windows(data, training.high.batch_size, key=batch_key)
        return training.update(state, batch, step=step, key=update_key)

    return Stage("policy", config.steps, init, update, policy=policy)


def goal_policy(
    training: HierarchyTraining,
    system: System,
    sampling: ChainSampling,
    controller: ControllerName,
    arrivals: int,
    replan_every: int,
) -> Callable[[HierarchyState, Results], PlannerPolicy]:
    """How both levels become a policy to the task's goal, HDMI's too. Refuses at once what cannot work."""
    high = training.high
    goal = goal_of(system, high.goal_size, "planner.high.goal_size")
    require_fresh_plans(sampling)
    sampler, fill = sampler_of(sampling, high), filler(sampling, training)

    def policy(state: HierarchyState, results: Results) -> PlannerPolicy:
        planner = GoalPlanner(high.finish(state.high), None, state.fastest, high.goal_size, fill(state.low))
        return PlannerPolicy(
            planner, goal, jnp.asarray(system.action_low), jnp.asarray(system.action_high), sampler,
            controller, arrivals, replan_every, high.shortest,
        )  # fmt: skip

    return policy


def value_stage(config: HierarchicalDiffuserConfig, system: System) -> Stage:
    """Both levels and the value of plans, and a policy that plans as it goes."""
    training = both_levels(config.planner, config.steps, system.observation_size)
    value, chain = paced_value(config.value, config.steps), chain_of(training.high)
    require_between(1, training.jump, replan_every=config.replan_every)
    sampler_of(config.sampling, training.high)  # refused before training, not after
    fill = filler(config.sampling, training)

    def init(data: ReturnWindows, results: Results, *, key: PRNGKeyArray):
        return init_valued_hierarchy(training, value, data, key=key)

    def update(state, data: ReturnWindows, results: Results, *, step: Int[Array, ""], key: PRNGKeyArray):
        return update_valued_hierarchy(training, value, state, data, step=step, key=key)

    def policy(state: ValuedHierarchy, results: Results) -> HierarchicalPlanner:
        worth = value.finish(state.value, chain)
        guide = config.guidance.guide(worth, system.observation_size)
        chooser = RecedingPlanner(
            training.high.finish(state.levels.high), config.sampling.sampler(chain.schedule, guide),
            jnp.asarray(system.action_low), jnp.asarray(system.action_high), rank=worth,
            candidates=config.candidates, replan_every=config.replan_every,
        )  # fmt: skip
        return HierarchicalPlanner(chooser, fill(state.levels.low))

    return Stage("policy", config.steps, init, update, policy=policy)


def sampler_of(sampling: ChainSampling, level: WindowTraining) -> ChainSampler:
    """What draws a level's windows. Raises UsageError for more steps than its chain has."""
    return sampling.sampler(chain_of(level).schedule)


def filler(sampling: ChainSampling, training: HierarchyTraining) -> Callable[[WindowState], SegmentFiller]:
    """How the low level becomes what fills in plans."""
    sampler = sampler_of(sampling, training.low)
    return lambda state: SegmentFiller(training.low.finish(state), sampler)
