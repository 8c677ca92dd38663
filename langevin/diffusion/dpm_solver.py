"""DPM-Solver++ (2M) (Lu et al. 2022): second order for one network call a step, by remembering the last one."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from langevin.diffusion.constraints import Constraint
from langevin.diffusion.levels import Denoiser, Guide, Levels, unmoved


def dpm_solver_sample(
    denoiser: Denoiser,
    constraint: Constraint,
    levels: Levels,
    temperature: float = 1.0,
    guide: Guide = unmoved,
    guess: Float[Array, "horizon channels"] | None = None,
    *,
    key: PRNGKeyArray,
) -> Float[Array, "horizon channels"]:
    """Draw one sample from noise (Algorithm 2), held entries put back after every step.

    The first step has nothing to remember and the last, to zero noise, is infinitely long in
    lambda = ln(alpha / sigma): both are first-order. temperature, guess: as in DDIM.
    """
    start = constraint.apply(
        levels.start(guess, temperature * jax.random.normal(key, constraint.values.shape))
    )
    (_, noise), (next_signal, next_noise) = levels.pairs
    shares = weights_of_the_last_call(levels)
    noise_over_signal = levels.noise / levels.signal
    shrinking = noise_over_signal[1:] / noise_over_signal[:-1]  # exp(-h_i)

    def step(carry, at):
        noisy, last_clean = carry
        time, arrival, variance, share, signal, remaining, shrink = at
        clean = denoiser(noisy, time)
        ahead = (1 + share) * clean - share * last_clean  # D_i, with share = 1 / (2 r_i)
        mean = remaining * noisy + signal * (1 - shrink) * ahead
        guided = guide(constraint.apply(mean), constraint.apply(clean), variance, arrival)
        return (constraint.apply(guided), clean), None

    steps = (
        levels.times, levels.arrivals, levels.variances, shares, next_signal, next_noise / noise, shrinking,
    )  # fmt: skip
    (sample, _), _ = jax.lax.scan(step, (start, jnp.zeros_like(start)), steps)
    return sample


def weights_of_the_last_call(levels: Levels) -> Float[Array, " steps"]:
    """1 / (2 r_i) = h_i / (2 h_{i-1}), with h_i the step in lambda; 0 in the first and the last step."""
    log_signal_to_noise = jnp.log(
        levels.signal[:-1] / levels.noise[:-1]
    )  # all but the last, which is infinite
    lengths = jnp.diff(log_signal_to_noise)
    inner = lengths[1:] / (2 * lengths[:-1])
    return jnp.zeros(levels.times.size).at[1:-1].set(inner)
