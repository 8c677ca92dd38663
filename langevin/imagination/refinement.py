"""How a trajectory model corrects a rollout: its states drawn anew from noise, or from the rollout with noise on it."""

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from langevin.diffusion.constraints import Constraint
from langevin.diffusion.levels import Denoiser
from langevin.diffusion.samplers import Sampler
from langevin.errors import require_at_least


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


class Renoised(eqx.Module):
    """The rollout noised to the sampler's highest level and drawn from there, `passes` times (SDEdit, Meng et al.).

    What is larger than the noise is kept of the rollout, what is smaller is drawn as the data have it: trajectories of
    the data stay what they are in distribution, others are drawn in, farther with every pass.
    """

    sampler: Sampler
    passes: int = eqx.field(static=True, default=1)

    def __check_init__(self):
        require_at_least(1, passes=self.passes)

    def __call__(
        self,
        denoiser: Denoiser,
        constraint: Constraint,
        rollout: Float[Array, "horizon channels"],
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, "horizon channels"]:
        """The rollout after all passes, held entries in their places."""

        def drawn_anew(trajectory, key):
            return self.sampler.draw(denoiser, constraint, trajectory, key=key), None

        keys = jax.random.split(key, self.passes)
        return jax.lax.scan(drawn_anew, constraint.apply(rollout), keys)[0]


Refinement = Redrawn | Renoised
