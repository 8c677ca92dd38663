"""HDMI: a high level that learns shortest ways of a landmark graph, a low level that fills them in."""

import dataclasses
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from langevin.data.sampling import Windows, sample_windows, windows_of
from langevin.data.trajectories import Trajectories
from langevin.errors import UsageError, require_at_least
from langevin.planners.goal_planner import GoalPlanner, PlannerPolicy, greatest_displacement, pace_rows
from langevin.planners.hierarchical import HierarchyState
from langevin.planners.segments import SegmentFiller
from langevin.planners.subgoals import landmark_graph, shortest_ways
from langevin.training.algorithms.diffuser import STATE_SIZE
from langevin.training.algorithms.hierarchical_diffuser import HierarchicalDiffuserConfig, both_levels
from langevin.training.algorithms.system import Results, System
from langevin.training.stage import Stage


@dataclass(frozen=True)
class HDMIConfig(HierarchicalDiffuserConfig):
    """Settings of both levels, as Hierarchical Diffuser's, and of the graph."""

    landmarks: int = 1_000
    """States of the data between which ways are searched."""
    ways: int = 20_000
    """Shortest ways that the high level learns from."""

    def __post_init__(self):
        super().__post_init__()
        require_at_least(1, ways=self.ways)


class HDMIData(eqx.Module):
    """Shortest ways, a window each, and windows of single steps as long as a jump."""

    ways: Windows
    segments: Windows


def prepare(config: HDMIConfig, trajectories: Trajectories) -> HDMIData:
    """Search the graph. Raises DatasetError where the data have no way from anywhere to anywhere."""
    jump = config.planner.jump
    graph = landmark_graph(trajectories, STATE_SIZE, jump, config.landmarks)
    ways, lengths = shortest_ways(graph, config.planner.high.horizon, config.ways)
    segments = windows_of(trajectories, jump + 1)
    return HDMIData(
        windows_of_ways(ways, lengths, trajectories.action_size),
        eqx.tree_at(lambda w: w.observations, segments, segments.observations[:, :STATE_SIZE]),
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
    maze = system.task.maze
    if maze is None:
        raise UsageError(
            f"hdmi searches ways to a goal, and task {system.task.id} has none; choose a pointmaze task, or "
            "hierarchical_diffuser, which also plans without one"
        )
    training = both_levels(config, STATE_SIZE)
    training = dataclasses.replace(training, high=dataclasses.replace(training.high, plans_actions=False))
    high, low = training.high, training.low
    goal = None if system.task.drawn_goals else jnp.asarray(maze.goal, jnp.float32)

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

    def policy(state: HierarchyState, results: Results) -> PlannerPolicy:
        high_sampler, low_sampler = (
            config.sampling.sampler(level.chain.ddpm().schedule) for level in (high, low)
        )
        fill = SegmentFiller(low.finish(state.low), low_sampler)
        planner = GoalPlanner(high.finish(state.high), None, state.fastest, high.goal_size, fill)
        return PlannerPolicy(
            planner, goal, jnp.asarray(system.action_low), jnp.asarray(system.action_high), high_sampler,
            config.controller, config.arrivals, config.replan_every, high.shortest,
        )  # fmt: skip

    return [Stage("policy", config.steps, init, update, policy=policy)]
