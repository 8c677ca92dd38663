"""EDM's loss of which nothing is known, against its formula."""

import jax
import jax.numpy as jnp
import numpy as np

from langevin.diffusion.edm import EDM
from langevin.diffusion.unconditional import unconditional_denoiser, unconditional_loss

ZERO = lambda x, noise: jnp.zeros_like(x)


def test_the_loss_is_the_weighted_error_of_all_entries_on_valid_rows():
    clean = np.random.default_rng(0).normal(size=(2, 3, 2)).astype(np.float32)
    valid = np.array([[True, True, True], [True, False, False]])
    key = jax.random.key(1)
    errors = []
    for one, key_of_one in zip(clean, jax.random.split(key, 2), strict=True):
        level_key, noise_key = jax.random.split(key_of_one)
        sigma = np.exp(-1.2 + 1.2 * np.asarray(jax.random.normal(level_key)))
        noisy = one + sigma * np.asarray(jax.random.normal(noise_key, one.shape))
        denoised = noisy * 0.25 / (sigma**2 + 0.25)  # a network that says nothing leaves the skip
        errors.append((sigma**2 + 0.25) / (sigma * 0.5) ** 2 * (denoised - one) ** 2)
    expected = np.concatenate([errors[0][valid[0]], errors[1][valid[1]]]).mean()
    got = unconditional_loss(EDM(), ZERO, jnp.asarray(clean), jnp.asarray(valid), key=key)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_the_denoiser_shows_the_network_the_scaled_sample_and_nothing_else():
    seen = []

    def network(x, noise):
        seen.append((x, noise))
        return x

    noisy, sigma = jnp.array([[1.0, -2.0]]), jnp.float32(2.0)
    clean = unconditional_denoiser(EDM(), network)(noisy, sigma)
    np.testing.assert_allclose(seen[0][0], noisy / np.sqrt(4.25), rtol=1e-6)
    np.testing.assert_allclose(seen[0][1], np.log(2) / 4, rtol=1e-6)
    expected = 0.25 / 4.25 * np.asarray(noisy) + 2 * 0.5 / 4.25 * np.asarray(noisy)
    np.testing.assert_allclose(clean, expected, rtol=1e-5)
