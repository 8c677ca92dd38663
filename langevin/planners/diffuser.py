"""A goal-conditioned diffusion planner (Janner et al. 2022, Diffuser, its maze form, on the EDM core).

A window of [observation, action] rows is drawn given its first observation and the position it must have at one
later row. Both are held fixed while sampling and shown to the network at data scale.
"""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from langevin.data.normalize import MinMaxNormalizer
from langevin.data.sampling import WindowBatch, Windows, sample_windows
from langevin.diffusion.constraints import Constraint
from langevin.diffusion.edm import EDM, edm_loss
from langevin.diffusion.guidance import guided_denoiser, with_presence
from langevin.diffusion.samplers import Churn, heun_sample
from langevin.diffusion.schedules import KarrasSchedule
from langevin.diffusion.training import DiffusionOptimizer, DiffusionState
from langevin.errors import require_at_least
from langevin.nets.temporal_unet import TemporalUNet, require_channels, require_horizon
from langevin.planners.controllers import CONTROLLERS, ControllerName
from langevin.policies.base import Metrics, Policy

Strategy = Literal["once", "receding"]


class PlannerModel(eqx.Module):
    """A trained planner: network, normalisers to [-1, 1] and the EDM constants.

    horizon: rows of a plan. goal_size: how many leading observation dimensions are the position.
    """

    network: TemporalUNet
    observation_normalizer: MinMaxNormalizer
    action_normalizer: MinMaxNormalizer
    horizon: int = eqx.field(static=True)
    goal_size: int = eqx.field(static=True)
    edm: EDM = EDM()

    def plan(
        self,
        observation: Float[Array, " observation"],
        goal: Float[Array, " goal"],
        goal_row: Int[Array, ""],
        schedule: KarrasSchedule,
        *,
        key: PRNGKeyArray,
    ) -> tuple[Float[Array, "horizon observation"], Float[Array, "horizon action"]]:
        """Draw one plan from `observation` that is at `goal` in row `goal_row`; raw units in and out."""
        size = observation.size
        start = self.observation_normalizer.normalize(observation)
        padded_goal = jnp.zeros(size).at[: self.goal_size].set(goal)
        goal = self.observation_normalizer.normalize(padded_goal)[: self.goal_size]
        channels = size + self.action_normalizer.low.size
        constraint, condition = endpoints(start, goal, goal_row, self.horizon, channels)
        denoiser = guided_denoiser(self.edm, self.network, condition, 1.0)
        sample = heun_sample(denoiser, constraint, schedule, Churn(), key=key)
        sample = jnp.clip(sample, -1, 1)
        return (
            self.observation_normalizer.denormalize(sample[:, :size]).at[0].set(observation),
            self.action_normalizer.denormalize(sample[:, size:]),
        )


def endpoints(
    start: Float[Array, " observation"],
    goal: Float[Array, " goal"],
    goal_row: Int[Array, ""],
    horizon: int,
    channels: int,
) -> tuple[Constraint, Float[Array, "horizon conditions"]]:
    """First observation and position at `goal_row`, as held entries and as the condition beside them.

    The condition repeats both at every row, with one channel that marks `goal_row` and one that says how much of
    the way to it each row has behind it, so that every part of a convolutional network knows where it stands.
    """
    rows = jnp.arange(horizon)
    is_first = jnp.zeros((horizon, channels), bool).at[0, : start.size].set(True)
    is_goal = (rows == goal_row)[:, None] & (jnp.arange(channels) < goal.size)[None]
    first = jnp.zeros((horizon, channels)).at[0, : start.size].set(start)
    values = jnp.where(is_goal, jnp.zeros(channels).at[: goal.size].set(goal), first)
    clock = jnp.clip(rows / jnp.maximum(goal_row, 1), 0.0, 1.0)
    condition = jnp.concatenate(
        [
            jnp.broadcast_to(start, (horizon, start.size)),
            jnp.broadcast_to(goal, (horizon, goal.size)),
            (rows == goal_row).astype(jnp.float32)[:, None],
            clock[:, None],
        ],
        axis=-1,
    )
    return Constraint(is_first | is_goal, values), condition


class PlannerState(eqx.Module):
    """A planner in training."""

    diffusion: DiffusionState
    observation_normalizer: MinMaxNormalizer
    action_normalizer: MinMaxNormalizer


