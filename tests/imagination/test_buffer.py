"""The ring buffer of synthetic rows, and batches that mix it with real ones."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.sampling import Transitions
from langevin.errors import UsageError
from langevin.imagination.buffer import SyntheticBuffer, empty_buffer, mixed_batch

add = eqx.filter_jit(SyntheticBuffer.add)
mix = eqx.filter_jit(mixed_batch)


def rows(numbers):
    """Transitions that carry their number in every field."""
    numbers = jnp.asarray(numbers, jnp.float32)
    return Transitions(
        observations=jnp.stack([numbers, -numbers], axis=1),
        actions=numbers[:, None] / 100,
        rewards=numbers,
        terminations=numbers % 2,
        next_observations=jnp.stack([numbers + 0.5, -numbers - 0.5], axis=1),
    )


def everything(count):
    return jnp.ones(count, bool)


def held(buffer):
    """Numbers of the rows in the filled slots; every field must tell the same one."""
    count = int(buffer.filled)
    kept = jax.tree.map(lambda leaf: np.asarray(leaf)[:count], buffer.rows)
    again = rows(kept.rewards)
    for field in ("observations", "actions", "terminations", "next_observations"):
        np.testing.assert_array_equal(getattr(kept, field), getattr(again, field), err_msg=field)
    return kept.rewards.astype(int).tolist()


def test_rows_fill_the_buffer_in_order():
    buffer = add(empty_buffer(6, 2, 1), rows([1, 2, 3]), everything(3))
    buffer = add(buffer, rows([4, 5, 6]), everything(3))
    assert held(buffer) == [1, 2, 3, 4, 5, 6]
    assert (int(buffer.filled), int(buffer.position)) == (6, 0)


def test_the_oldest_rows_are_overwritten_first_around_the_end():
    buffer = empty_buffer(5, 2, 1)
    for start in (1, 4, 7):
        buffer = add(buffer, rows(range(start, start + 3)), everything(3))
    assert sorted(held(buffer)) == [5, 6, 7, 8, 9]
    buffer = add(buffer, rows([10, 11, 12]), everything(3))
    assert sorted(held(buffer)) == [8, 9, 10, 11, 12]
    assert int(buffer.filled) == 5


def test_rows_that_did_not_happen_are_left_out_and_take_no_slot():
    buffer = add(empty_buffer(5, 2, 1), rows([1, 2, 3, 4]), jnp.array([True, False, False, True]))
    assert held(buffer) == [1, 4]
    buffer = add(buffer, rows([5, 6, 7, 8]), jnp.array([False, True, True, True]))
    assert held(buffer) == [1, 4, 6, 7, 8]
    buffer = add(buffer, rows([9, 9, 9, 10]), jnp.array([False, False, False, True]))
    assert held(buffer) == [10, 4, 6, 7, 8]
    nothing = add(buffer, rows([1, 1, 1, 1]), ~everything(4))
    assert eqx.tree_equal(nothing, buffer)


def test_a_batch_of_exactly_the_capacity_replaces_everything():
    buffer = add(empty_buffer(3, 2, 1), rows([1, 2]), everything(2))
    buffer = add(buffer, rows([3, 4, 5]), everything(3))
    assert sorted(held(buffer)) == [3, 4, 5]


def test_more_rows_than_the_capacity_are_refused():
    with pytest.raises(UsageError, match=r"4 rows do not fit a synthetic buffer of 3; raise its capacity"):
        add(empty_buffer(3, 2, 1), rows([1, 2, 3, 4]), everything(4))


REAL = rows(range(1, 51))
SYNTHETIC = add(empty_buffer(40, 2, 1), rows(range(101, 111)), everything(10))


@pytest.mark.parametrize(("share", "expected"), [(0.6, 153), (0.0, 0), (1.0, 256), (0.25, 64)])
def test_exactly_the_real_share_of_a_batch_is_real(share, expected):
    """Of 256 at DyDiff's 0.6: 153 real and 103 synthetic, never the other way round."""
    for seed in range(5):
        batch = mix(REAL, SYNTHETIC, 256, share, key=jax.random.key(seed))
        assert int((np.asarray(batch.rewards) <= 50).sum()) == expected


def test_only_filled_slots_are_drawn_and_each_of_them_is():
    """Thirty of the forty slots hold zeros that nobody put there."""
    batch = mix(REAL, SYNTHETIC, 512, 0.5, key=jax.random.key(0))
    assert set(np.asarray(batch.rewards[256:]).tolist()) == set(range(101, 111))


def test_fields_of_a_mixed_row_belong_together():
    batch = mix(REAL, SYNTHETIC, 64, 0.5, key=jax.random.key(1))
    again = rows(batch.rewards)
    assert eqx.tree_equal(batch, again)


def test_a_batch_is_all_real_while_the_buffer_is_empty():
    batch = mix(REAL, empty_buffer(40, 2, 1), 256, 0.6, key=jax.random.key(2))
    drawn = np.asarray(batch.rewards)
    assert drawn.min() >= 1
    assert drawn.max() <= 50
    assert eqx.tree_equal(batch, rows(drawn))


def test_of_the_union_every_row_is_as_likely_as_any_other():
    """Fifty logged and ten imagined rows: 200,000 draws of 1/60 each, within 5 standard deviations."""
    drawn = np.asarray(mix(REAL, SYNTHETIC, 200_000, "union", key=jax.random.key(3)).rewards)
    found, counts = np.unique(drawn, return_counts=True)
    assert found.tolist() == [*range(1, 51), *range(101, 111)]
    mean = 200_000 / 60
    assert np.abs(counts - mean).max() < 5 * np.sqrt(mean)


def test_of_the_union_rows_belong_together_and_are_real_while_the_buffer_is_empty():
    batch = mix(REAL, SYNTHETIC, 256, "union", key=jax.random.key(4))
    assert eqx.tree_equal(batch, rows(batch.rewards))
    drawn = np.asarray(mix(REAL, empty_buffer(40, 2, 1), 256, "union", key=jax.random.key(5)).rewards)
    assert drawn.min() >= 1
    assert drawn.max() <= 50
