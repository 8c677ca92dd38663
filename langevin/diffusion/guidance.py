"""Classifier-free guidance: one knob between what a model thinks likely and what it is told."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from langevin.diffusion.edm import EDM, Network
from langevin.diffusion.levels import Denoiser
from langevin.diffusion.prediction import DDPM


def with_presence(
    condition: Float[Array, "horizon conditions"], present: Bool[Array, ""] | bool
) -> Float[Array, "horizon conditions_and_flag"]:
    """The condition with a last channel that says it is there; all zeros where it is dropped."""
    flag = jnp.ones((condition.shape[0], 1))
    return jnp.where(jnp.asarray(present), jnp.concatenate([condition, flag], axis=-1), 0.0)


def guided_noise(
    told: Float[Array, "*shape"], untold: Float[Array, "*shape"], weight: float
) -> Float[Array, "*shape"]:
    """(1 + w) eps(x, c) - w eps(x, null) (Ho & Salimans 2022, Eq. 6).

    told, untold: the noise that a network sees with the condition and without it. weight: w. 0 is the conditional
    model and not the prior, which is -1; above 0 the condition counts for more than the data say.
    """
    return (1 + weight) * told - weight * untold


def guided_denoiser(
    model: EDM | DDPM, network: Network, condition: Float[Array, "horizon conditions"], strength: float
) -> Denoiser:
    """A denoiser that obeys `condition` as much as `strength` says (Ho & Salimans 2022).

    0 is the prior, which knows the condition only through held entries; 1 is the conditional model; between
    them the two are mixed, (1 - strength) D(null) + strength D(condition), which samples from
    p(x) p(condition | x) ** strength; above 1 extrapolates. With w = strength - 1 this is the usual
    (1 + w) D(condition) - w D(null). Clean samples may be mixed in place of noises, for each is a fixed linear map of
    the other and the weights sum to 1.
    """
    present = with_presence(condition, True)
    absent = with_presence(condition, False)

    def denoise(noisy, time):
        if strength == 0:
            return model.denoise(network, noisy, time, absent)
        if strength == 1:
            return model.denoise(network, noisy, time, present)
        prior = model.denoise(network, noisy, time, absent)
        told = model.denoise(network, noisy, time, present)
        return prior + strength * (told - prior)

    return denoise
