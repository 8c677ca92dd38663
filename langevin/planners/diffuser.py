"""A goal-conditioned diffusion planner (Janner et al. 2022, Diffuser, its maze form, on the EDM core).

A window of [observation, action] rows is drawn given its first observation and the position it must have at one
later row. Both are held fixed while sampling and shown to the network at data scale.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from langevin.data.normalize import MinMaxNormalizer
from langevin.data.sampling import WindowBatch, Windows, sample_windows
from langevin.diffusion.constraints import Constraint
from langevin.diffusion.edm import EDM, edm_loss
from langevin.diffusion.guidance import guided_denoiser, with_presence
from langevin.diffusion.heun import Churn, heun_sample
from langevin.diffusion.schedules import KarrasSchedule
from langevin.diffusion.training import DiffusionOptimizer, DiffusionState
from langevin.errors import require_at_least
from langevin.nets.temporal_unet import TemporalUNet, require_channels, require_horizon
from langevin.planners.controllers import ControllerName, follow_actions, follow_inverse, follow_waypoints
from langevin.planners.inverse import InverseController, InverseState, InverseTraining
from langevin.policies.base import Metrics, Policy

PACE_STEPS = 8
"""Steps over which a pace is measured: long enough that a sample's jitter does not count as speed."""

PACE_MARGIN = 1.2
"""How much faster than the fastest data a plan may be before it is said not to reach its goal in time."""


class PlannerModel(eqx.Module):
    """A trained planner: network, normalisers to [-1, 1] and the EDM constants.

    fastest: the data's greatest displacement over PACE_STEPS steps. horizon: rows of a plan. stride: environment steps
    from one row to the next. goal_size: how many leading observation dimensions are the position.
    """

    network: TemporalUNet
    inverse: InverseController
    observation_normalizer: MinMaxNormalizer
    action_normalizer: MinMaxNormalizer
    fastest: Float[Array, ""]
    horizon: int = eqx.field(static=True)
    stride: int = eqx.field(static=True)
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

    def inverse_action(
        self, observation: Float[Array, " observation"], wanted: Float[Array, " observation"]
    ) -> Float[Array, " action"]:
        """The action that leads to the position wanted one row later, learned from the data; raw units."""
        here, there = self.observation_normalizer.normalize(jnp.stack([observation, wanted]))
        return self.action_normalizer.denormalize(self.inverse(here, there[: self.goal_size]))

    def reaches(
        self, planned: Float[Array, "horizon observation"], goal_row: Int[Array, ""]
    ) -> Bool[Array, ""]:
        """Whether a plan gets to its goal at a pace that the data know.

        Asked for a goal that is too far, a plan jumps: the goal is held, and no row before it can be near enough.
        """
        rows = pace_rows(self.stride)
        moved = displacements(planned[:, : self.goal_size], rows)
        before_goal = jnp.arange(moved.size) + rows <= goal_row
        return jnp.where(before_goal, moved, 0.0).max(initial=0.0) <= PACE_MARGIN * self.fastest

    def earliest_plan(
        self,
        observation: Float[Array, " observation"],
        goal: Float[Array, " goal"],
        goal_rows: Int[Array, " candidates"],
        schedule: KarrasSchedule,
        *,
        key: PRNGKeyArray,
    ) -> tuple[Float[Array, "horizon observation"], Float[Array, "horizon action"], Int[Array, ""]]:
        """Draw a plan for each of `goal_rows`, ascending; return the first that reaches its goal, else the last."""

        def one(goal_row, key):
            planned, actions = self.plan(observation, goal, goal_row, schedule, key=key)
            return planned, actions, self.reaches(planned, goal_row)

        planned, actions, reached = jax.vmap(one)(goal_rows, jax.random.split(key, goal_rows.size))
        chosen = jnp.where(reached.any(), reached.argmax(), goal_rows.size - 1)
        return planned[chosen], actions[chosen], goal_rows[chosen]


