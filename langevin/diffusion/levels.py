"""Where a sampler stops on its way from noise to data, whatever process the noise came from."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

Denoiser = Callable[[Float[Array, "horizon channels"], Array], Float[Array, "horizon channels"]]
"""D(x, time): the clean sample that the model sees in a noisy one."""


Rows = Float[Array, "horizon channels"]

Guide = Callable[[Rows, Rows, Float[Array, ""], Array], Rows]
"""(mean, clean, variance, time) -> mean: moves what a step of sampling arrives at before its noise is added.

Held entries are in their places when the guide sees them, and are put back after it. clean: the sample that the network
sees behind the noise, before the step. variance: of the ancestral chain
over that step, which is how far a step can be moved and stay likely. time: of the level arrived at (of the last step,
which arrives at none, its own).
"""


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

    @property
    def variances(self) -> Float[Array, " steps"]:
        """Of x_t given x_s and x_0, for each step from s to t: what the ancestral chain adds (DDIM, Eq. 16, eta 1)."""
        (signal, noise), (next_signal, next_noise) = self.pairs
        added = noise**2 - (signal / next_signal * next_noise) ** 2
        return (next_noise / noise) ** 2 * jnp.maximum(added, 0)

    @property
    def arrivals(self) -> Shaped[Array, " steps"]:
        """The time that each step arrives at; the last arrives at none, and has its own."""
        return jnp.append(self.times[1:], self.times[-1])

    def last(self, steps: int) -> "Levels":
        """The last `steps` steps alone: where a sample begins that is nearly known."""
        return Levels(self.signal[-steps - 1 :], self.noise[-steps - 1 :], self.times[-steps:])

    def start(
        self, guess: Float[Array, "horizon channels"] | None, noise: Float[Array, "horizon channels"]
    ) -> Float[Array, "horizon channels"]:
        """Where sampling begins: a guess of the clean sample noised to the first level, or noise alone."""
        noised = self.noise[0] * noise
        return noised if guess is None else self.signal[0] * guess + noised


def unmoved(mean: Rows, clean: Rows, variance: Float[Array, ""], time: Array) -> Rows:
    """The guide that leaves every step as the model has it."""
    return mean


class InTurn(eqx.Module):
    """Guides that each move what the one before has moved."""

    guides: tuple[Guide, ...]

    def __call__(self, mean: Rows, clean: Rows, variance: Float[Array, ""], time: Array) -> Rows:
        for guide in self.guides:
            mean = guide(mean, clean, variance, time)
        return mean


def clipped(denoiser: Denoiser, limit: float) -> Denoiser:
    """A denoiser whose every prediction lies in [-limit, limit]."""
    return lambda noisy, time: jnp.clip(denoiser(noisy, time), -limit, limit)
