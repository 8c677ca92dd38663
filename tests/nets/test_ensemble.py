import jax
import jax.numpy as jnp
import numpy as np

from langevin.nets.ensemble import Ensemble
from langevin.nets.mlp import MLP


def make(key):
    return MLP(3, 2, width=8, depth=1, activation=jax.nn.relu, key=key)


def member(ensemble, index):
    return jax.tree.map(lambda leaf: leaf[index], ensemble.networks)


def test_members_start_from_different_weights():
    ensemble = Ensemble(make, 3, key=jax.random.key(0))
    weights = np.asarray(ensemble.networks.layers[0].weight)
    assert weights.shape == (3, 3, 8)
    for one, other in [(0, 1), (0, 2), (1, 2)]:
        assert np.abs(weights[one] - weights[other]).max() > 0.1


def test_a_shared_input_gives_every_members_own_output():
    ensemble = Ensemble(make, 3, key=jax.random.key(0))
    x = jnp.array([0.1, -0.4, 2.0])
    outputs = ensemble(x)
    assert outputs.shape == (3, 2)
    for index in range(3):
        np.testing.assert_allclose(outputs[index], member(ensemble, index)(x), rtol=1e-5)


def test_each_member_can_see_an_input_of_its_own():
    ensemble = Ensemble(make, 3, key=jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (3, 3))
    outputs = ensemble.each(x)
    for index in range(3):
        np.testing.assert_allclose(outputs[index], member(ensemble, index)(x[index]), rtol=1e-5)


def test_a_batch_outside_the_ensemble():
    ensemble = Ensemble(make, 3, key=jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (5, 3))
    outputs = jax.vmap(ensemble, out_axes=1)(x)
    assert outputs.shape == (3, 5, 2)
    np.testing.assert_allclose(outputs[1, 4], ensemble(x[4])[1], rtol=1e-5, atol=1e-6)
