"""What the planners without a goal share: their data, their paces, and what a plan must last for."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
from jaxtyping import Array, Int, PRNGKeyArray

from langevin.data.return_windows import ReturnWindows, jumps_of, return_windows
from langevin.data.sampling import Transitions
from langevin.data.trajectories import Trajectories
from langevin.dynamics.inverse import InverseTraining
from langevin.errors import UsageError, require_at_least
from langevin.planners.plan_value import ScaledValue, ValueTraining, init_value, update_value
from langevin.planners.window_diffusion import WindowTraining
from langevin.training.algorithms.model_based import model_stage
from langevin.training.algorithms.pace import paced
from langevin.training.algorithms.system import Results
from langevin.training.stage import Stage


class StatePlannerData(eqx.Module):
    """What a planner of states alone learns from: windows with their returns, and for its inverse model each row with
    where its episode was one row of a plan later."""

    windows: ReturnWindows
    jumps: Transitions


def prepare_states(planner: WindowTraining, discount: float, trajectories: Trajectories) -> StatePlannerData:
    """Windows as long as a plan lasts, and jumps as long as its stride."""
    return StatePlannerData(
        return_windows(trajectories, planner.steps, discount), jumps_of(trajectories, planner.stride)
    )


def inverse_stage(training: InverseTraining, steps: int) -> Stage:
    """The action that leads from a state to the one a row of a plan later."""
    return model_stage("inverse", training, steps, lambda data: data.jumps)


def value_stage(
    planner: WindowTraining, training: ValueTraining, steps: int, data_of: Callable[[Any], ReturnWindows]
) -> Stage:
    """What a plan is worth as the stage "value"; its learning rate decays over the stage."""
    training = paced_value(training, steps)

    def init(data: Any, results: Results, *, key: PRNGKeyArray) -> ScaledValue:
        return init_value(planner, training, data_of(data), key=key)

    def update(state: ScaledValue, data: Any, results: Results, *, step: Int[Array, ""], key: PRNGKeyArray):
        return update_value(planner, training, state, data_of(data), step=step, key=key)

    return Stage("value", steps, init, update)


def paced_planner(training: WindowTraining, updates: int) -> WindowTraining:
    """The training with its learning rate falling over these updates."""
    return dataclasses.replace(training, optimizer=paced(training.optimizer, updates))


def paced_value(training: ValueTraining, updates: int) -> ValueTraining:
    """The same for a value."""
    return dataclasses.replace(training, optimizer=paced(training.optimizer, updates))


def require_state_plans(planner: WindowTraining, replan_every: int) -> None:
    """Raises UsageError for settings of a planner of states alone that holds no goal."""
    if planner.goal_size:
        raise UsageError(f"planner.goal_size must be 0, for it plans without a goal; got {planner.goal_size}")
    if planner.plans_actions:
        raise UsageError("planner.plans_actions must be false: it plans states, and an inverse model acts")
    require_plans_last(planner, replan_every)


def require_plans_last(planner: WindowTraining, replan_every: int) -> None:
    """Raises UsageError where a plan is over before the next one is drawn; one of states must show the state after."""
    require_at_least(1, replan_every=replan_every)
    followed = planner.steps if planner.plans_actions else planner.steps - planner.stride
    if replan_every > followed:
        raise UsageError(
            f"replan_every must be at most {followed}, the steps for which a plan of {planner.horizon} rows says "
            f"what to do; got {replan_every}"
        )
