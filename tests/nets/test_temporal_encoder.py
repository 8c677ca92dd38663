"""The encoder of trajectories: its number hangs on every row, on their order, and on the noise level."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.nets.temporal_encoder import TemporalEncoder
from langevin.training.programs import COMPILE_QUICKLY


@pytest.mark.parametrize(("horizon", "multipliers"), [(5, (1, 2)), (4, (1,))])
def test_every_row_the_order_and_the_noise_level_count(horizon, multipliers):
    def say(key):
        encoder = TemporalEncoder(3, horizon, 8, multipliers, kernel=3, key=key)
        rows = jax.random.normal(jax.random.key(1), (horizon, 3))
        gradient = jax.grad(encoder)(rows, jnp.float32(0.2))
        numbers = [
            encoder(rows, jnp.float32(0.2)),
            encoder(rows[::-1], jnp.float32(0.2)),
            encoder(rows, jnp.float32(-1)),
        ]
        return gradient, jnp.stack(numbers)

    gradient, numbers = eqx.filter_jit(say, compiler_options=COMPILE_QUICKLY)(jax.random.key(0))
    assert np.abs(gradient).max(axis=1).min() > 1e-5
    assert np.abs(numbers[1:] - numbers[0]).min() > 1e-4
