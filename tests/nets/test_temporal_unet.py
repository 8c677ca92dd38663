import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.errors import UsageError
from langevin.nets.temporal_unet import TemporalUNet, require_channels


@pytest.fixture(scope="module")
def network():
    return TemporalUNet(5, 3, width=8, multipliers=(1, 2), groups=4, key=jax.random.key(0))


@pytest.fixture(scope="module")
def trajectory():
    return jax.random.normal(jax.random.key(1), (12, 5))


def test_every_parameter_receives_gradient(network, trajectory):
    target = jax.random.normal(jax.random.key(2), (12, 3))

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(network):
        return jnp.mean(jnp.square(network(trajectory, jnp.float32(0.3)) - target))

    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient(network)):
        assert np.all(np.isfinite(leaf)), path
        assert np.mean(np.asarray(leaf) != 0) > 0.99, jax.tree_util.keystr(path)


def test_the_output_starts_small_but_depends_on_every_input(network, trajectory):
    noise = jnp.float32(0.3)
    output = network(trajectory, noise)
    assert output.shape == (12, 3)
    assert 0 < jnp.abs(output).max() < 0.1
    assert jnp.abs(network(trajectory, jnp.float32(-1.0)) - output).max() > 0
    changes = jax.jacfwd(lambda x: network(x, noise))(trajectory)
    assert np.all(np.abs(changes).sum((0, 1)) > 0)


def test_the_output_scales_with_its_last_layer_only(network, trajectory):
    """The small start sits in the last layer and not in a scale on the way."""
    bigger = eqx.tree_at(lambda n: (n.last.weight, n.last.bias), network, replace_fn=lambda leaf: 100 * leaf)
    ratio = bigger(trajectory, jnp.float32(0.3)) / network(trajectory, jnp.float32(0.3))
    np.testing.assert_allclose(ratio, 100.0, rtol=1e-4)


def test_the_papers_parameter_count():
    """DyDiff's hopper network (14 channels, width 128 x (1, 4, 8), kernel 5): 58.75 million."""
    network = eqx.filter_eval_shape(
        lambda key: TemporalUNet(14, 14, 128, (1, 4, 8), key=key), jax.random.key(0)
    )
    count = sum(
        leaf.size for leaf in jax.tree.leaves(network) if eqx.is_array_like(leaf) or hasattr(leaf, "size")
    )
    assert round(count / 1e6, 2) == 58.75


@pytest.mark.parametrize("horizon", [30, 3, 1])
def test_a_horizon_that_cannot_be_halved_is_lengthened_by_its_last_row_and_cut_again(horizon):
    network = TemporalUNet(2, 2, width=4, multipliers=(1, 1, 1), groups=2, key=jax.random.key(0))
    rows = jax.random.normal(jax.random.key(1), (horizon, 2))
    lengthened = jnp.concatenate([rows, jnp.repeat(rows[-1:], -horizon % 4, axis=0)])
    found = network(rows, jnp.float32(0.0))
    assert found.shape == (horizon, 2)
    np.testing.assert_array_equal(found, network(lengthened, jnp.float32(0.0))[:horizon])


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ((12, (1, 2), 5), "width must be a multiple of 8 .*, got 12"),
        ((0, (1, 2), 5), "width must be a multiple of 8 .*, got 0"),
        ((8, (), 5), r"multipliers must be whole numbers of 1 or more, one a level, got \[\]"),
        ((8, (1, 0), 5), r"multipliers must be .* got \[1, 0\]"),
        ((8, (1, 2), 4), "kernel must be odd, .* got 4"),
    ],
)
def test_a_network_that_cannot_be_built_is_refused(form, words):
    with pytest.raises(UsageError, match=words):
        require_channels(*form)
    require_channels(8, (1, 2), 5)
