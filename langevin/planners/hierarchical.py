"""Hierarchical Diffuser (Chen et al. 2024, "Simple hierarchical planning with diffusion", HD-DA).

A high level plans every `jump`-th state beside the actions in between; a low level fills in each stretch, both of its
ends fixed. The two are trained apart, on windows of the same data.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from langevin.data.return_windows import ReturnWindows, sample_return_windows
from langevin.data.sampling import WindowBatch, Windows
from langevin.planners.goal_planner import greatest_displacement, pace_rows
from langevin.planners.plan_value import ValueState, ValueTraining, chain_of
from langevin.planners.receding import PlanMemory, RecedingPlanner
from langevin.planners.segments import SegmentFiller, dense_segments, sparse_rows
from langevin.planners.window_diffusion import WindowState, WindowTraining
from langevin.policies.base import Metrics, Policy


class HierarchyState(eqx.Module):
    """Both levels in training. fastest: the data's pace towards goals, 0 where there are none."""

    high: WindowState
    low: WindowState
    fastest: Float[Array, ""]


class HierarchyTraining(eqx.Module):
    """How both levels are trained.

    high: a row is a state and the `jump` actions after it. low: a row is one step; its horizon, and that its goal is
    the whole last state, follow from `jump`.
    """

    high: WindowTraining = WindowTraining()
    low: WindowTraining = WindowTraining()
    jump: int = eqx.field(static=True, default=4)

    @property
    def steps(self) -> int:
        """Environment steps of a window."""
        return self.high.horizon * self.jump

    def init(self, windows: Windows, *, key: PRNGKeyArray) -> HierarchyState:
        """Fresh networks, and scales of the data."""
        high_key, low_key = jax.random.split(key)
        observations, actions = windows.observations, windows.actions
        return HierarchyState(
            self.high.init(observations, jnp.tile(actions, (1, self.jump)), key=high_key),
            self.low.init(observations, actions, key=low_key),
            greatest_displacement(windows, self.high.goal_size, pace_rows(self.jump) * self.jump),
        )

    def update(
        self, state: HierarchyState, batch: WindowBatch, *, step: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[HierarchyState, Metrics]:
        """One gradient step on either level. batch: windows of `steps` rows."""
        segment_key, high_key, low_key = jax.random.split(key, 3)
        high, high_loss = self.high.update(state.high, sparse_rows(batch, self.jump), step=step, key=high_key)
        segments = dense_segments(batch, self.jump, key=segment_key)
        low, low_loss = self.low.update(state.low, segments, step=step, key=low_key)
        return HierarchyState(high, low, state.fastest), {"high/loss": high_loss, "low/loss": low_loss}


class ValuedHierarchy(eqx.Module):
    """Both levels in training, and what the high level's plans are worth."""

    levels: HierarchyState
    value: ValueState


def init_valued_hierarchy(
    training: HierarchyTraining, value: ValueTraining, data: ReturnWindows, *, key: PRNGKeyArray
) -> ValuedHierarchy:
    """Fresh networks, and scales of the data."""
    levels_key, value_key = jax.random.split(key)
    windows = data.windows
    channels = windows.observations.shape[-1] + training.jump * windows.actions.shape[-1]
    return ValuedHierarchy(
        training.init(windows, key=levels_key),
        value.init(data.returns, training.high.horizon, channels, key=value_key),
    )


def update_valued_hierarchy(
    training: HierarchyTraining,
    value: ValueTraining,
    state: ValuedHierarchy,
    data: ReturnWindows,
    *,
    step: Int[Array, ""],
    key: PRNGKeyArray,
) -> tuple[ValuedHierarchy, Metrics]:
    """Draw windows, and take one gradient step on either level and on the value of the high one's plans."""
    batch_key, levels_key, known_key, value_key = jax.random.split(key, 4)
    batch, returns = sample_return_windows(data, training.high.batch_size, key=batch_key)
    levels, metrics = training.update(state.levels, batch, step=step, key=levels_key)
    sparse = sparse_rows(batch, training.jump)
    examples = training.high.examples(state.levels.high.scale, sparse, key=known_key)
    valued, value_loss = value.update(
        state.value, chain_of(training.high), examples, returns, step=step, key=value_key
    )
    return ValuedHierarchy(levels, valued), {**metrics, "value/loss": value_loss}


class HierarchyMemory(eqx.Module):
    """The high level's plans, and the stretches to their first states."""

    high: PlanMemory
    segments: Float[Array, "batch horizon channels"]


class HierarchicalPlanner(Policy):
    """Plans far ahead in jumps, fills in the first of them, follows it for a few steps and plans again.

    high: chooses plans of jumps; how often is its `replan_every`, at most a jump. fill: the low level.
    """

    high: RecedingPlanner
    fill: SegmentFiller

    def start(self, batch_size: int) -> HierarchyMemory:
        """No plan yet."""
        shape = (batch_size, self.fill.windows.horizon, self.fill.windows.channels)
        return HierarchyMemory(self.high.start(batch_size), jnp.zeros(shape))

    def act(
        self, observations: Float[Array, "batch observation"], memory: HierarchyMemory, *, key: PRNGKeyArray
    ) -> tuple[Float[Array, "batch action"], HierarchyMemory]:
        """Plan when it is time to, then take the low level's action for this step."""
        row = memory.high.age % self.high.replan_every

        def renew() -> tuple[Any, Any]:
            high_key, low_key = jax.random.split(key)
            plans = self.high.renew(observations, memory.high, key=high_key)
            wanted = self.high.windows.scale.observations(plans[:, 1])
            keys = jax.random.split(low_key, observations.shape[0])
            fill = lambda here, there, key: self.fill.segment(here, there, key=key)
            return plans, jax.vmap(fill)(observations, wanted, keys)

        plans, segments = jax.lax.cond(row == 0, renew, lambda: (memory.high.rows, memory.segments))
        actions = self.fill.windows.scale.actions(segments[:, row])
        memory = HierarchyMemory(PlanMemory(plans, memory.high.age + 1), segments)
        return jnp.clip(actions, self.high.action_low, self.high.action_high), memory
