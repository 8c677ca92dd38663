"""The optimiser of denoising networks: how fast the weights move, and the average that follows them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.diffusion.training import DiffusionOptimizer
from langevin.nets.mlp import Linear


def moves(optimizer, updates):
    """How far a weight with a constant gradient moves in each update: Adam moves it by the learning rate."""
    network = Linear(1, 1, key=jax.random.key(0))
    state, places = optimizer.init(network), [float(network.weight[0, 0])]
    for step in range(updates):
        state, _ = optimizer.update(state, lambda n: n.weight.sum(), step=jnp.int32(step))
        places.append(float(state.network.weight[0, 0]))
    return -np.diff(places), state


@pytest.mark.parametrize(
    ("settings", "rates"),
    [
        ({"warmup_steps": 0}, [1, 1, 1, 1]),
        ({"warmup_steps": 2}, [0, 0.5, 1, 1]),
    ],
)
def test_the_learning_rate_ramps_up_as_it_is_told(settings, rates):
    found, _ = moves(DiffusionOptimizer(0.01, **settings), 4)
    np.testing.assert_allclose(found, np.multiply(rates, 0.01), atol=2e-6)


def test_the_learning_rate_falls_to_nothing_along_a_cosine():
    """Half of it is left in the middle between the ramp's end and the last update."""
    found, _ = moves(DiffusionOptimizer(0.01, warmup_steps=2, decay_steps=22), 22)
    assert found.argmax() == 2
    np.testing.assert_allclose(found[[2, 12, 21]], [0.01, 0.005, 0.00006], atol=1e-5)


def test_the_average_starts_short_and_ends_at_its_decay():
    """decay_t = min(0.9, (1 + t) / (10 + t)), so after one update the average is 0.1 old and 0.9 new."""
    found, state = moves(DiffusionOptimizer(0.01, warmup_steps=0, average_decay=0.9), 1)
    behind = float(state.average.weight[0, 0] - state.network.weight[0, 0])
    np.testing.assert_allclose(behind, 0.1 * found[0], rtol=1e-2)
