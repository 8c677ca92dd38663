"""Noise levels a sampler steps through (Karras et al. 2022, "Elucidating the design space", EDM)."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from langevin.diffusion.levels import Levels
from langevin.errors import UsageError, require_at_least


class KarrasSchedule(eqx.Module):
    """Noise levels spaced evenly in `level ** (1 / rho)` (EDM, Eq. 5), ending at exactly zero.

    steps: number of sampler steps N. highest, lowest: noise standard deviations at data scale.
    """

    steps: int = eqx.field(static=True, default=34)
    highest: float = eqx.field(static=True, default=80.0)
    lowest: float = eqx.field(static=True, default=0.002)
    rho: float = eqx.field(static=True, default=7.0)

    def __check_init__(self):
        require_at_least(1, steps=self.steps)
        if not 0 < self.lowest < self.highest:
            raise UsageError(
                f"noise levels must satisfy 0 < lowest < highest, got lowest {self.lowest}, highest {self.highest}"
            )

    def noise_levels(self) -> Float[Array, " levels"]:
        """The N noise levels from highest to lowest, then zero: N + 1 numbers."""
        fraction = np.arange(self.steps) / max(self.steps - 1, 1)
        start, end = self.highest ** (1 / self.rho), self.lowest ** (1 / self.rho)
        levels = (start + fraction * (end - start)) ** self.rho  # Eq. 5
        return jnp.asarray(np.append(levels, 0.0), jnp.float32)

    def levels(self) -> Levels:
        """The same for samplers of any process: the signal is never scaled, the denoiser is told the noise level."""
        noise = self.noise_levels()
        return Levels(jnp.ones_like(noise), noise, noise[:-1])
