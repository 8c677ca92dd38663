"""The end of what can be imagined: a trajectory that leaves the data halts there.

MOReL's HALT state (Kidambi et al. 2020). Where no data were, no model knows what happens, and a policy that may go
there learns to live off the model's mistakes: in a maze it drives through walls that no log ever touched.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from langevin.data.sampling import Transitions
from langevin.dynamics.support import Support, fit_support


class Halt(eqx.Module):
    """Where the data end, and the reward of the transition that goes there."""

    support: Support
    reward: Float[Array, ""]

    def left(
        self, observations: Float[Array, "rollouts horizon observation"]
    ) -> Bool[Array, "rollouts transitions"]:
        """Whether a transition arrives outside the support."""
        return self.outside(observations[:, 1:])

    def outside(
        self, observations: Float[Array, "rollouts steps observation"]
    ) -> Bool[Array, "rollouts steps"]:
        """Whether a state lies outside the support."""
        known = self.support.contains(observations.reshape(-1, observations.shape[-1]))
        return ~known.reshape(observations.shape[:2])


def fit_halt(transitions: Transitions, margin: float, patience: int) -> Halt:
    """The data's support; leaving it is terminal and pays the data's worst reward `patience` times over.

    The margin is how far the support reaches ([`fit_support`][langevin.dynamics.support.fit_support]). With patience
    near 1 / (1 - discount) the pay is the value of the worst reward for ever. Not inside jit.
    """
    return Halt(fit_support(transitions, margin), patience * jnp.min(transitions.rewards))


def hold(
    rows: Float[Array, "rollouts horizon channels"], left: Bool[Array, "rollouts transitions"]
) -> Float[Array, "rollouts horizon channels"]:
    """The rows, each one after the first departure replaced by the last one before it."""
    known = jnp.cumsum(left, axis=1) == 0
    known = jnp.concatenate([jnp.ones((known.shape[0], 1), bool), known], axis=1)
    last_known = jax.lax.cummax(jnp.where(known, jnp.arange(known.shape[1]), 0), axis=1)
    return jnp.take_along_axis(rows, last_known[..., None], axis=1)
