"""Scalars as vectors a network can read."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


class SinusoidalEmbedding(eqx.Module):
    """Sines and cosines of a scalar at geometrically spaced frequencies (Vaswani et al. 2017, sec. 3.5).

    The defaults suit EDM's noise input, `log(noise_level) / 4` in about [-1.6, 1.1]: the slowest wave tells
    its two ends apart and the fastest one resolves a few percent of noise level. For integer diffusion
    steps up to 1000 use frequencies 1e-4 to 1.
    """

    size: int = eqx.field(static=True)
    lowest_frequency: float = eqx.field(static=True, default=0.25)
    highest_frequency: float = eqx.field(static=True, default=32.0)

    def __check_init__(self):
        if self.size < 4 or self.size % 2:
            raise ValueError(f"an embedding's size must be even and at least 4, got {self.size}")

    def __call__(self, value: Float[Array, ""]) -> Float[Array, " size"]:
        frequencies = np.geomspace(
            self.lowest_frequency, self.highest_frequency, self.size // 2, dtype=np.float32
        )
        angles = value * frequencies
        return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)])
