"""DDPM (Ho et al. 2020): diffusion in a fixed number of steps, with a network that predicts the noise."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from langevin.errors import require_at_least

PredictNoise = Callable[[Float[Array, "*shape"], Int[Array, ""]], Float[Array, "*shape"]]
"""eps(x_k, k), k counted from 0 (least noise)."""


class DiscreteSchedule(eqx.Module):
    """How much of the data is left after each step of noising: alpha_bar_k, k = 0 the first step."""

    betas: Float[Array, " steps"]

    @property
    def steps(self) -> int:
        """Number of diffusion steps."""
        return self.betas.shape[0]

    @property
    def kept(self) -> Float[Array, " steps"]:
        """alpha_bar_k = prod_{i <= k} (1 - beta_i)."""
        return jnp.cumprod(1 - self.betas)

    def noised(
        self, clean: Float[Array, "*shape"], step: Int[Array, ""], noise: Float[Array, "*shape"]
    ) -> Float[Array, "*shape"]:
        """x_k = sqrt(alpha_bar_k) x_0 + sqrt(1 - alpha_bar_k) eps (Eq. 4)."""
        kept = self.kept[step]
        return jnp.sqrt(kept) * clean + jnp.sqrt(1 - kept) * noise

    def clean_of(
        self, noisy: Float[Array, "*shape"], step: Int[Array, ""], noise: Float[Array, "*shape"]
    ) -> Float[Array, "*shape"]:
        """The x_0 of which that noise makes x_k: Eq. 4 solved for it."""
        kept = self.kept[step]
        return (noisy - jnp.sqrt(1 - kept) * noise) / jnp.sqrt(kept)

    def posterior(
        self, clean: Float[Array, "*shape"], noisy: Float[Array, "*shape"], step: Int[Array, ""]
    ) -> tuple[Float[Array, "*shape"], Float[Array, ""]]:
        """Mean and standard deviation of x_{k-1} given x_k and x_0 (Eqs. 6, 7); at k = 0 it is x_0 itself."""
        beta, kept = self.betas[step], self.kept[step]
        kept_before = jnp.where(step > 0, self.kept[step - 1], 1.0)
        mean = (jnp.sqrt(kept_before) * beta * clean + jnp.sqrt(1 - beta) * (1 - kept_before) * noisy) / (
            1 - kept
        )
        return mean, jnp.sqrt(beta * (1 - kept_before) / (1 - kept))


def vp_schedule(steps: int, lowest: float = 0.1, highest: float = 10.0) -> DiscreteSchedule:
    """The variance-preserving SDE with a linear rate, in `steps` steps (Xiao et al. 2022, Diffusion-QL's)."""
    require_at_least(1, steps=steps)
    k = np.arange(1, steps + 1)
    rate = lowest / steps + 0.5 * (highest - lowest) * (2 * k - 1) / steps**2
    return DiscreteSchedule(jnp.asarray(1 - np.exp(-rate), jnp.float32))


def linear_schedule(steps: int, lowest: float = 1e-4, highest: float = 0.02) -> DiscreteSchedule:
    """Noise rates that rise evenly (Ho et al. 2020, Section 4; the defaults are meant for 1,000 steps)."""
    require_at_least(1, steps=steps)
    return DiscreteSchedule(jnp.linspace(lowest, highest, steps, dtype=jnp.float32))


def cosine_schedule(steps: int, offset: float = 0.008, highest: float = 0.999) -> DiscreteSchedule:
    """What is left of the data falls along a squared cosine (Nichol & Dhariwal 2021, Eq. 17).

    offset: s, which keeps the first step from adding too little noise. highest: no noise rate is above it.
    """
    require_at_least(1, steps=steps)
    share_of_time = np.arange(steps + 1) / steps
    kept = np.cos((share_of_time + offset) / (1 + offset) * np.pi / 2) ** 2
    return DiscreteSchedule(jnp.asarray(np.minimum(1 - kept[1:] / kept[:-1], highest), jnp.float32))


def ancestral_sample(
    predict_noise: PredictNoise,
    schedule: DiscreteSchedule,
    shape: tuple[int, ...],
    *,
    limit: float | None = None,
    key: PRNGKeyArray,
) -> Float[Array, "*shape"]:
    """A sample of the model, from pure noise down (Algorithm 2).

    limit: every predicted x_0 is clipped to [-limit, limit]; None leaves it. The chain is unrolled, so that a gradient
    through it costs memory for each step: a policy has a handful of them.
    """
    start_key, *step_keys = jax.random.split(key, 1 + schedule.steps)
    noisy = jax.random.normal(start_key, shape)
    for step, step_key in zip(reversed(range(schedule.steps)), step_keys, strict=True):
        index = jnp.int32(step)
        clean = schedule.clean_of(noisy, index, predict_noise(noisy, index))
        clean = clean if limit is None else jnp.clip(clean, -limit, limit)
        mean, std = schedule.posterior(clean, noisy, index)
        noisy = mean + std * jax.random.normal(step_key, shape)
    return noisy
