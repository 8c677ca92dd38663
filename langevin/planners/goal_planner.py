"""A planner to a goal (Janner et al. 2022, Diffuser, its maze form): plans that arrive in time, and following them."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from langevin.data.sampling import WindowBatch, Windows, sample_windows
from langevin.diffusion.chain_sampler import ChainSampler
from langevin.diffusion.samplers import Sampler
from langevin.planners.controllers import ControllerName, follow_actions, follow_inverse, follow_waypoints
from langevin.planners.inverse import InverseController, InverseState, InverseTraining
from langevin.planners.segments import SegmentFiller
from langevin.planners.window_diffusion import Scale, WindowDiffusion, WindowState, WindowTraining, every_row
from langevin.policies.base import Metrics, Policy

PACE_STEPS = 8
"""Steps over which a pace is measured: long enough that a sample's jitter does not count as speed."""

PACE_MARGIN = 1.2
"""How much faster than the fastest data a plan may be before it is said not to reach its goal in time."""

PlanSampler = Sampler | ChainSampler


class GoalPlanner(eqx.Module):
    """A trained planner to a goal.

    inverse: what leads from a state to the position planned for the next row; None where no controller asks for it.
    fastest: the data's greatest displacement over PACE_STEPS steps. goal_size: how many leading observation dimensions
    are the position. fill: what lies between two rows; None goes straight from one to the next.
    """

    windows: WindowDiffusion
    inverse: InverseController | None
    fastest: Float[Array, ""]
    goal_size: int = eqx.field(static=True)
    fill: SegmentFiller | None = None

    @property
    def stride(self) -> int:
        """Environment steps from one row of a plan to the next."""
        return self.windows.stride

    def plan(
        self,
        observation: Float[Array, " observation"],
        goal: Float[Array, " goal"],
        goal_row: Int[Array, ""],
        sampler: PlanSampler,
        *,
        key: PRNGKeyArray,
    ) -> tuple[Float[Array, "horizon observation"], Float[Array, "horizon action"]]:
        """Draw one plan from `observation` that is at `goal` in row `goal_row`; raw units in and out."""
        constraint, condition = self.windows.known(observation, goal, goal_row)
        rows = self.windows.draw(constraint, self.windows.denoiser(condition), sampler, key=key)
        scale = self.windows.scale
        no_actions = jnp.zeros((rows.shape[0], scale.action_size))
        actions = scale.actions(rows) if self.windows.plans_actions else no_actions
        return scale.observations(rows).at[0].set(observation), actions

    def inverse_action(
        self, observation: Float[Array, " observation"], wanted: Float[Array, " observation"]
    ) -> Float[Array, " action"]:
        """The action that leads to the position wanted one row later, learned from the data; raw units."""
        assert self.inverse is not None, "only a planner with an inverse model is followed by it"
        scale = self.windows.scale
        here, there = scale.observation.normalize(jnp.stack([observation, wanted]))
        return scale.action.denormalize(self.inverse(here, there[: self.goal_size]))

    def every_step(
        self,
        planned: Float[Array, "horizon observation"],
        actions: Float[Array, "horizon action"],
        *,
        key: PRNGKeyArray,
    ) -> tuple[Float[Array, "steps observation"], Float[Array, "steps step_action"]]:
        """A plan with a row for each environment step; raw units."""
        if self.fill is None:
            return step_by_step(planned, self.stride), step_by_step(actions, self.stride)
        return self.fill.between(planned, key=key)

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
        sampler: PlanSampler,
        *,
        key: PRNGKeyArray,
    ) -> tuple[Float[Array, "horizon observation"], Float[Array, "horizon action"], Int[Array, ""]]:
        """Draw a plan for each of `goal_rows`, ascending; return the first that reaches its goal, else the last."""

        def one(goal_row, key):
            planned, actions = self.plan(observation, goal, goal_row, sampler, key=key)
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


class PlannerState(eqx.Module):
    """A planner in training."""

    windows: WindowState
    inverse: InverseState
    fastest: Float[Array, ""]


