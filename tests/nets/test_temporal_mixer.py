"""The mixer of trajectories: every part of a row reaches every other, and what it cannot take is refused."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.errors import UsageError
from langevin.nets.temporal_mixer import TemporalMixer


@pytest.fixture(scope="module")
def network():
    return TemporalMixer(5, 3, horizon=6, width=8, layers=2, key=jax.random.key(0))


@pytest.fixture(scope="module")
def trajectory():
    return jax.random.normal(jax.random.key(1), (6, 5))


def test_every_parameter_receives_gradient_but_what_the_norm_takes_away(network, trajectory):
    """The last bias along time adds one number to all channels of a row, and every reader of the row norms it."""
    target = jax.random.normal(jax.random.key(2), (6, 3))

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(network):
        return jnp.mean(jnp.square(network(trajectory, jnp.float32(0.3)) - target))

    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient(network)):
        name = jax.tree_util.keystr(path)
        assert np.all(np.isfinite(leaf)), name
        if name.endswith("along_time.narrow.bias"):
            assert np.abs(leaf).max() < 1e-7
        else:
            assert np.mean(np.asarray(leaf) != 0) > 0.99, name


def test_every_output_depends_on_every_input_row_and_on_the_noise_level(network, trajectory):
    noise = jnp.float32(0.3)
    output = network(trajectory, noise)
    assert 0 < jnp.abs(output).max() < 0.1, "the output starts small"
    assert jnp.abs(network(trajectory, jnp.float32(-1.0)) - output).max() > 0
    changes = jax.jacfwd(lambda x: network(x, noise))(trajectory)
    assert np.all(np.abs(changes).sum(axis=(1, 3)) > 0)


def test_rows_know_their_place(network, trajectory):
    """A plain network of each row, or one that sums over rows, would give the rows' outputs reversed."""
    noise = jnp.float32(0.3)
    backwards = network(trajectory[::-1], noise)[::-1]
    assert jnp.abs(backwards - network(trajectory, noise)).max() > 1e-4


def test_rows_meet_in_the_layers_along_time_alone(network, trajectory):
    """With the second layer along time at zero no row reaches another: time is mixed nowhere else."""
    parts = lambda n: [leaf for block in n.blocks for leaf in (block.along_time.narrow.weight,)]
    apart = eqx.tree_at(parts, network, replace_fn=jnp.zeros_like)
    changes = np.asarray(jax.jacfwd(lambda x: apart(x, jnp.float32(0.3)))(trajectory))
    reached = np.abs(changes).sum(axis=(1, 3)) > 0
    np.testing.assert_array_equal(reached, np.eye(6, dtype=bool))


def test_what_cannot_be_built_or_read_is_refused(network):
    with pytest.raises(UsageError, match=r"made for a horizon of 6, got 7"):
        network(jnp.ones((7, 5)), jnp.float32(0.0))
    with pytest.raises(UsageError, match=r"width must be even and at least 4, .* got 7"):
        TemporalMixer(5, 3, 6, width=7, key=jax.random.key(0))
    with pytest.raises(UsageError, match="layers must be at least 1, got 0"):
        TemporalMixer(5, 3, 6, layers=0, key=jax.random.key(0))
