"""HDMI: a high level that learns shortest ways of a landmark graph, a low level that fills them in."""

import dataclasses
from dataclasses import dataclass
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from langevin.data.sampling import Windows, sample_windows
from langevin.data.trajectories import Trajectories
from langevin.diffusion.chain_sampler import ChainSampling
from langevin.errors import UsageError, require_at_least
from langevin.planners.goal_planner import greatest_displacement, pace_rows
from langevin.planners.hierarchical import HierarchyState, HierarchyTraining
from langevin.planners.subgoals import landmark_graph, shortest_ways
from langevin.training.algorithms.hierarchical_diffuser import both_levels, goal_policy
from langevin.training.algorithms.mazes import STATE_SIZE, state_windows
from langevin.training.algorithms.system import Results, System
from langevin.training.stage import Stage


@dataclass(frozen=True)
class HDMIConfig:
    """Settings of both levels, and of the graph."""

    steps: int
    """Gradient steps of each level."""
    planner: HierarchyTraining
    """Both levels; the high one plans states alone."""
    sampling: ChainSampling = ChainSampling()
    """How both levels are sampled."""
    replan_every: int = 0
    """Environment steps between two plans; 0 plans once an episode."""
    controller: Literal["waypoint", "actions"] = "waypoint"
    """How a plan becomes an action, by D4RL's law towards its states or its own actions."""
    arrivals: int = 1
    """Rows of arrival tried, the earliest within reach taken; 1 is the last row alone."""
    landmarks: int = 1_000
    """States of the data between which ways are searched."""
    ways: int = 20_000
    """Shortest ways that the high level learns from."""

    def __post_init__(self):
        require_at_least(1, arrivals=self.arrivals, ways=self.ways)
        require_at_least(0, replan_every=self.replan_every)
        require_at_least(2, landmarks=self.landmarks)


class HDMIData(eqx.Module):
    """Shortest ways, a window each, and windows of single steps as long as a jump."""

    ways: Windows
    segments: Windows


def prepare(config: HDMIConfig, trajectories: Trajectories) -> HDMIData:
    """Search the graph. Raises DatasetError where the data have no way from anywhere to anywhere."""
    jump = config.planner.jump
    graph = landmark_graph(trajectories, STATE_SIZE, jump, config.landmarks)
    ways, lengths = shortest_ways(graph, config.planner.high.horizon, config.ways)
    return HDMIData(
        windows_of_ways(ways, lengths, trajectories.action_size), state_windows(trajectories, jump + 1)
    )


def windows_of_ways(
    ways: Float[np.ndarray, "ways rows observation"], lengths: Int[np.ndarray, " ways"], action_size: int
) -> Windows:
    """Ways as windows of states; they have no actions or rewards, which are 0."""
    count, rows, size = ways.shape
    return Windows(
        jnp.asarray(ways.reshape(-1, size)),
        jnp.zeros((count * rows, action_size)),
        jnp.zeros(count * rows),
        jnp.arange(count, dtype=jnp.int32) * rows,
        jnp.asarray(lengths, jnp.int32),
        rows,
    )


def stages(config: HDMIConfig, system: System) -> list[Stage]:
    """Training is one stage, "policy". Raises UsageError for a task without a goal."""
    if system.task.maze is None:
        raise UsageError(
            f"hdmi searches ways to a goal, and task {system.task.id} has none; choose a pointmaze task, or "
            "hierarchical_diffuser, which also plans without one"
        )
    training = both_levels(config.planner, config.steps, STATE_SIZE)
    training = dataclasses.replace(training, high=dataclasses.replace(training.high, plans_actions=False))
    high, low = training.high, training.low
    policy = goal_policy(
        training, system, config.sampling, config.controller, config.arrivals, config.replan_every
    )

    def init(data: HDMIData, results: Results, *, key: PRNGKeyArray) -> HierarchyState:
        high_key, low_key = jax.random.split(key)
        segments = data.segments
        steps = pace_rows(training.jump) * training.jump
        return HierarchyState(
            high.init(segments.observations, segments.actions, key=high_key),
            low.init(segments.observations, segments.actions, key=low_key),
            greatest_displacement(segments, high.goal_size, min(steps, segments.horizon - 1)),
        )

    def update(
        state: HierarchyState, data: HDMIData, results: Results, *, step: Int[Array, ""], key: PRNGKeyArray
    ):
        ways_key, segments_key, high_key, low_key = jax.random.split(key, 4)
        ways = sample_windows(data.ways, high.batch_size, key=ways_key)
        segments = sample_windows(data.segments, low.batch_size, key=segments_key)
        higher, high_loss = high.update(state.high, ways, step=step, key=high_key)
        lower, low_loss = low.update(state.low, segments, step=step, key=low_key)
        return HierarchyState(higher, lower, state.fastest), {"high/loss": high_loss, "low/loss": low_loss}

    return [Stage("policy", config.steps, init, update, policy=policy)]
