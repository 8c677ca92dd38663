"""DDPM (Ho et al. 2020): diffusion in a fixed number of steps, its schedules and its ancestral sampler."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from langevin.diffusion.levels import Levels
from langevin.errors import UsageError, require_at_least, require_between

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

    def noise_level(self, step: Int[Array, ""]) -> Float[Array, ""]:
        """Noise over signal, which is EDM's noise level: sqrt((1 - alpha_bar_k) / alpha_bar_k)."""
        kept = self.kept[step]
        return jnp.sqrt((1 - kept) / kept)

    def levels(self, chosen: Sequence[int] | None = None) -> Levels:
        """Some steps of the chain, the noisiest first, and the clean sample after them; None takes all.

        Raises UsageError for steps that do not fall or are not of this chain.
        """
        chosen = range(self.steps)[::-1] if chosen is None else chosen
        falls = all(before > after for before, after in pairwise(chosen))
        if not chosen or not falls or chosen[0] >= self.steps or chosen[-1] < 0:
            raise UsageError(
                f"steps to stop at must fall, from {self.steps - 1} at most to 0 at least, got {list(chosen)}"
            )
        times = jnp.asarray(chosen, jnp.int32)
        kept = self.kept[times]
        return Levels(jnp.append(jnp.sqrt(kept), 1.0), jnp.append(jnp.sqrt(1 - kept), 0.0), times)

    def evenly(self, count: int) -> Levels:
        """`count` steps of the chain from the noisiest down, evenly spread. Raises UsageError for too many."""
        require_between(1, self.steps, count=count)
        spread = np.linspace(self.steps - 1, 0, count)
        return self.levels([int(step) for step in np.round(spread)])

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


ScheduleName = Literal["cosine", "linear", "vp"]


def named_schedule(name: ScheduleName, steps: int) -> DiscreteSchedule:
    """A schedule by its name, with its paper's constants."""
    return {"cosine": cosine_schedule, "linear": linear_schedule, "vp": vp_schedule}[name](steps)


def ancestral_sample(
    predict_noise: PredictNoise,
    schedule: DiscreteSchedule,
    shape: tuple[int, ...],
    *,
    limit: float | None = None,
    key: PRNGKeyArray,
) -> Float[Array, "*shape"]:
    """A sample of a model that predicts noise, from pure noise down (Algorithm 2).

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