def init_planner(
    training: WindowTraining, inverse: InverseTraining, windows: Windows, *, key: PRNGKeyArray
) -> PlannerState:
    """Fresh networks, and scales and pace of the data."""
    window_key, inverse_key = jax.random.split(key)
    size, action_size = windows.observations.shape[-1], windows.actions.shape[-1]
    return PlannerState(
        training.init(windows.observations, windows.actions, key=window_key),
        inverse.init(size, training.goal_size, action_size, key=inverse_key),
        greatest_displacement(windows, training.goal_size, pace_rows(training.stride) * training.stride),
    )


def update_planner(
    training: WindowTraining,
    inverse: InverseTraining,
    state: PlannerState,
    windows: Windows,
    *,
    step: Int[Array, ""],
    key: PRNGKeyArray,
) -> tuple[PlannerState, Metrics]:
    """Draw a batch of windows and take one gradient step on the diffusion and on the inverse model."""
    batch_key, loss_key = jax.random.split(key)
    batch = every_row(sample_windows(windows, training.batch_size, key=batch_key), training.stride)
    window_state, loss = training.update(state.windows, batch, step=step, key=loss_key)
    inverse_state, error = update_inverse(
        inverse, state.inverse, state.windows.scale, batch, training.goal_size
    )
    metrics = {"planner/loss": loss, "planner/inverse": error}
    return PlannerState(window_state, inverse_state, state.fastest), metrics


def update_inverse(
    training: InverseTraining, state: InverseState, scale: Scale, batch: WindowBatch, goal_size: int
) -> tuple[InverseState, Float[Array, ""]]:
    """One gradient step of the inverse model on a batch of raw rows; the loss before it."""
    return training.update(
        state, scale.observation.normalize(batch.observations), scale.action.normalize(batch.actions),
        batch.mask, goal_size,
    )  # fmt: skip


def finish_planner(training: WindowTraining, state: PlannerState) -> GoalPlanner:
    """The planner with averaged weights."""
    return GoalPlanner(
        training.finish(state.windows), state.inverse.controller, state.fastest, training.goal_size
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

    model: GoalPlanner
    goal: Float[Array, " goal"] | None
    action_low: Float[Array, " action"]
    action_high: Float[Array, " action"]
    sampler: PlanSampler
    controller: ControllerName = eqx.field(static=True)
    arrivals: int = eqx.field(static=True)
    replan_every: int = eqx.field(static=True)
    shortest: int = eqx.field(static=True)

    @property
    def steps(self) -> int:
        """States of a plan step by step."""
        return (self.model.windows.horizon - 1) * self.model.stride + 1

    def start(self, batch_size: int) -> Plan:
        """No plan yet."""
        size, action_size = self.model.windows.scale.observation_size, self.action_low.size
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
        last = self.model.windows.horizon - 1
        shortest = min(self.shortest, last)
        if self.arrivals == 1:
            return jnp.clip(last - age // self.model.stride, shortest, last)[None]
        return jnp.round(jnp.linspace(shortest, last, self.arrivals)).astype(jnp.int32)

    def renew(
        self, observations: Float[Array, "batch observation"], memory: Plan, *, key: PRNGKeyArray
    ) -> Plan:
        """A fresh plan from where each system is now; who holds the goal keeps the plan that led there."""
        goal_rows = self.goal_rows(memory.age)

        size = self.model.windows.scale.observation_size

        def one(observation, key):
            plan_key, fill_key = jax.random.split(key)
            goal = observation[size:] if self.goal is None else self.goal
            planned, actions, goal_row = self.model.earliest_plan(
                observation[:size], goal, goal_rows, self.sampler, key=plan_key
            )
            return *self.model.every_step(planned, actions, key=fill_key), goal_row * self.model.stride

        planned, actions, goal_row = jax.vmap(one)(observations, jax.random.split(key, observations.shape[0]))
        fresh = Plan(planned, actions, jnp.zeros_like(memory.row), goal_row, memory.age)
        holds = (memory.age > 0) & (memory.row >= memory.goal_row) & (self.controller != "actions")

        def keep(new, old):
            return jnp.where(holds.reshape(-1, *(1,) * (new.ndim - 1)), old, new) if new.ndim else new

        return jax.tree.map(keep, fresh, memory)
