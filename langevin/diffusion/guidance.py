"""Classifier-free guidance: one knob between what a model thinks likely and what it is told."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from langevin.diffusion.edm import EDM, Denoiser, Network


def with_presence(
    condition: Float[Array, "horizon conditions"], present: Bool[Array, ""] | bool
) -> Float[Array, "horizon conditions_and_flag"]:
    """The condition with a last channel that says it is there; all zeros where it is dropped."""
    flag = jnp.ones((condition.shape[0], 1))
    return jnp.where(jnp.asarray(present), jnp.concatenate([condition, flag], axis=-1), 0.0)


def guided_denoiser(
    edm: EDM, network: Network, condition: Float[Array, "horizon conditions"], strength: float
) -> Denoiser:
    """A denoiser that obeys `condition` as much as `strength` says (Ho & Salimans 2022).

    0 is the prior, which knows the condition only through held entries; 1 is the conditional model; between
    them the two are mixed, (1 - strength) D(null) + strength D(condition), which samples from
    p(x) p(condition | x) ** strength; above 1 extrapolates. With w = strength - 1 this is the usual
    (1 + w) D(condition) - w D(null).
    """
    present = with_presence(condition, True)
    absent = with_presence(condition, False)

    def denoise(noisy, noise_level):
        if strength == 0:
            return edm.denoise(network, noisy, noise_level, absent)
        if strength == 1:
            return edm.denoise(network, noisy, noise_level, present)
        prior = edm.denoise(network, noisy, noise_level, absent)
        told = edm.denoise(network, noisy, noise_level, present)
        return prior + strength * (told - prior)

    return denoise
