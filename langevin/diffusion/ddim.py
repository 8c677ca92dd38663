"""DDIM (Song et al. 2021): fewer steps of the same network, with as much fresh noise as is asked for."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from langevin.diffusion.constraints import Constraint
from langevin.diffusion.levels import Denoiser, Guide, Levels, unmoved


def ddim_sample(
    denoiser: Denoiser,
    constraint: Constraint,
    levels: Levels,
    eta: float = 0.0,
    temperature: float = 1.0,
    guide: Guide = unmoved,
    guess: Float[Array, "horizon channels"] | None = None,
    *,
    key: PRNGKeyArray,
) -> Float[Array, "horizon channels"]:
    """Draw one sample from noise (Eq. 12, for any alpha and sigma), held entries put back after every step.

    eta: 0 is a deterministic map of the first noise, first-order in the step; 1 is the ancestral chain over the
    chosen steps (Eq. 16). temperature: of all noise; below 1 samples keep to what is likely. guess: of the sample,
    from which it is drawn anew through `levels`, which then begin at less than pure noise.
    """
    start_key, steps_key = jax.random.split(key)
    shape = constraint.values.shape
    start = constraint.apply(levels.start(guess, temperature * jax.random.normal(start_key, shape)))

    def step(noisy, at):
        (signal, noise), (next_signal, next_noise), time, arrival, variance, step_key = at
        clean = denoiser(noisy, time)
        direction = (noisy - signal * clean) / noise  # the noise that was seen
        fresh = eta * jnp.sqrt(variance)  # Eq. 16
        kept = jnp.sqrt(jnp.maximum(next_noise**2 - fresh**2, 0))
        mean = constraint.apply(next_signal * clean + kept * direction)
        mean = guide(mean, constraint.apply(clean), variance, arrival)
        return constraint.apply(
            mean + temperature * fresh * jax.random.normal(step_key, shape)
        ), None  # Eq. 12

    keys = jax.random.split(steps_key, levels.times.size)
    steps = (*levels.pairs, levels.times, levels.arrivals, levels.variances, keys)
    sample, _ = jax.lax.scan(step, start, steps)
    return sample
