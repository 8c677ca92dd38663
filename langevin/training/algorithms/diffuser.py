"""The goal-conditioned diffusion planner: one stage."""

import dataclasses
from dataclasses import dataclass

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from langevin.data.sampling import Windows, windows_of
from langevin.data.trajectories import Trajectories
from langevin.diffusion.samplers import Sampler
from langevin.diffusion.schedules import KarrasSchedule
from langevin.errors import UsageError, require_at_least
from langevin.planners.controllers import ControllerName
from langevin.planners.goal_planner import PlannerPolicy, finish_planner, init_planner, update_planner
from langevin.planners.inverse import InverseTraining
from langevin.planners.window_diffusion import WindowTraining
from langevin.training.algorithms.system import Results, System
from langevin.training.stage import Stage

STATE_SIZE = 4
"""Of a point in a maze: position and velocity."""


@dataclass(frozen=True)
class DiffuserConfig:
    """Settings of the planner."""

    steps: int
    """Gradient steps."""
    planner: WindowTraining
    schedule: KarrasSchedule
    """Noise levels of a plan's sampling."""
    inverse: InverseTraining = InverseTraining()
    controller: ControllerName = "waypoint"
    """How a plan becomes an action."""
    arrivals: int = 1
    """Rows of arrival tried, the earliest within reach taken; 1 is the last row alone."""
    replan_every: int = 0
    """Environment steps between two plans; 0 plans once an episode."""

    def __post_init__(self):
        require_at_least(1, arrivals=self.arrivals)
        require_at_least(0, replan_every=self.replan_every)


def prepare(config: DiffuserConfig, trajectories: Trajectories) -> Windows:
    """Windows as long as a plan lasts, of states without the goal that an observation may show after them."""
    windows = windows_of(trajectories, config.planner.steps)
    return eqx.tree_at(lambda w: w.observations, windows, windows.observations[:, :STATE_SIZE])


def stages(config: DiffuserConfig, system: System) -> list[Stage]:
    """Training is one stage, "policy"; its learning rate decays over the stage.

    Raises UsageError for a task without a goal.
    """
    if system.task.maze is None:
        raise UsageError(
            f"diffuser plans to a goal, and task {system.task.id} has none; choose a pointmaze task"
        )
    optimizer = dataclasses.replace(config.planner.optimizer, decay_steps=config.steps)
    training = dataclasses.replace(config.planner, optimizer=optimizer)
    maze, shown = system.task.maze, system.task.drawn_goals
    goal = None if shown else jnp.asarray(maze.goal, jnp.float32)

    sampler = Sampler("heun", config.schedule)

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

    return [Stage("policy", config.steps, init, update, policy=policy)]
