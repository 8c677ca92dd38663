"""Refined states with transitions that hold: where each leads to is asked of the single-step model.

A trajectory model is right about where a policy's rollouts go and wrong about every single step: a state it draws
wavers by as much as a step is long. The single-step model is the other way round, right for one step and lost after
many. So the one says which states are visited, and the other what the policy's action leads to from each of them.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from langevin.dynamics.ensemble import DynamicsModel
from langevin.imagination.halting import Halt
from langevin.imagination.worlds import Imagined, Steps, Termination, World
from langevin.policies.base import Policy


class SteppedWorld(World):
    """Another world's states and actions; successors are the single-step model's, so every transition stands alone.

    halt: where the data end. A transition that starts outside them is not shown, for nobody knows what happens there;
    one that leaves them is terminal and pays the worst reward. Neither ends the trajectory: its later states are
    visited all the same. What the system itself ends does: after a fall nothing is earned and nothing shown.
    """

    world: World
    dynamics: DynamicsModel
    halt: Halt | None
    termination: Termination

    def imagine(
        self, policy: Policy, starts: Float[Array, "rollouts observation"], horizon: int, *, key: PRNGKeyArray
    ) -> Imagined:
        """The world's trajectories, each transition predicted anew by a random elite."""
        world_key, step_key = jax.random.split(key)
        found = self.world.imagine(policy, starts, horizon, key=world_key)
        before, taken = found.observations[:, :-1], found.actions[:, :-1]
        rows = before.reshape(-1, before.shape[-1]), taken.reshape(-1, taken.shape[-1])
        arrivals = self.dynamics.predict(*rows, key=step_key)
        after, shape = arrivals.reshape(before.shape), found.rewards.shape
        ended = self.termination(*rows, arrivals).reshape(shape)
        alive = jnp.cumsum(ended, axis=1) - ended == 0
        if self.halt is None:
            return Imagined(found.observations, found.actions, found.rewards, ended, Steps(after, alive))
        steps = Steps(after, alive & ~self.halt.outside(before))
        left = self.halt.outside(after)
        rewards = jnp.where(left, self.halt.reward, found.rewards)
        return Imagined(found.observations, found.actions, rewards, ended | left, steps)
