"""The causal transformer: against NumPy, what may be read, the cache, the residual stream, dropout."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.errors import UsageError
from langevin.nets.dropout import dropout
from langevin.nets.normalization import LayerNorm
from langevin.nets.transformer import Block, Transformer, visible_slots
from tests.policies import by_hand

TOKENS, WIDTH = 7, 8
ALL = jnp.ones(TOKENS, bool)


@pytest.fixture(scope="module")
def network():
    """Two blocks of two heads, with weights large enough that every part matters."""
    fresh = Transformer(WIDTH, 2, 2, 0.0, jax.nn.relu, key=jax.random.key(0))
    leaves, form = jax.tree.flatten(fresh)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    return jax.tree.unflatten(
        form,
        [leaf + 0.4 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)],
    )


@pytest.fixture(scope="module")
def x():
    return jax.random.normal(jax.random.key(2), (TOKENS, WIDTH))


def read(network, x, readable=ALL):
    return network(x, visible_slots(TOKENS, readable))[0]


def test_the_network_equals_attention_written_out_in_numpy(network, x):
    """With a token that the others may not read, as padding and returns-to-go are."""
    readable = np.array([True, True, False, True, True, False, True])
    expected = by_hand.transformer(network, np.asarray(x, np.float64), readable)
    np.testing.assert_allclose(read(network, x, jnp.asarray(readable)), expected, rtol=1e-4, atol=1e-5)


def test_a_later_token_changes_nothing_earlier_and_everything_from_itself_on(network, x):
    other = x.at[4, 0].add(1.0)
    before, after = read(network, x), read(network, other)
    np.testing.assert_array_equal(before[:4], after[:4])
    assert np.all(np.abs(before[4:] - after[4:]).max(axis=1) > 1e-3)


def test_what_may_not_be_read_changes_nothing_but_itself(network, x):
    readable = ALL.at[2].set(False)
    before, after = read(network, x, readable), read(network, x.at[2, 0].add(1.0), readable)
    others = np.arange(TOKENS) != 2
    np.testing.assert_array_equal(before[others], after[others])
    assert np.abs(before[2] - after[2]).max() > 1e-3


def test_token_by_token_with_a_cache_gives_what_the_whole_sequence_gives(network, x):
    """Three tokens at once, then one at a time, into a cache that is longer than the sequence."""
    readable = ALL.at[2].set(False)
    slots = jnp.concatenate([readable, jnp.ones(4, bool)])
    outputs, cache = network(x[:3], visible_slots(3, slots), network.empty_cache(len(slots)))
    for slot in range(3, TOKENS):
        one, cache = network(x[slot : slot + 1], visible_slots(1, slots, slot), cache, jnp.int32(slot))
        outputs = jnp.concatenate([outputs, one])
    np.testing.assert_allclose(outputs, read(network, x, readable), rtol=1e-5, atol=1e-6)


def test_a_block_adds_to_its_input_and_to_nothing_else(x):
    """With branches that give nothing the block is the identity, also for an input that is far from normalised."""
    block = Block(WIDTH, 2, 0.0, jax.nn.gelu, key=jax.random.key(0))
    silent = eqx.tree_at(
        lambda b: (b.attention.outwards, b.narrow), block,
        jax.tree.map(jnp.zeros_like, (block.attention.outwards, block.narrow)),
    )  # fmt: skip
    far = 100 * x + 30
    np.testing.assert_array_equal(silent(far, visible_slots(TOKENS, ALL))[0], far)
    moved = block(far, visible_slots(TOKENS, ALL))[0] - far
    near = block(far * 2, visible_slots(TOKENS, ALL))[0] - far * 2
    np.testing.assert_allclose(moved, near, atol=1e-4)  # what is added comes from the normalised input


def test_a_token_that_may_read_nothing_but_itself_is_finite(network, x):
    assert np.isfinite(read(network, x, ~ALL)).all()


def test_layer_norm_is_numpys():
    norm = eqx.tree_at(lambda n: (n.scale, n.shift), LayerNorm(4), (jnp.arange(4.0), jnp.ones(4)))
    rows = np.random.default_rng(0).normal(5, 3, (6, 4))
    standard = (rows - rows.mean(1, keepdims=True)) / np.sqrt(rows.var(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(norm(jnp.asarray(rows, jnp.float32)), standard * np.arange(4) + 1, atol=1e-5)


def test_dropout_keeps_the_mean_and_drops_nothing_without_a_key():
    ones = jnp.ones(20_000)
    dropped = dropout(ones, 0.25, jax.random.key(0))
    assert float((dropped == 0).mean()) == pytest.approx(0.25, abs=0.02)
    assert float(dropped.mean()) == pytest.approx(1, abs=0.02)
    np.testing.assert_array_equal(dropout(ones, 0.25, None), ones)


def test_dropout_is_drawn_anew_by_each_key_and_in_each_block(x):
    network = Transformer(WIDTH, 2, 2, 0.5, key=jax.random.key(0))
    visible = visible_slots(TOKENS, ALL)
    first, again, other = (network(x, visible, key=jax.random.key(seed))[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3
    np.testing.assert_array_equal(network(x, visible)[0], network(x, visible)[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((10, 2, 3, 0.1), "heads must divide width, got 3 heads and width 10"),
        ((8, 0, 2, 0.1), "layers must be at least 1, got 0"),
        ((8, 2, 2, 1.0), "dropout must be at least 0 and below 1, got 1.0"),
    ],
)
def test_networks_that_cannot_be_built_are_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        Transformer(*arguments, key=jax.random.key(0))
