import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.nets.normalization import GroupNorm


def layer_and_input(length=6, channels=8, groups=4):
    rng = np.random.default_rng(0)
    layer = GroupNorm(channels, groups)
    layer = jax.tree.map(lambda leaf: leaf + rng.normal(size=leaf.shape).astype(np.float32), layer)
    return layer, (3 + 2 * rng.normal(size=(length, channels))).astype(np.float32)


def reference(layer, x):
    """Group by group, in double precision."""
    y = np.zeros(x.shape)
    size = x.shape[1] // layer.groups
    for group in range(layer.groups):
        own = slice(group * size, (group + 1) * size)
        values = x[:, own].astype(float)
        y[:, own] = (values - values.mean()) / np.sqrt(values.var() + layer.epsilon)
    return y * np.asarray(layer.scale, float) + np.asarray(layer.shift, float)


def test_groups_are_normalised_over_length_and_channels():
    layer, x = layer_and_input()
    np.testing.assert_allclose(layer(jnp.asarray(x)), reference(layer, x), rtol=1e-4, atol=1e-5)


def test_a_constant_input_gives_the_shift():
    layer, _ = layer_and_input()
    y = layer(jnp.full((6, 8), 1.0e3))
    np.testing.assert_allclose(y, np.broadcast_to(layer.shift, (6, 8)), atol=1e-3)


def test_a_large_offset_does_not_cost_the_variance():
    layer, x = layer_and_input()
    offset = x + np.float32(1e3)
    np.testing.assert_allclose(layer(jnp.asarray(offset)), reference(layer, offset), atol=2e-3)


def test_gradients_are_finite_differences():
    layer, x = layer_and_input(length=3, channels=4, groups=2)
    weights = np.random.default_rng(1).normal(size=x.shape)
    gradient = jax.grad(lambda x: jnp.sum(layer(x) * weights))(jnp.asarray(x))
    for index in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[index] = 1e-4
        difference = np.sum((reference(layer, x + step) - reference(layer, x - step)) * weights) / 2e-4
        np.testing.assert_allclose(gradient[index], difference, rtol=2e-3, atol=1e-3)


def test_groups_must_divide_the_channels():
    with pytest.raises(ValueError, match="8 groups"):
        GroupNorm(12, 8)
