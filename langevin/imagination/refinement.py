"""How a trajectory model corrects a rollout: states drawn anew from noise, or the rollout itself denoised."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from langevin.diffusion.constraints import Constraint
from langevin.diffusion.levels import Denoiser
from langevin.diffusion.samplers import Sampler
from langevin.errors import UsageError, require_at_least


class Redrawn(eqx.Module):
    """States drawn from noise given the first one and all actions (DyDiff, Algorithm 2): the rollout is forgotten."""

    sampler: Sampler = Sampler()

    def __call__(
        self,
        denoiser: Denoiser,
        constraint: Constraint,
        rollout: Float[Array, "horizon channels"],
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, "horizon channels"]:
        """One sample."""
        return self.sampler.draw(denoiser, constraint, key=key)


class Projected(eqx.Module):
    """The rollout taken for a possible trajectory with noise, x <- D(x, noise_level), `passes` times.

    D is the mean of the data's trajectories near x, so each pass moves a rollout towards them by no more than the noise
    explains: what is likely already stays, and what the data contradict is drawn in. Nothing is random.
    noise_level: at data scale [-1, 1]; far above 1 the rollout counts for nothing.
    """

    noise_level: float = eqx.field(static=True, default=0.6)
    passes: int = eqx.field(static=True, default=3)

    def __check_init__(self):
        require_at_least(1, passes=self.passes)
        if not self.noise_level > 0:
            raise UsageError(f"noise_level must be above 0, got {self.noise_level:g}")

    def __call__(
        self,
        denoiser: Denoiser,
        constraint: Constraint,
        rollout: Float[Array, "horizon channels"],
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, "horizon channels"]:
        """The rollout after all passes, held entries in their places."""

        def denoised(_, trajectory):
            return constraint.apply(denoiser(trajectory, jnp.float32(self.noise_level)))

        return jax.lax.fori_loop(0, self.passes, denoised, constraint.apply(rollout))


Refinement = Redrawn | Projected
