"""A planner as a policy that plans anew every few steps and takes its plan's first actions."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from langevin.diffusion.chain_sampler import ChainSampler
from langevin.dynamics.inverse import InverseModel
from langevin.planners.window_diffusion import WindowDiffusion
from langevin.policies.base import Policy

Rank = Callable[[Float[Array, "horizon channels"]], Float[Array, ""]]
"""How good a plan is, by its normalised rows."""


class PlanMemory(eqx.Module):
    """The last plans, as normalised rows, and the steps since each episode began."""

    rows: Float[Array, "batch horizon channels"]
    age: Int[Array, ""]


class RecedingPlanner(Policy):
    """Draws plans from where a system is, follows the best one for a few steps, and draws again.

    contexts: what the network is told of the plan wanted (None: nothing), with classifier-free guidance of weight
    `context_weight`. rank: which of `candidates` plans is followed, the highest; None where there is one. inverse: what
    leads from a state to the one planned a row later, which is `stride` steps; None takes the plan's own actions.
    replan_every: steps between two plans. A sampler with `renewed_steps` begins from what is left of the last plan, its
    last row repeated.
    """

    windows: WindowDiffusion
    sampler: ChainSampler
    action_low: Float[Array, " action"]
    action_high: Float[Array, " action"]
    contexts: Float[Array, " contexts"] | None = None
    rank: Rank | None = None
    inverse: InverseModel | None = None
    context_weight: float = eqx.field(static=True, default=0.0)
    candidates: int = eqx.field(static=True, default=1)
    replan_every: int = eqx.field(static=True, default=1)

    def start(self, batch_size: int) -> PlanMemory:
        """No plan yet."""
        shape = (batch_size, self.windows.horizon, self.windows.channels)
        return PlanMemory(jnp.zeros(shape), jnp.int32(0))

    def act(
        self, observations: Float[Array, "batch observation"], memory: PlanMemory, *, key: PRNGKeyArray
    ) -> tuple[Float[Array, "batch action"], PlanMemory]:
        """Plan when it is time to, then take the plan's action for this step."""
        step = memory.age % self.replan_every
        plans = jax.lax.cond(
            step == 0, lambda: self.renew(observations, memory, key=key), lambda: memory.rows
        )
        actions = jax.vmap(lambda observation, rows: self.action(observation, rows, step))(
            observations, plans
        )
        return jnp.clip(actions, self.action_low, self.action_high), PlanMemory(plans, memory.age + 1)

    def renew(
        self, observations: Float[Array, "batch observation"], memory: PlanMemory, *, key: PRNGKeyArray
    ) -> Float[Array, "batch horizon channels"]:
        """A plan for every system: of its candidates the one of highest rank."""
        keys = jax.random.split(key, observations.shape[0])
        fresh = lambda: jax.vmap(lambda observation, key: self.best(observation, None, key=key))(
            observations, keys
        )
        if not self.sampler.renewed_steps:
            return fresh()
        left = jax.vmap(lambda rows: moved_on(rows, jnp.float32(self.replan_every / self.windows.stride)))(
            memory.rows
        )
        renewed = lambda: jax.vmap(lambda observation, guess, key: self.best(observation, guess, key=key))(
            observations, left, keys
        )
        return jax.lax.cond(memory.age == 0, fresh, renewed)

    def best(
        self,
        observation: Float[Array, " observation"],
        guess: Float[Array, "horizon channels"] | None,
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, "horizon channels"]:
        """The candidate of highest rank."""
        constraint, condition = self.windows.known(observation)
        denoiser = self.windows.denoiser(condition, self.contexts, self.context_weight)

        def one(key: PRNGKeyArray) -> Float[Array, "horizon channels"]:
            return self.windows.draw(constraint, denoiser, self.sampler, guess, key=key)

        plans = jax.vmap(one)(jax.random.split(key, self.candidates))
        return plans[0] if self.rank is None else plans[jax.vmap(self.rank)(plans).argmax()]

    def action(
        self,
        observation: Float[Array, " observation"],
        rows: Float[Array, "horizon channels"],
        step: Int[Array, ""],
    ) -> Float[Array, " action"]:
        """What to do so many steps after a plan was drawn; raw units."""
        here, there = moved_on(rows, step / self.windows.stride)[:2]
        if self.inverse is None:
            return self.windows.scale.actions(here)
        return self.inverse.predict(observation[None], self.windows.scale.observations(there)[None])[0]


def moved_on(
    plan: Float[Array, "horizon channels"], rows: Float[Array, ""]
) -> Float[Array, "horizon channels"]:
    """A plan as it reads so many rows, or parts of one, later: straight between its rows, its last one repeated."""
    before = jnp.floor(rows)
    at = jnp.minimum(jnp.arange(plan.shape[0] + 1) + before.astype(jnp.int32), plan.shape[0] - 1)
    share = rows - before
    return (1 - share) * plan[at[:-1]] + share * plan[at[1:]]
