"""Model predictive path integral control (Williams et al. 2017, "Information theoretic MPC for model-based
reinforcement learning") in a learned ensemble: nothing is trained but the models, the plan is made while driving.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from langevin.dynamics.ensemble import DynamicsModel
from langevin.dynamics.reward import RewardModel
from langevin.errors import UsageError, require_at_least, require_between
from langevin.policies.base import Policy


class Search(eqx.Module):
    """How a plan is looked for.

    horizon: actions of a plan (T). candidates: sequences tried at every step (K). temperature: lambda, in units of
    return; towards 0 the best candidate alone counts. noise: standard deviation around the last plan, in half-ranges
    of the action. correlation: of the noise from one action to the next, 0 to less than 1.
    """

    horizon: int = eqx.field(static=True, default=32)
    candidates: int = eqx.field(static=True, default=64)
    temperature: float = eqx.field(static=True, default=0.1)
    noise: float = eqx.field(static=True, default=0.5)
    correlation: float = eqx.field(static=True, default=0.8)

    def __check_init__(self):
        require_at_least(1, horizon=self.horizon, candidates=self.candidates)
        require_between(0, 0.999, correlation=self.correlation)
        for name in ("temperature", "noise"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} must be greater than 0, got {getattr(self, name)}")

    @property
    def noise_root(self) -> Float[np.ndarray, "horizon horizon"]:
        """L with L L' the covariance of the noise in half-ranges, noise^2 correlation^|t - s|."""
        steps = np.arange(self.horizon)
        covariance = self.correlation ** np.abs(steps[:, None] - steps)
        return (self.noise * np.linalg.cholesky(covariance)).astype(np.float32)


class ActionPlan(eqx.Module):
    """The planner's memory: the actions that it means to take from here on."""

    actions: Float[Array, "batch horizon action"]


class MPPIPolicy(Policy):
    """Searches around its last plan at every step, and takes the first action of what it finds."""

    dynamics: DynamicsModel
    reward: RewardModel
    action_low: Float[Array, " action"]
    action_high: Float[Array, " action"]
    termination: Callable[[Array, Array, Array], Bool[Array, "..."]]
    search: Search

    def start(self, batch_size: int) -> ActionPlan:
        """The middle of the action's range, at every step."""
        middle = (self.action_low + self.action_high) / 2
        return ActionPlan(jnp.broadcast_to(middle, (batch_size, self.search.horizon, middle.size)))

    def act(
        self, observations: Float[Array, "batch observation"], memory: ActionPlan, *, key: PRNGKeyArray
    ) -> tuple[Float[Array, "batch action"], ActionPlan]:
        """One search (Williams et al. 2017, Algorithm 1), without its term for the cost of control."""
        noise_key, model_key = jax.random.split(key)
        candidates = self.candidates(memory, key=noise_key)
        returns = self.returns(observations, candidates, key=model_key)
        weights = jax.nn.softmax(returns / self.search.temperature, axis=1)
        plan = jnp.einsum("bk,bkta->bta", weights, candidates)
        return plan[:, 0], ActionPlan(shifted(plan))

    def candidates(
        self, memory: ActionPlan, *, key: PRNGKeyArray
    ) -> Float[Array, "batch candidates horizon action"]:
        """The last plan with correlated noise on it, within the bounds."""
        batch, horizon, size = memory.actions.shape
        white = jax.random.normal(key, (batch, self.search.candidates, horizon, size))
        noise = jnp.einsum("ts,bksa->bkta", self.search.noise_root, white)
        half_range = (self.action_high - self.action_low) / 2
        return jnp.clip(memory.actions[:, None] + half_range * noise, self.action_low, self.action_high)

    def returns(
        self,
        observations: Float[Array, "batch observation"],
        candidates: Float[Array, "batch candidates horizon action"],
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, "batch candidates"]:
        """Sum of the predicted rewards, up to a terminal state, along the mean of a random elite at every step."""
        batch, count, horizon, size = candidates.shape
        starts = jnp.repeat(observations, count, axis=0)
        steps = jnp.moveaxis(candidates.reshape(batch * count, horizon, size), 1, 0)

        def advance(carry, inputs):
            before, running, total = carry
            actions, key = inputs
            after = self.dynamics.predict(before, actions, key=key)
            total = total + jnp.where(running, self.reward.predict(before, actions), 0.0)
            return (after, running & ~self.termination(before, actions, after), total), None

        first = starts, jnp.ones(batch * count, bool), jnp.zeros(batch * count)
        (_, _, total), _ = jax.lax.scan(advance, first, (steps, jax.random.split(key, horizon)))
        return total.reshape(batch, count)


def shifted(plan: Float[Array, "batch horizon action"]) -> Float[Array, "batch horizon action"]:
    """The plan one step later: its first action is done, its last one stands twice."""
    return jnp.concatenate([plan[:, 1:], plan[:, -1:]], axis=1)
