"""EDM of which nothing is known beforehand: no held entries, no condition. Synthesis of whole rows and windows."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from langevin.diffusion.constraints import unconstrained
from langevin.diffusion.edm import EDM, Network, edm_loss
from langevin.diffusion.levels import Denoiser


def unconditional_denoiser(edm: EDM, network: Network) -> Denoiser:
    """The denoiser of a network that is told nothing."""

    def denoise(noisy: Float[Array, "horizon channels"], noise_level: Float[Array, ""]):
        return edm.denoise(network, noisy, noise_level, jnp.zeros((noisy.shape[0], 0)))

    return denoise


def unconditional_loss(
    edm: EDM,
    network: Network,
    clean: Float[Array, "batch horizon channels"],
    valid: Bool[Array, "batch horizon"],
    *,
    key: PRNGKeyArray,
) -> Float[Array, ""]:
    """EDM's loss (Eq. 8) over every entry of the valid rows."""
    batch, horizon, channels = clean.shape
    nothing = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (batch, *leaf.shape)), unconstrained(horizon, channels)
    )
    return edm_loss(edm, network, clean, valid, nothing, jnp.zeros((batch, horizon, 0)), key=key)
