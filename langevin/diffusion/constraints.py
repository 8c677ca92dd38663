"""What is held fixed in a sample: known states, known actions, a goal."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


class Constraint(eqx.Module):
    """Entries of a trajectory that are known and therefore never noised, denoised or counted in a loss.

    held: which entries are known. values: what they are (read only where `held`).
    """

    held: Bool[Array, "horizon channels"]
    values: Float[Array, "horizon channels"]

    def apply(self, sample: Float[Array, "horizon channels"]) -> Float[Array, "horizon channels"]:
        """The sample with every held entry replaced by its known value."""
        return jnp.where(self.held, self.values, sample)


def unconstrained(horizon: int, channels: int) -> Constraint:
    """A constraint that holds nothing."""
    return Constraint(jnp.zeros((horizon, channels), bool), jnp.zeros((horizon, channels)))


def mean_of_counted(errors: Float[Array, "*shape"], counted: Bool[Array, "*shape"]) -> Float[Array, ""]:
    """The mean of the errors of entries that count; 0 if none does."""
    return jnp.where(counted, errors, 0.0).sum() / jnp.maximum(counted.sum(), 1)