class PlannerTraining(eqx.Module):
    """How the planner is built and trained.

    horizon: rows of a window. shortest: the earliest row a goal is asked for; half of the windows have it in the
    last row, half anywhere from `shortest` on, so that a plan can be renewed on the way with less time left.
    """

    optimizer: DiffusionOptimizer = DiffusionOptimizer()
    horizon: int = eqx.field(static=True, default=128)
    shortest: int = eqx.field(static=True, default=16)
    goal_size: int = eqx.field(static=True, default=2)
    width: int = eqx.field(static=True, default=32)
    multipliers: tuple[int, ...] = eqx.field(static=True, default=(1, 2, 4))
    kernel: int = eqx.field(static=True, default=5)
    batch_size: int = eqx.field(static=True, default=32)
    edm: EDM = EDM()

    def __check_init__(self):
        require_channels(self.width, self.multipliers, self.kernel)
        require_at_least(1, batch_size=self.batch_size, shortest=self.shortest)
        require_horizon(self.horizon, len(self.multipliers))

    def init(self, windows: Windows, *, key: PRNGKeyArray) -> PlannerState:
        """A fresh network, and normalisers fitted to the data."""
        size, action_size = windows.observations.shape[-1], windows.actions.shape[-1]
        channels = size + action_size
        conditions = size + self.goal_size + 3
        network = TemporalUNet(
            channels + conditions, channels, self.width, self.multipliers, kernel=self.kernel, key=key
        )
        return PlannerState(
            self.optimizer.init(network),
            MinMaxNormalizer.fit(windows.observations),
            MinMaxNormalizer.fit(windows.actions),
        )

    def loss(
        self, network: TemporalUNet, state: PlannerState, batch: WindowBatch, *, key: PRNGKeyArray
    ) -> Float[Array, ""]:
        """The denoising error on everything but the endpoints, valid rows only."""
        row_key, last_key, loss_key = jax.random.split(key, 3)
        observations = state.observation_normalizer.normalize(batch.observations)
        clean = jnp.concatenate([observations, state.action_normalizer.normalize(batch.actions)], axis=-1)
        windows = clean.shape[0]
        lengths = batch.mask.sum(axis=1)
        earliest = jnp.minimum(self.shortest, lengths - 1)
        anywhere = jax.random.randint(row_key, (windows,), earliest, lengths)
        goal_rows = jnp.where(jax.random.bernoulli(last_key, 0.5, (windows,)), lengths - 1, anywhere)

        def known(rows: Float[Array, "horizon channels"], goal_row: Int[Array, ""]):
            start, goal = rows[0, : observations.shape[-1]], rows[goal_row, : self.goal_size]
            constraint, condition = endpoints(start, goal, goal_row, self.horizon, rows.shape[-1])
            return constraint, with_presence(condition, True)

        constraints, conditions = jax.vmap(known)(clean, goal_rows)
        return edm_loss(self.edm, network, clean, batch.mask, constraints, conditions, key=loss_key)

    def update(
        self, state: PlannerState, windows: Windows, *, step: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[PlannerState, Metrics]:
        """Draw a batch of windows and take one gradient step."""
        batch_key, loss_key = jax.random.split(key)
        batch = sample_windows(windows, self.batch_size, key=batch_key)
        diffusion, loss = self.optimizer.update(
            state.diffusion, lambda network: self.loss(network, state, batch, key=loss_key), step=step
        )
        return eqx.tree_at(lambda s: s.diffusion, state, diffusion), {"planner/loss": loss}

    def finish(self, state: PlannerState) -> PlannerModel:
        """The planner with averaged weights."""
        return PlannerModel(
            state.diffusion.average,
            state.observation_normalizer,
            state.action_normalizer,
            self.horizon,
            self.goal_size,
            self.edm,
        )


class Plan(eqx.Module):
    """A planner's memory: its last plan in raw units, the row it is at, the row at which it is at the goal, and the
    steps since the episode began."""

    observations: Float[Array, "batch horizon observation"]
    actions: Float[Array, "batch horizon action"]
    row: Int[Array, ""]
    goal_row: Int[Array, ""]
    age: Int[Array, ""]


class PlannerPolicy(Policy):
    """Plans to a fixed goal and follows the plan.

    controller: how a plan becomes an action: "waypoint" (D4RL's PD law towards the planned states, held at the goal
    once it is there) or "actions" (the plan's own). arrive_by: the row at which a plan is to be at the goal; 0 is the
    last one. replan_every: steps after which a new plan is drawn; 0 plans once an episode. A new plan has the rest of
    the first one's time to reach the goal, but never fewer than `shortest` rows.
    """

    model: PlannerModel
    goal: Float[Array, " goal"]
    action_low: Float[Array, " action"]
    action_high: Float[Array, " action"]
    schedule: KarrasSchedule
    controller: ControllerName = eqx.field(static=True)
    arrive_by: int = eqx.field(static=True)
    replan_every: int = eqx.field(static=True)
    shortest: int = eqx.field(static=True)

    def start(self, batch_size: int) -> Plan:
        """No plan yet."""
        size, action_size = self.model.observation_normalizer.low.size, self.action_low.size
        return Plan(
            jnp.zeros((batch_size, self.model.horizon, size)),
            jnp.zeros((batch_size, self.model.horizon, action_size)),
            *(jnp.int32(0),) * 3,
        )

    def act(
        self, observations: Float[Array, "batch observation"], memory: Plan, *, key: PRNGKeyArray
    ) -> tuple[Float[Array, "batch action"], Plan]:
        """Plan when it is time to, then follow the plan one row further."""
        memory = jax.lax.cond(
            self.due(memory.age), lambda: self.renew(observations, memory, key=key), lambda: memory
        )
        actions = CONTROLLERS[self.controller](
            observations, memory.observations, memory.actions, memory.row, memory.goal_row
        )
        row = jnp.minimum(memory.row + 1, self.model.horizon - 1)
        memory = Plan(memory.observations, memory.actions, row, memory.goal_row, memory.age + 1)
        return jnp.clip(actions, self.action_low, self.action_high), memory

    @property
    def last_row(self) -> int:
        """The row at which an episode's first plan is at the goal."""
        return self.arrive_by if 0 < self.arrive_by < self.model.horizon else self.model.horizon - 1

    def due(self, age: Int[Array, ""]) -> Bool[Array, ""]:
        """Whether to plan now. A controller that holds the goal needs no plan once it should be there."""
        if self.replan_every == 0:
            return age == 0
        renewed = age % self.replan_every == 0
        return renewed & (age < self.last_row) if self.controller == "waypoint" else renewed

    def renew(
        self, observations: Float[Array, "batch observation"], memory: Plan, *, key: PRNGKeyArray
    ) -> Plan:
        """A fresh plan from where each system is now."""
        goal_row = jnp.clip(self.last_row - memory.age, min(self.shortest, self.last_row), self.last_row)

        def one(observation, key):
            return self.model.plan(observation, self.goal, goal_row, self.schedule, key=key)

        planned, actions = jax.vmap(one)(observations, jax.random.split(key, observations.shape[0]))
        return Plan(planned, actions, jnp.int32(0), goal_row, memory.age)
