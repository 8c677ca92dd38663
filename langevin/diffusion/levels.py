"""Where a sampler stops on its way from noise to data, whatever process the noise came from."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

Denoiser = Callable[[Float[Array, "horizon channels"], Array], Float[Array, "horizon channels"]]
"""D(x, time): the clean sample that the model sees in a noisy one."""


class Levels(eqx.Module):
    """x_t = alpha_t x_0 + sigma_t eps at some times, from the most noise to none (sigma = 0).

    signal: alpha. noise: sigma. times: what a denoiser is told at each of them but the last: EDM's noise level, or
    the step of a discrete chain.
    """

    signal: Float[Array, " levels"]
    noise: Float[Array, " levels"]
    times: Shaped[Array, " steps"]

    @property
    def pairs(self) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        """(alpha, sigma) at the beginning of each step, and at its end."""
        return (self.signal[:-1], self.noise[:-1]), (self.signal[1:], self.noise[1:])


def clipped(denoiser: Denoiser, limit: float) -> Denoiser:
    """A denoiser whose every prediction lies in [-limit, limit]."""
    return lambda noisy, time: jnp.clip(denoiser(noisy, time), -limit, limit)
