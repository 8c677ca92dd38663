"""DDIM (Song et al. 2021): fewer steps of the same network, with as much fresh noise as is asked for."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from langevin.diffusion.constraints import Constraint
from langevin.diffusion.levels import Denoiser, Levels


def ddim_sample(
    denoiser: Denoiser, constraint: Constraint, levels: Levels, eta: float = 0.0, *, key: PRNGKeyArray
) -> Float[Array, "horizon channels"]:
    """Draw one sample from noise (Eq. 12, for any alpha and sigma), held entries put back after every step.

    eta: 0 is a deterministic map of the first noise, first-order in the step; 1 is the ancestral chain over the
    chosen steps (Eq. 16).
    """
    start_key, steps_key = jax.random.split(key)
    shape = constraint.values.shape
    start = constraint.apply(levels.noise[0] * jax.random.normal(start_key, shape))

    def step(noisy, at):
        (signal, noise), (next_signal, next_noise), time, step_key = at
        clean = denoiser(noisy, time)
        direction = (noisy - signal * clean) / noise  # the noise that was seen
        added = noise**2 - (signal / next_signal * next_noise) ** 2  # variance of x_t given x_s
        fresh = eta * next_noise / noise * jnp.sqrt(jnp.maximum(added, 0))  # Eq. 16
        kept = jnp.sqrt(jnp.maximum(next_noise**2 - fresh**2, 0))
        noisy = next_signal * clean + kept * direction + fresh * jax.random.normal(step_key, shape)  # Eq. 12
        return constraint.apply(noisy), None

    keys = jax.random.split(steps_key, levels.times.size)
    sample, _ = jax.lax.scan(step, start, (*levels.pairs, levels.times, keys))
    return sample
