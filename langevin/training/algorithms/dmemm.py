"""DMEMM end to end: the reward model, the dynamics ensemble, the planner that both shape and guide, and its value."""

import dataclasses
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from langevin.data.return_windows import ReturnWindows, return_windows
from langevin.data.sampling import WindowBatch, Windows, windows_at, windows_of
from langevin.data.strides import strided_transitions
from langevin.data.trajectories import Trajectories
from langevin.diffusion.chain_sampler import ChainSampler, ChainSampling
from langevin.diffusion.levels import Guide, InTurn
from langevin.dynamics.ensemble_training import EnsembleTraining
from langevin.dynamics.reward import RewardTraining
from langevin.dynamics.split import SplitTransitions, split_transitions
from langevin.errors import UsageError, require_at_least, require_between
from langevin.planners.controllers import ControllerName
from langevin.planners.dmemm import DMEMMTraining
from langevin.planners.dual_guidance import DualGuidance
from langevin.planners.goal_planner import (
    PlannerPolicy,
    PlannerState,
    finish_planner,
    init_planner,
    update_inverse,
)
from langevin.planners.inverse import InverseTraining
from langevin.planners.mechanism import Mechanism
from langevin.planners.plan_value import PlanValue, ValueTraining
from langevin.planners.receding import RecedingPlanner
from langevin.planners.value_guidance import ValueGuidance
from langevin.planners.window_diffusion import Scale, WindowState, every_row
from langevin.policies.base import Metrics, Policy
from langevin.training.algorithms.mazes import STATE_SIZE, goal_of, require_fresh_plans
from langevin.training.algorithms.model_based import dynamics_stage, reward_stage
from langevin.training.algorithms.planning import paced_planner, require_plans_last, value_stage
from langevin.training.algorithms.system import Results, System
from langevin.training.stage import Stage


@dataclass(frozen=True, kw_only=True)
class DMEMMConfig:
    """Settings of DMEMM."""

    steps: int
    """Gradient steps of the planner."""
    dynamics_steps: int
    """At most this many updates of the ensemble; early stopping may end it before."""
    reward_steps: int
    """Updates of the reward model."""
    planner: DMEMMTraining = DMEMMTraining()
    sampling: ChainSampling = ChainSampling(steps=100)
    guidance: DualGuidance = DualGuidance()
    dynamics: EnsembleTraining = EnsembleTraining()
    reward: RewardTraining = RewardTraining()
    value: ValueTraining = ValueTraining()
    """Without a goal: what comes of a plan, if `candidates` or `value_guidance` ask."""
    value_guidance: ValueGuidance = ValueGuidance(scale=0.0)
    """Without a goal: how samples are drawn towards what is worth more, besides `guidance`."""
    candidates: int = 1
    """Without a goal: plans of which the one of greatest value is followed."""
    replan_every: int = 1
    """Environment steps between two plans; in a maze 0 plans once an episode."""
    controller: ControllerName = "waypoint"
    """How a maze's plan becomes an action; elsewhere it is the plan's own."""
    arrivals: int = 1
    """In a maze, rows of arrival tried, the earliest within reach taken; 1 is the last row alone."""
    inverse: InverseTraining = InverseTraining()
    """Of the maze's controller "inverse"."""

    def __post_init__(self):
        require_at_least(1, arrivals=self.arrivals, candidates=self.candidates)
        require_at_least(0, replan_every=self.replan_every)
        require_between(1, self.planner.windows.chain.steps, **{"sampling.steps": self.sampling.steps})


class DMEMMData(eqx.Module):
    """What the stages draw from. returns: of the rows, discounted, to the end of their episodes. split: transitions as
    far apart as the rows of a plan. weights: Eq. 11's."""

    windows: Windows
    returns: Float[Array, " rows"]
    split: SplitTransitions
    weights: Float[Array, " windows"]

    @property
    def return_windows(self) -> ReturnWindows:
        """What the value learns from."""
        return ReturnWindows(self.windows, self.returns)