def pace_rows(stride: int) -> int:
    """Rows of a plan over which its pace is measured."""
    return max(PACE_STEPS // stride, 1)


def step_by_step(planned: Float[Array, "horizon channels"], stride: int) -> Float[Array, "steps channels"]:
    """A plan with a row for each environment step, straight from each of its rows to the next."""
    steps = jnp.arange((planned.shape[0] - 1) * stride + 1)
    rows = jnp.arange(planned.shape[0]) * stride
    return jax.vmap(lambda channel: jnp.interp(steps, rows, channel), in_axes=1, out_axes=1)(planned)


def displacements(positions: Float[Array, "rows goal"], stride: int) -> Float[Array, " pairs"]:
    """Distance of each row's position from the one `stride` rows before it."""
    return jnp.linalg.norm(positions[stride:] - positions[:-stride], axis=-1)


def greatest_displacement(windows: Windows, goal_size: int, steps: int) -> Float[Array, ""]:
    """The longest way that the position went in so many steps of one window."""

    def at(offset: Int[Array, ""]) -> Float[Array, ""]:
        first, last = windows.starts + offset, windows.starts + offset + steps
        positions = windows.observations[:, :goal_size]
        moved = jnp.linalg.norm(positions[last] - positions[first], axis=-1)
        return jnp.where(offset + steps < windows.lengths, moved, 0.0).max()

    # Windows overlap: offsets so far apart meet nearly every pair, and those at an episode's two ends.
    offsets = jnp.minimum(jnp.arange(0, windows.horizon, steps), windows.horizon - 1 - steps)
    return jax.lax.map(at, offsets).max()


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
    inverse: InverseState
    observation_normalizer: MinMaxNormalizer
    action_normalizer: MinMaxNormalizer
    fastest: Float[Array, ""]


class PlannerTraining(eqx.Module):
    """How the planner is built and trained.

    horizon: rows of a window. stride: environment steps from one row to the next. shortest: the earliest row a goal
    is asked for; half of the windows have it in the last row, half anywhere from `shortest` on, so that a plan can
    arrive early or be renewed on the way.
    """

    optimizer: DiffusionOptimizer = DiffusionOptimizer()
    inverse: InverseTraining = InverseTraining()
    horizon: int = eqx.field(static=True, default=128)
    stride: int = eqx.field(static=True, default=1)
    shortest: int = eqx.field(static=True, default=16)
    goal_size: int = eqx.field(static=True, default=2)
    width: int = eqx.field(static=True, default=32)
    multipliers: tuple[int, ...] = eqx.field(static=True, default=(1, 2, 4))
    kernel: int = eqx.field(static=True, default=5)
    batch_size: int = eqx.field(static=True, default=32)
    edm: EDM = EDM()

    def __check_init__(self):
        require_channels(self.width, self.multipliers, self.kernel)
        require_at_least(1, batch_size=self.batch_size, shortest=self.shortest, stride=self.stride)
        require_horizon(self.horizon, len(self.multipliers))

    def init(self, windows: Windows, *, key: PRNGKeyArray) -> PlannerState:
        """A fresh network, and normalisers fitted to the data."""
        size, action_size = windows.observations.shape[-1], windows.actions.shape[-1]
        channels = size + action_size
        conditions = size + self.goal_size + 3
        network_key, inverse_key = jax.random.split(key)
        network = TemporalUNet(
            channels + conditions, channels, self.width, self.multipliers, kernel=self.kernel, key=network_key
        )
        inverse = self.inverse.init(size, self.goal_size, action_size, key=inverse_key)
        return PlannerState(
            self.optimizer.init(network),
            inverse,
            MinMaxNormalizer.fit(windows.observations),
            MinMaxNormalizer.fit(windows.actions),
            greatest_displacement(windows, self.goal_size, pace_rows(self.stride) * self.stride),
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
        batch = jax.tree.map(lambda rows: rows[:, :: self.stride], batch)
        diffusion, loss = self.optimizer.update(
            state.diffusion, lambda network: self.loss(network, state, batch, key=loss_key), step=step
        )
        observations = state.observation_normalizer.normalize(batch.observations)
        actions = state.action_normalizer.normalize(batch.actions)
        inverse, error = self.inverse.update(state.inverse, observations, actions, batch.mask, self.goal_size)
        state = eqx.tree_at(lambda s: (s.diffusion, s.inverse), state, (diffusion, inverse))
        return state, {"planner/loss": loss, "planner/inverse": error}

    def finish(self, state: PlannerState) -> PlannerModel:
        """The planner with averaged weights."""
        return PlannerModel(
            state.diffusion.average,
            state.inverse.controller,
            state.observation_normalizer,
            state.action_normalizer,
            state.fastest,
            self.horizon,
            self.stride,
            self.goal_size,
            self.edm,
        )


class Plan(eqx.Module):
    """A planner's memory: its last plans step by step in raw units, the steps they are at, the steps at which they are
    at the goal, and the steps since the episode began."""

    observations: Float[Array, "batch steps observation"]
    actions: Float[Array, "batch steps action"]
    row: Int[Array, " batch"]
    goal_row: Int[Array, " batch"]
    age: Int[Array, ""]


class PlannerPolicy(Policy):
    """Plans to a goal and follows the plan.

    goal: where to; None where each observation shows its own, after the state.
    controller: how a plan becomes an action: "waypoint" (D4RL's PD law towards the planned states, held at the goal
    once it is there), "inverse" (learned from the same data: what leads to the planned positions) or "actions" (the
    plan's own). arrivals: how many rows of arrival are tried, evenly spaced from
    `shortest` to the last one; the earliest that a plan can reach is taken. 1 is the last row alone, and of a renewed
    plan what is left of it. replan_every: steps after which a new plan is drawn; 0 plans once an episode.
    """

    model: PlannerModel
    goal: Float[Array, " goal"] | None
    action_low: Float[Array, " action"]
    action_high: Float[Array, " action"]
    schedule: KarrasSchedule
    controller: ControllerName = eqx.field(static=True)
    arrivals: int = eqx.field(static=True)
    replan_every: int = eqx.field(static=True)
    shortest: int = eqx.field(static=True)

    @property
    def steps(self) -> int:
        """States of a plan step by step."""
        return (self.model.horizon - 1) * self.model.stride + 1

    def start(self, batch_size: int) -> Plan:
        """No plan yet."""
        size, action_size = self.model.observation_normalizer.low.size, self.action_low.size
        rows = jnp.zeros(batch_size, jnp.int32)
        return Plan(
            jnp.zeros((batch_size, self.steps, size)),
            jnp.zeros((batch_size, self.steps, action_size)),
            row=rows,
            goal_row=rows,
            age=jnp.int32(0),
        )

    def act(
        self, observations: Float[Array, "batch observation"], memory: Plan, *, key: PRNGKeyArray
    ) -> tuple[Float[Array, "batch action"], Plan]:
        """Plan when it is time to, then follow the plan one row further."""
        due = memory.age == 0 if self.replan_every == 0 else memory.age % self.replan_every == 0
        memory = jax.lax.cond(due, lambda: self.renew(observations, memory, key=key), lambda: memory)
        actions = self.follow(observations, memory)
        row = jnp.minimum(memory.row + 1, self.steps - 1)
        memory = Plan(memory.observations, memory.actions, row, memory.goal_row, memory.age + 1)
        return jnp.clip(actions, self.action_low, self.action_high), memory

    def follow(
        self, observations: Float[Array, "batch observation"], memory: Plan
    ) -> Float[Array, "batch action"]:
        """The controller's actions at the rows where the plans are."""
        planned, rows, goal_rows = memory.observations, memory.row, memory.goal_row
        observations = observations[:, : planned.shape[-1]]
        if self.controller == "waypoint":
            return follow_waypoints(observations, planned, rows, goal_rows)
        if self.controller == "actions":
            return follow_actions(memory.actions, rows)
        model = self.model
        return follow_inverse(model.inverse_action, observations, planned, rows, goal_rows, model.stride)

    def goal_rows(self, age: Int[Array, ""]) -> Int[Array, " candidates"]:
        """The rows of arrival to try, ascending."""
        last = self.model.horizon - 1
        shortest = min(self.shortest, last)
        if self.arrivals == 1:
            return jnp.clip(last - age // self.model.stride, shortest, last)[None]
        return jnp.round(jnp.linspace(shortest, last, self.arrivals)).astype(jnp.int32)

    def renew(
        self, observations: Float[Array, "batch observation"], memory: Plan, *, key: PRNGKeyArray
    ) -> Plan:
        """A fresh plan from where each system is now; who holds the goal keeps the plan that led there."""
        goal_rows = self.goal_rows(memory.age)

        stride = self.model.stride

        size = self.model.observation_normalizer.low.size

        def one(observation, key):
            goal = observation[size:] if self.goal is None else self.goal
            planned, actions, goal_row = self.model.earliest_plan(
                observation[:size], goal, goal_rows, self.schedule, key=key
            )
            return step_by_step(planned, stride), step_by_step(actions, stride), goal_row * stride

        planned, actions, goal_row = jax.vmap(one)(observations, jax.random.split(key, observations.shape[0]))
        fresh = Plan(planned, actions, jnp.zeros_like(memory.row), goal_row, memory.age)
        holds = (memory.age > 0) & (memory.row >= memory.goal_row) & (self.controller != "actions")

        def keep(new, old):
            return jnp.where(holds.reshape(-1, *(1,) * (new.ndim - 1)), old, new) if new.ndim else new

        return jax.tree.map(keep, fresh, memory)
