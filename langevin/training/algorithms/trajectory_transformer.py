"""Trajectory Transformer: one stage."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray

from langevin.data.contexts import returns_to_go, steps_before
from langevin.data.discretize import BinKind, Discretizer
from langevin.data.trajectories import Trajectories
from langevin.errors import require_at_least
from langevin.planners.beam_search import BeamSearch
from langevin.planners.trajectory_transformer import (
    TokenRows,
    TrajectoryTransformer,
    TrajectoryTransformerPolicy,
    require_plan_fits,
)
from langevin.training.algorithms.pace import paced
from langevin.training.algorithms.system import Results, System
from langevin.training.stage import Stage


@dataclass(frozen=True)
class TrajectoryTransformerConfig:
    """Settings of Trajectory Transformer."""

    steps: int
    """Gradient steps."""
    bins: int = 100
    """Bins of each dimension."""
    bin_kind: BinKind = "percentile"
    """Bins that hold as many rows each, or that are as wide each."""
    history: int = 4
    """Transitions before now that a plan knows of."""
    replan_every: int = 1
    """Environment steps from one plan to the next."""
    model: TrajectoryTransformer = TrajectoryTransformer()
    search: BeamSearch = BeamSearch()

    def __post_init__(self):
        require_at_least(2, bins=self.bins)
        require_plan_fits(self.model.context, self.history, self.search.horizon, self.replan_every)


def prepare(config: TrajectoryTransformerConfig, trajectories: Trajectories) -> TokenRows:
    """Every transition as tokens; returns-to-go are discounted as the search discounts."""
    rows = np.concatenate(
        [
            trajectories.observations,
            trajectories.actions,
            trajectories.rewards[:, None],
            returns_to_go(trajectories, config.search.discount)[:, None],
        ],
        axis=1,
    )
    discretizer = Discretizer.fit(rows, config.bins, config.bin_kind)
    steps = jnp.asarray(steps_before(trajectories), jnp.int32)
    return TokenRows(discretizer.encode(rows).astype(jnp.int32), steps, discretizer)


def stages(config: TrajectoryTransformerConfig, system: System) -> list[Stage]:
    """Training is one stage, "policy"; its learning rate decays over the stage."""
    training = paced(config.model, config.steps)

    def init(data: TokenRows, results: Results, *, key: PRNGKeyArray):
        return training.init(data, key=key)

    def update(state, data: TokenRows, results: Results, *, step: Int[Array, ""], key: PRNGKeyArray):
        return training.update(state, data, key=key)

    def policy(state, results: Results) -> TrajectoryTransformerPolicy:
        return TrajectoryTransformerPolicy(
            state.model, state.discretizer, jnp.asarray(system.action_low), jnp.asarray(system.action_high),
            config.search, config.history, config.replan_every,
        )  # fmt: skip

    return [Stage("policy", config.steps, init, update, policy=policy)]
