"""Heun's second-order sampler with churn (EDM, Algorithm 2), holding known entries fixed throughout."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from langevin.diffusion.constraints import Constraint
from langevin.diffusion.levels import Denoiser
from langevin.diffusion.schedules import KarrasSchedule


class Churn(eqx.Module):
    """How much fresh noise each step adds (EDM, Section 4). The default adds none.

    amount: S_churn. lowest, highest: the noise levels between which it is added (S_min, S_max).
    noise_scale: S_noise, slightly above 1 to make up for detail the denoiser removes.
    """

    amount: float = eqx.field(static=True, default=0.0)
    lowest: float = eqx.field(static=True, default=0.36995)
    highest: float = eqx.field(static=True, default=52.24195)
    noise_scale: float = eqx.field(static=True, default=1.002)

    def gamma(self, noise_level: Float[Array, "..."], steps: int) -> Float[Array, "..."]:
        """gamma_i = min(S_churn / N, sqrt(2) - 1) between the two levels, else 0."""
        inside = (noise_level >= self.lowest) & (noise_level <= self.highest)
        return jnp.where(inside, min(self.amount / steps, 2**0.5 - 1), 0.0)


def heun_sample(
    denoiser: Denoiser,
    constraint: Constraint,
    schedule: KarrasSchedule,
    churn: Churn = Churn(),  # noqa: B008 - immutable
    guess: Float[Array, "horizon channels"] | None = None,
    *,
    key: PRNGKeyArray,
) -> Float[Array, "horizon channels"]:
    """Draw one trajectory from noise (EDM, Algorithm 2, with DyDiff's conditions re-applied).

    Held entries are put back at the start, after the churn noise (papers and code leave this one out), after
    the Euler step and after Heun's correction. The Euler step is
    `x_hat + (t_{i+1} - t_hat_i) d_i`: DyDiff's Algorithm 2 prints t_i where t_hat_i belongs. guess: of the sample, from
    which it is drawn anew; the schedule then begins at less than pure noise.
    """
    levels = schedule.noise_levels()
    start_key, steps_key = jax.random.split(key)
    noise = jax.random.normal(start_key, constraint.values.shape)
    sample = constraint.apply(schedule.levels().start(guess, noise))

    def churned(sample, level, key):
        if churn.amount == 0:
            return sample, level
        gamma = churn.gamma(level, schedule.steps)
        noise = level * jnp.sqrt(gamma * (2 + gamma)) * jax.random.normal(key, sample.shape)
        # lines 5, 6: t_hat = (1 + gamma) t, and sqrt(t_hat^2 - t^2), which in float32 must not turn negative
        return constraint.apply(sample + churn.noise_scale * noise), level * (1 + gamma)

    def euler(sample, level, next_level):
        slope = (sample - denoiser(sample, level)) / level  # line 7: d_i
        return constraint.apply(sample + (next_level - level) * slope), slope  # line 8

    def heun(sample, step):
        level, next_level, key = step
        sample, level = churned(sample, level, key)
        predicted, slope = euler(sample, level, next_level)
        next_slope = (predicted - denoiser(predicted, next_level)) / next_level  # line 10
        corrected = sample + (next_level - level) * (slope + next_slope) / 2  # line 11
        return constraint.apply(corrected), None

    keys = jax.random.split(steps_key, schedule.steps)
    sample, _ = jax.lax.scan(heun, sample, (levels[:-2], levels[1:-1], keys[:-1]))
    sample, level = churned(sample, levels[-2], keys[-1])
    return euler(sample, level, levels[-1])[0]  # the last step ends at zero noise, where Heun has no slope
