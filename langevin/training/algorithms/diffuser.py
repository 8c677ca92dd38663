"""Diffuser, one stage in either form: to a goal, or towards more return where the task has none."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from langevin.data.return_windows import ReturnWindows, return_windows
from langevin.data.sampling import Windows
from langevin.data.trajectories import Trajectories
from langevin.diffusion.chain_sampler import ChainSampling
from langevin.diffusion.samplers import Sampler
from langevin.diffusion.schedules import KarrasSchedule
from langevin.errors import UsageError, require_at_least
from langevin.planners.controllers import ControllerName
from langevin.planners.goal_planner import (
    PlannerPolicy,
    PlanSampler,
    finish_planner,
    init_planner,
    update_planner,
)
from langevin.planners.inverse import InverseTraining
from langevin.planners.plan_value import ValueTraining, chain_of, init_valued, update_valued
from langevin.planners.receding import RecedingPlanner
from langevin.planners.value_guidance import ValueGuidance
from langevin.planners.window_diffusion import WindowTraining
from langevin.training.algorithms import transfer
from langevin.training.algorithms.mazes import goal_of, require_fresh_plans, state_windows
from langevin.training.algorithms.planning import paced_planner, paced_value, require_plans_last
from langevin.training.algorithms.system import Results, System
from langevin.training.stage import Stage


@dataclass(frozen=True)
class DiffuserConfig:
    """Settings of the planner: to a goal if `planner.goal_size` is more than 0, else guided by value."""

    steps: int
    """Gradient steps."""
    planner: WindowTraining
    schedule: KarrasSchedule = KarrasSchedule()
    """Noise levels of a plan's sampling, with `planner.process` edm."""
    sampling: ChainSampling = ChainSampling()
    """How a plan is drawn, with `planner.process` ddpm."""
    replan_every: int = 0
    """Environment steps between two plans; to a goal 0 plans once an episode."""
    inverse: InverseTraining = InverseTraining()
    """To a goal: what `controller` inverse acts by."""
    controller: ControllerName = "waypoint"
    """To a goal: how a plan becomes an action."""
    arrivals: int = 1
    """To a goal: rows of arrival tried, the earliest within reach taken; 1 is the last row alone."""
    value: ValueTraining = ValueTraining()
    """Without a goal: what a plan is worth."""
    guidance: ValueGuidance = ValueGuidance()
    """Without a goal: how samples are drawn towards what is worth more."""
    candidates: int = 64
    """Without a goal: plans of which the one of greatest value is followed."""

    def __post_init__(self):
        require_at_least(1, arrivals=self.arrivals, candidates=self.candidates)
        require_at_least(0, replan_every=self.replan_every)
        if self.to_a_goal:
            return
        chain_of(self.planner)
        require_plans_last(self.planner, self.replan_every)
        if not self.value.noised:
            raise UsageError("value.noised must be true, for diffuser asks the value of noised plans")

    @property
    def to_a_goal(self) -> bool:
        """Which of the two forms it is."""
        return self.planner.goal_size > 0


def prepare(config: DiffuserConfig, trajectories: Trajectories) -> Windows | ReturnWindows:
    """Windows as long as a plan lasts: each with its return, or to a goal of states without the goal that an
    observation may show after them."""
    if not config.to_a_goal:
        return return_windows(trajectories, config.planner.steps, config.value.discount)
    return state_windows(trajectories, config.planner.steps)


def stages(config: DiffuserConfig, system: System) -> list[Stage]:
    """Training is one stage, "policy"; its learning rate decays over the stage.

    Raises UsageError for a goal in a task without one.
    """
    return [policy_stage(config, system, config.steps)]


def finetune_stages(config: Any, system: System) -> list[Stage]:
    """Two stages, "source" and "policy" on the target; the learning rate decays over both."""
    stage = policy_stage(config, system, config.steps + config.finetune_steps)
    return transfer.finetuned(dataclasses.replace(stage, steps=config.steps), config.finetune_steps)


def policy_stage(config: DiffuserConfig, system: System, updates: int) -> Stage:
    """The stage "policy" in the form that the settings ask for."""
    return (goal_stage if config.to_a_goal else value_stage)(config, system, updates)


def goal_stage(config: DiffuserConfig, system: System, updates: int) -> Stage:
    """A planner to the task's goal, and the controller that follows its plans."""
    training = paced_planner(config.planner, updates)
    goal = goal_of(system, training.goal_size, "planner.goal_size")
    sampler = goal_sampler(config)

    def init(data: Windows, results: Results, *, key: PRNGKeyArray):
        return init_planner(training, config.inverse, data, key=key)

    def update(state, data: Windows, results: Results, *, step: Int[Array, ""], key: PRNGKeyArray):
        return update_planner(training, config.inverse, state, data, step=step, key=key)

    def policy(state, results: Results) -> PlannerPolicy:
        return PlannerPolicy(
            finish_planner(training, state), goal, jnp.asarray(system.action_low),
            jnp.asarray(system.action_high), sampler, config.controller, config.arrivals, config.replan_every,
            training.shortest,
        )  # fmt: skip

    return Stage("policy", updates, init, update, policy=policy)


def goal_sampler(config: DiffuserConfig) -> PlanSampler:
    """What draws plans to a goal: Heun's method for EDM, the chain's own sampler for a DDPM."""
    if config.planner.process == "edm":
        return Sampler("heun", config.schedule)
    require_fresh_plans(config.sampling)
    return config.sampling.sampler(chain_of(config.planner).schedule)


def value_stage(config: DiffuserConfig, system: System, updates: int) -> Stage:
    """A planner towards more return: diffusion and value learn from the same windows."""
    training, value = paced_planner(config.planner, updates), paced_value(config.value, updates)
    chain = chain_of(training)
    config.sampling.sampler(chain.schedule)  # refused before training, not after

    def init(data: ReturnWindows, results: Results, *, key: PRNGKeyArray):
        return init_valued(training, value, data, key=key)

    def update(state, data: ReturnWindows, results: Results, *, step: Int[Array, ""], key: PRNGKeyArray):
        return update_valued(training, value, state, data, step=step, key=key)

    def policy(state, results: Results) -> RecedingPlanner:
        worth = value.finish(state.value, chain)
        guide = config.guidance.guide(worth, system.observation_size)
        return RecedingPlanner(
            training.finish(state.windows), config.sampling.sampler(chain.schedule, guide),
            jnp.asarray(system.action_low), jnp.asarray(system.action_high), rank=worth,
            candidates=config.candidates, replan_every=config.replan_every,
        )  # fmt: skip

    return Stage("policy", updates, init, update, policy=policy)