def prepare(config: DMEMMConfig, trajectories: Trajectories) -> DMEMMData:
    """Windows as Diffuser's, as long as a plan lasts, and transitions from row to row.

    Of a maze without the goal that it may show, all within an episode; of a robot from every row on, so that they show
    how an episode ends.
    """
    discount, length = config.value.discount, config.planner.windows.steps
    to_a_goal = config.planner.windows.goal_size > 0
    if to_a_goal:
        trajectories = dataclasses.replace(
            trajectories,
            observations=trajectories.observations[:, :STATE_SIZE],
            next_observations=trajectories.next_observations[:, :STATE_SIZE],
        )
    transitions = strided_transitions(trajectories, config.planner.windows.stride)
    valued = return_windows(trajectories, length, discount)
    windows = windows_of(trajectories, length) if to_a_goal else valued.windows
    weights = config.planner.weights(trajectories, windows)
    return DMEMMData(windows, valued.returns, split_transitions(transitions), jnp.asarray(weights))


def stages(config: DMEMMConfig, system: System) -> list[Stage]:
    """The models that any loss or guidance asks for, then the planner, whose learning rate decays over the stage.

    Raises UsageError for settings that do not fit the task.
    """
    require_fitting(config, system)
    asked = [
        reward_stage(config.reward, config.reward_steps) if asks_reward(config) else None,
        dynamics_stage(config.dynamics, config.dynamics_steps) if asks_dynamics(config) else None,
        worth_stage(config) if asks_value(config) else None,
    ]
    planner = robot_stage(config, system) if system.task.maze is None else maze_stage(config, system)
    return [*filter(None, asked), planner]


def asks_reward(config: DMEMMConfig) -> bool:
    """Whether anything asks the reward model."""
    return bool(config.planner.reward_weight or config.guidance.scale * config.guidance.reward_weight)


def asks_dynamics(config: DMEMMConfig) -> bool:
    """Whether anything asks the transition model."""
    return bool(config.planner.transition_weight or config.guidance.scale * config.guidance.transition_weight)


def asks_value(config: DMEMMConfig) -> bool:
    """Whether anything asks what a plan is worth."""
    return bool(config.candidates > 1 or config.value_guidance.scale)


def worth_stage(config: DMEMMConfig) -> Stage:
    """The value, which learns as long as the planner."""
    return value_stage(config.planner.windows, config.value, config.steps, lambda data: data.return_windows)


def require_fitting(config: DMEMMConfig, system: System) -> None:
    """Raises UsageError for a goal where the task has none or none where it has one, and for what needs the goal."""
    goal_size, task = config.planner.windows.goal_size, system.task
    if goal_size or task.maze is not None:
        goal_of(system, goal_size, "planner.windows.goal_size")
        require_fresh_plans(config.sampling)
    if goal_size and asks_value(config):
        raise UsageError(
            "candidates must be 1 and value_guidance.scale 0 with a goal: plans to a goal are not chosen by value"
        )
    if asks_value(config) and config.value_guidance.scale and not config.value.noised:
        raise UsageError("value.noised must be true, for value_guidance asks the value of noised plans")
    if task.maze is None:
        require_plans_last(config.planner.windows, config.replan_every)
    if task.drawn_goals and asks_reward(config):
        raise UsageError(
            f"rewards of {task.id} depend on a goal that is drawn anew in every episode and is not in a plan's rows; "
            "set planner.reward_weight and guidance.reward_weight to 0"
        )


def planner_training(config: DMEMMConfig) -> DMEMMTraining:
    """The planner's training with its decay set."""
    return dataclasses.replace(config.planner, windows=paced_planner(config.planner.windows, config.steps))


def mechanism_of(results: Results, scale: Scale) -> Mechanism:
    """The finished models, asked in a plan's units."""
    return Mechanism(results.get("dynamics"), results.get("reward"), scale)


