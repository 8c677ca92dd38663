import jax
import jax.numpy as jnp
import numpy as np

from langevin.nets.mlp import MLP, Linear


def test_the_network_is_its_formula():
    network = MLP(3, 2, width=4, depth=2, activation=jax.nn.relu, key=jax.random.key(0))
    x = np.array([0.5, -1.0, 2.0], np.float32)
    hidden = x.astype(float)
    for layer in network.layers[:-1]:
        hidden = np.maximum(hidden @ np.asarray(layer.weight) + np.asarray(layer.bias), 0)
    last = network.layers[-1]
    expected = hidden @ np.asarray(last.weight) + np.asarray(last.bias)
    np.testing.assert_allclose(network(jnp.asarray(x)), expected, rtol=1e-5, atol=1e-6)
    assert len(network.layers) == 3


def test_initial_values_fill_pytorchs_range():
    layer = Linear(256, 256, key=jax.random.key(0))
    bound = 1 / np.sqrt(256)
    for values in (layer.weight, layer.bias):
        assert 0.95 * bound < jnp.abs(values).max() <= bound
    assert abs(float(layer.weight.std()) - bound / np.sqrt(3)) < 0.02 * bound


def test_a_batch_is_one_matmul_a_layer():
    network = MLP(3, 2, width=4, depth=1, activation=jax.nn.relu, key=jax.random.key(0))
    jaxpr = jax.make_jaxpr(jax.vmap(network))(jnp.ones((7, 3)))
    products = [e for e in jaxpr.eqns if e.primitive.name == "dot_general"]
    assert len(products) == 2
    assert all(product.params["dimension_numbers"] == (((1,), (0,)), ((), ())) for product in products)
    assert not [e for e in jaxpr.eqns if e.primitive.name == "transpose"]


def test_layers_have_keys_of_their_own():
    network = MLP(4, 4, width=4, depth=2, activation=jax.nn.relu, key=jax.random.key(0))
    first, second, third = (np.asarray(layer.weight) for layer in network.layers)
    assert not np.allclose(first, second)
    assert not np.allclose(second, third)


def test_normalised_hidden_layers_bound_the_output_however_far_the_input_lies():
    """|y| <= ||w|| sqrt(width) + |b|, for a normalised layer's units have a mean square of at most 1."""
    plain, normalized = (
        MLP(3, 1, width=16, depth=2, layer_norm=layer_norm, key=jax.random.key(0))
        for layer_norm in (False, True)
    )
    far = jax.vmap(plain), jax.vmap(normalized)
    x = 1e4 * jax.random.normal(jax.random.key(1), (200, 3))
    last = normalized.layers[-1]
    bound = float(jnp.linalg.norm(last.weight) * 4 + jnp.abs(last.bias)[0])
    assert jnp.abs(far[0](x)).max() > 10 * bound
    assert jnp.abs(far[1](x)).max() <= bound
    for ours, theirs in zip(plain.layers, normalized.layers, strict=True):
        np.testing.assert_array_equal(ours.weight, theirs.weight)  # the same network but for its norms
