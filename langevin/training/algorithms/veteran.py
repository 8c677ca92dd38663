"""A planner after Diffusion Veteran (Lu et al. 2025): plans of states far apart, drawn without guidance, of which a
critic chooses one and an inverse model follows it."""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from langevin.data.trajectories import Trajectories
from langevin.diffusion.chain_sampler import ChainSampling
from langevin.dynamics.inverse import InverseTraining
from langevin.errors import UsageError, require_at_least
from langevin.planners.plan_value import ValueTraining, chain_of, init_valued, update_valued
from langevin.planners.receding import RecedingPlanner
from langevin.planners.window_diffusion import WindowTraining
from langevin.training.algorithms.planning import (
    StatePlannerData,
    inverse_stage,
    paced_planner,
    paced_value,
    prepare_states,
    require_state_plans,
)
from langevin.training.algorithms.system import Results, System
from langevin.training.stage import Stage


@dataclass(frozen=True)
class VeteranConfig:
    """Settings of the Diffusion Veteran-like planner."""

    steps: int
    """Gradient steps of diffusion and critic."""
    inverse_steps: int
    """Gradient steps of the inverse model."""
    planner: WindowTraining
    sampling: ChainSampling = ChainSampling("ddim")
    """How a plan is drawn."""
    inverse: InverseTraining = InverseTraining()
    value: ValueTraining = ValueTraining(noised=False)
    """The critic of a finished plan."""
    candidates: int = 50
    """Plans of which the one of greatest value is followed (Monte-Carlo sampling with selection)."""
    replan_every: int = 1
    """Environment steps between two plans."""

    def __post_init__(self):
        require_at_least(1, candidates=self.candidates)
        require_state_plans(self.planner, self.replan_every)
        if self.value.noised:
            raise UsageError("value.noised must be false, for the critic judges finished plans")
        chain_of(self.planner)


def prepare(config: VeteranConfig, trajectories: Trajectories) -> StatePlannerData:
    """Windows with their returns, and jumps of one row of a plan."""
    return prepare_states(config.planner, config.value.discount, trajectories)


def stages(config: VeteranConfig, system: System) -> list[Stage]:
    """The inverse model, then diffusion and critic, with which the policy is complete."""
    training, value = paced_planner(config.planner, config.steps), paced_value(config.value, config.steps)
    chain = chain_of(training)
    sampler = config.sampling.sampler(chain.schedule)

    def init(data: StatePlannerData, results: Results, *, key: PRNGKeyArray):
        return init_valued(training, value, data.windows, key=key)

    def update(state, data: StatePlannerData, results: Results, *, step: Int[Array, ""], key: PRNGKeyArray):
        return update_valued(training, value, state, data.windows, step=step, key=key)

    def policy(state, results: Results) -> RecedingPlanner:
        return RecedingPlanner(
            training.finish(state.windows), sampler, jnp.asarray(system.action_low),
            jnp.asarray(system.action_high), rank=value.finish(state.value, chain),
            inverse=results["inverse"], candidates=config.candidates, replan_every=config.replan_every,
        )  # fmt: skip

    return [
        inverse_stage(config.inverse, config.inverse_steps),
        Stage("policy", config.steps, init, update, policy=policy),
    ]
