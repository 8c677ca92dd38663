"""The clean trajectory that a network sees behind a noised one, as a function of its weights."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from langevin.diffusion.constraints import Constraint
from langevin.diffusion.ddpm import DiscreteSchedule
from langevin.diffusion.edm import Network
from langevin.diffusion.prediction import DDPM

EstimatorName = Literal["posterior_mean", "proposition_1"]


def posterior_mean(
    process: DDPM,
    noisy: Float[Array, "horizon channels"],
    step: Int[Array, ""],
    output: Float[Array, "horizon channels"],
) -> Float[Array, "horizon channels"]:
    """E[tau^0 | tau^k] = (tau^k - sqrt(1 - abar_k) eps) / sqrt(abar_k), by the network's output for tau^k.

    Exact where the network is, and without another evaluation of it.
    """
    return output if process.predicts == "clean" else process.schedule.clean_of(noisy, step, output)


def proposition_1(
    process: DDPM,
    network: Network,
    clean: Float[Array, "horizon channels"],
    step: Int[Array, ""],
    noise: Float[Array, "horizon channels"],
    constraint: Constraint,
    condition: Float[Array, "horizon conditions"],
) -> Float[Array, "horizon channels"]:
    """DMEMM's Eq. 8, from the network at tau^1 … tau^k, all noised by the same eps, in one batched call.

    tau^0 + f_k eps - sum_{i <= k} (1 - alpha_i) / sqrt((1 - abar_i) abar_i) eps_theta(tau^i, i), with f_k the noise
    level. With a perfect network it is tau^0 + (f_k - S_k) eps, S_k the sum of the coefficients: the noise is removed
    more than once. The number of steps is not known when the program is compiled: the network is evaluated at every
    step of the chain, and those after k count nothing.
    """
    schedule = process.schedule

    def predicted_noise(i: Int[Array, ""]) -> Float[Array, "horizon channels"]:
        noisy = constraint.apply(schedule.noised(clean, i, noise))
        output = process.output(network, noisy, i, condition)
        return output if process.predicts == "noise" else noise_of(schedule, noisy, i, output)

    steps = jnp.arange(schedule.steps)
    coefficients = jnp.where(steps <= step, noise_coefficients(schedule), 0.0)
    removed = jnp.tensordot(coefficients, jax.vmap(predicted_noise)(steps), axes=1)
    return clean + schedule.noise_level(step) * noise - removed


def noise_coefficients(schedule: DiscreteSchedule) -> Float[Array, " steps"]:
    """(1 - alpha_i) / sqrt((1 - abar_i) abar_i), the noise that Eq. 8 takes away for step i."""
    return schedule.betas / jnp.sqrt((1 - schedule.kept) * schedule.kept)


def noise_of(
    schedule: DiscreteSchedule,
    noisy: Float[Array, "*shape"],
    step: Int[Array, ""],
    clean: Float[Array, "*shape"],
) -> Float[Array, "*shape"]:
    """The noise that makes x_k of that x_0."""
    kept = schedule.kept[step]
    return (noisy - jnp.sqrt(kept) * clean) / jnp.sqrt(1 - kept)
