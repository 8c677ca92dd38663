"""The residual network against its formula."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.nets.residual_mlp import ResidualMLP


@pytest.fixture(scope="module")
def network():
    return ResidualMLP(3, 2, 8, 2, key=jax.random.key(0))


def test_the_network_is_its_formula(network):
    x, noise = np.random.default_rng(0).normal(size=(4, 3)), 0.3
    layer = lambda linear, x: x @ np.asarray(linear.weight, float) + np.asarray(linear.bias, float)
    relu = lambda x: np.maximum(x, 0)
    embed, project = network.noise_layers
    embedded = layer(embed, np.asarray(network.noise_embedding(jnp.float32(noise)), float))
    embedded = embedded * np.tanh(np.log1p(np.exp(embedded)))  # mish
    hidden = layer(network.first, x) + layer(project, embedded)
    for block in network.blocks:
        hidden = hidden + layer(block, relu(hidden))
    expected = layer(network.last, relu(hidden))
    got = network(jnp.asarray(x, jnp.float32), jnp.float32(noise))
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)
    assert 0 < np.abs(expected).max() < 0.1, "the output starts small"


def test_every_parameter_receives_gradient(network):
    x = 10 * jax.random.normal(jax.random.key(1), (64, 3))

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(network):
        return jnp.mean(jnp.square(network(x, jnp.float32(0.3)) - 1.0))

    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient(network)):
        assert np.mean(np.asarray(leaf) != 0) > 0.9, jax.tree_util.keystr(path)


def test_the_papers_parameter_count():
    """SynthER's network has 6.5 million parameters (DyDiff, appendix), here for Hopper's 27 channels."""
    network = eqx.filter_eval_shape(lambda key: ResidualMLP(27, 27, 1024, 6, key=key), jax.random.key(0))
    count = sum(leaf.size for leaf in jax.tree.leaves(network) if hasattr(leaf, "size"))
    assert round(count / 1e6, 1) == 6.5
