"""How a trajectory model corrects a rollout: its states drawn anew from noise, or from the rollout with noise on it."""

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from langevin.diffusion.constraints import Constraint
from langevin.diffusion.levels import Denoiser
from langevin.diffusion.samplers import Sampler
from langevin.errors import require_at_least


class Refinement(eqx.Module):
    """A sampler, and how often a rollout is noised to its highest level and drawn from there (SDEdit, Meng et al.).

    With 0 passes the rollout is forgotten, and its states are drawn from noise given the first one and all actions
    (DyDiff, Algorithm 2). Otherwise what is larger than the noise is kept of it, and what is smaller is drawn as the
    data have it: trajectories of the data stay what they are in distribution, others are drawn in, farther with every
    pass.
    """

    sampler: Sampler = Sampler()
    passes: int = eqx.field(static=True, default=0)

    def __check_init__(self):
        require_at_least(0, passes=self.passes)

    def __call__(
        self,
        denoiser: Denoiser,
        constraint: Constraint,
        rollout: Float[Array, "horizon channels"],
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, "horizon channels"]:
        """The refined trajectory, held entries in their places."""
        if self.passes == 0:
            return self.sampler.draw(denoiser, constraint, key=key)

        def drawn_anew(trajectory, key):
            return self.sampler.draw(denoiser, constraint, trajectory, key=key), None

        keys = jax.random.split(key, self.passes)
        return jax.lax.scan(drawn_anew, constraint.apply(rollout), keys)[0]