def worth_of(config: DMEMMConfig, results: Results) -> PlanValue | None:
    """The finished value; None where nothing asks for it."""
    return config.value.finish(results["value"].value, config.planner.process) if asks_value(config) else None


def sampler_of(
    config: DMEMMConfig, results: Results, scale: Scale, worth: PlanValue | None = None
) -> ChainSampler:
    """What draws plans: by Eq. 13, and after it towards what is worth more."""
    schedule = config.planner.process.schedule
    guide: Guide = config.guidance.guide(mechanism_of(results, scale), schedule)
    if worth is not None and config.value_guidance.scale:
        guide = InTurn((guide, config.value_guidance.guide(worth, scale.observation_size)))
    return config.sampling.sampler(schedule, guide)


def update_windows(
    training: DMEMMTraining,
    state: WindowState,
    data: DMEMMData,
    results: Results,
    *,
    step: Int[Array, ""],
    key: PRNGKeyArray,
) -> tuple[WindowState, WindowBatch, Metrics]:
    """Draw a batch and take one gradient step; beside it the batch's rows at their stride."""
    batch_key, loss_key = jax.random.split(key)
    chosen = jax.random.randint(batch_key, (training.windows.batch_size,), 0, data.windows.size)
    batch = every_row(windows_at(data.windows, chosen), training.windows.stride)
    state, metrics = training.update(
        state, batch, data.weights[chosen], mechanism_of(results, state.scale), step=step, key=loss_key
    )
    return state, batch, metrics


def robot_stage(config: DMEMMConfig, system: System) -> Stage:
    """A planner that plans anew every few steps and takes its plan's actions (Algorithm 1)."""
    training = planner_training(config)

    def init(data: DMEMMData, results: Results, *, key: PRNGKeyArray) -> WindowState:
        return training.windows.init(data.windows.observations, data.windows.actions, key=key)

    def update(
        state: WindowState, data: DMEMMData, results: Results, *, step: Int[Array, ""], key: PRNGKeyArray
    ):
        state, _, metrics = update_windows(training, state, data, results, step=step, key=key)
        return state, metrics

    def policy(state: WindowState, results: Results) -> Policy:
        worth = worth_of(config, results)
        return RecedingPlanner(
            training.windows.finish(state), sampler_of(config, results, state.scale, worth),
            jnp.asarray(system.action_low), jnp.asarray(system.action_high), rank=worth,
            candidates=config.candidates, replan_every=config.replan_every,
        )  # fmt: skip

    return Stage("policy", config.steps, init, update, policy=policy)


def maze_stage(config: DMEMMConfig, system: System) -> Stage:
    """A planner to a goal, and beside it the inverse model that can follow its plans."""
    training, inverse = planner_training(config), config.inverse
    goal = goal_of(system, training.windows.goal_size, "planner.windows.goal_size")

    def init(data: DMEMMData, results: Results, *, key: PRNGKeyArray) -> PlannerState:
        return init_planner(training.windows, inverse, data.windows, key=key)

    def update(
        state: PlannerState, data: DMEMMData, results: Results, *, step: Int[Array, ""], key: PRNGKeyArray
    ):
        windows, batch, metrics = update_windows(training, state.windows, data, results, step=step, key=key)
        inverse_state, error = update_inverse(
            inverse, state.inverse, windows.scale, batch, training.windows.goal_size
        )
        return PlannerState(windows, inverse_state, state.fastest), metrics | {"planner/inverse": error}

    def policy(state: PlannerState, results: Results) -> Policy:
        return PlannerPolicy(
            finish_planner(training.windows, state), goal, jnp.asarray(system.action_low),
            jnp.asarray(system.action_high), sampler_of(config, results, state.windows.scale), config.controller,
            config.arrivals, config.replan_every, training.windows.shortest,
        )  # fmt: skip

    return Stage("policy", config.steps, init, update, policy=policy)
