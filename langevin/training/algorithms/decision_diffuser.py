"""Decision Diffuser (Ajay et al. 2023): states are planned for a return that is asked for, an inverse model acts."""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from langevin.data.normalize import MinMaxNormalizer
from langevin.data.return_windows import sample_return_windows
from langevin.data.trajectories import Trajectories
from langevin.diffusion.chain_sampler import ChainSampling
from langevin.dynamics.inverse import InverseTraining
from langevin.errors import UsageError, require_at_least, require_between
from langevin.planners.plan_value import chain_of
from langevin.planners.receding import RecedingPlanner
from langevin.planners.window_diffusion import WindowState, WindowTraining, every_row
from langevin.training.algorithms.planning import (
    StatePlannerData,
    inverse_stage,
    paced_planner,
    prepare_states,
    require_state_plans,
)
from langevin.training.algorithms.system import Results, System
from langevin.training.stage import Stage


@dataclass(frozen=True)
class DecisionDiffuserConfig:
    """Settings of Decision Diffuser."""

    steps: int
    """Gradient steps of the diffusion."""
    inverse_steps: int
    """Gradient steps of the inverse model."""
    planner: WindowTraining
    sampling: ChainSampling = ChainSampling()
    """How a plan is drawn."""
    inverse: InverseTraining = InverseTraining()
    discount: float = 0.99
    """Of the return that plans are told, per environment step, summed to the end of the episode."""
    target_return: float = 1.0
    """The return asked for; the data's least is -1, their best 1."""
    guidance: float = 1.2
    """omega: how much the return counts. 1 is the conditional model, above it the return counts for more."""
    replan_every: int = 1
    """Environment steps between two plans."""

    def __post_init__(self):
        require_at_least(0, guidance=self.guidance)
        require_between(0, 1, discount=self.discount)
        require_state_plans(self.planner, self.replan_every)
        if self.planner.contexts != 1:
            raise UsageError(
                f"planner.contexts must be 1, the return that is asked for; got {self.planner.contexts}"
            )
        chain_of(self.planner)


class DecisionDiffuserState(eqx.Module):
    """The diffusion in training, and the range of the data's returns."""

    windows: WindowState
    returns: MinMaxNormalizer


def prepare(config: DecisionDiffuserConfig, trajectories: Trajectories) -> StatePlannerData:
    """Windows with their returns, and jumps of one row of a plan."""
    return prepare_states(config.planner, config.discount, trajectories)


def stages(config: DecisionDiffuserConfig, system: System) -> list[Stage]:
    """The inverse model, then the diffusion, with which the policy is complete."""
    training, chain = paced_planner(config.planner, config.steps), chain_of(config.planner)
    sampler = config.sampling.sampler(chain.schedule)

    def init(data: StatePlannerData, results: Results, *, key: PRNGKeyArray) -> DecisionDiffuserState:
        rows, returns = data.windows.windows, data.windows.returns
        return DecisionDiffuserState(
            training.init(rows.observations, rows.actions, key=key), MinMaxNormalizer.fit(returns[:, None])
        )

    def update(state, data: StatePlannerData, results: Results, *, step: Int[Array, ""], key: PRNGKeyArray):
        batch_key, update_key = jax.random.split(key)
        batch, returns = sample_return_windows(data.windows, training.batch_size, key=batch_key)
        batch, contexts = every_row(batch, training.stride), state.returns.normalize(returns[:, None])
        windows, loss = training.update(state.windows, batch, contexts, step=step, key=update_key)
        return DecisionDiffuserState(windows, state.returns), {"planner/loss": loss}

    def policy(state: DecisionDiffuserState, results: Results) -> RecedingPlanner:
        # Algorithm 1: eps(none) + omega (eps(told) - eps(none)); our weight counts from the conditional model on.
        return RecedingPlanner(
            training.finish(state.windows), sampler, jnp.asarray(system.action_low),
            jnp.asarray(system.action_high), contexts=jnp.full(1, config.target_return),
            context_weight=config.guidance - 1, inverse=results["inverse"], replan_every=config.replan_every,
        )  # fmt: skip

    return [
        inverse_stage(config.inverse, config.inverse_steps),
        Stage("policy", config.steps, init, update, policy=policy),
    ]
