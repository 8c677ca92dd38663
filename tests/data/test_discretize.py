"""Bins: how far a number comes back from itself, how full they are, what stands for them."""

import numpy as np
import pytest

from langevin.data.discretize import Discretizer
from langevin.errors import UsageError

ROWS = np.stack(
    [
        np.random.default_rng(0).normal(3, 50, 5000),
        np.random.default_rng(1).exponential(0.01, 5000),
        np.random.default_rng(2).choice([0.0, 1.0], 5000, p=[0.95, 0.05]),
        np.full(5000, -7.0),
    ],
    axis=1,
).astype(np.float32)


@pytest.mark.parametrize("kind", ["percentile", "uniform"])
def test_every_number_of_the_data_comes_back_within_half_its_bin(kind):
    discretizer = Discretizer.fit(ROWS, 50, kind)
    tokens = np.asarray(discretizer.encode(ROWS))
    assert tokens.min() >= 0
    assert tokens.max() <= 49
    edges = np.asarray(discretizer.edges)
    dims = np.arange(ROWS.shape[1])
    widths = edges[dims, tokens + 1] - edges[dims, tokens]
    error = np.abs(np.asarray(discretizer.decode(tokens)) - ROWS)
    assert np.all(error <= widths / 2 + 1e-6 * np.abs(ROWS) + 1e-9)
    assert np.all(edges[dims, tokens] <= ROWS)
    np.testing.assert_array_equal(discretizer.encode(discretizer.decode(tokens)), tokens)


@pytest.mark.parametrize("kind", ["percentile", "uniform"])
def test_a_reward_of_nought_or_one_and_a_constant_come_back_as_they_were(kind):
    discretizer = Discretizer.fit(ROWS, 50, kind)
    np.testing.assert_array_equal(discretizer.decode(discretizer.encode(ROWS))[:, 2:], ROWS[:, 2:])


def test_percentile_bins_hold_as_many_rows_each_and_uniform_ones_are_as_wide():
    percentile, uniform = (Discretizer.fit(ROWS[:, :2], 50, kind) for kind in ("percentile", "uniform"))
    for column in np.asarray(percentile.encode(ROWS[:, :2])).T:
        assert set(np.bincount(column)) <= {99, 100, 101}
    widths = np.diff(np.asarray(uniform.edges), axis=1)
    np.testing.assert_allclose(widths, widths[:, :1].repeat(50, axis=1), rtol=1e-2)


def test_beyond_the_data_is_the_nearest_bin_and_empty_bins_stand_for_their_middle():
    discretizer = Discretizer.fit(np.array([[0.0], [10.0]], np.float32), 5, "uniform")
    np.testing.assert_array_equal(discretizer.encode(np.array([[-5.0], [50.0]]))[:, 0], [0, 4])
    np.testing.assert_allclose(discretizer.centers[0], [0, 3, 5, 7, 10])


def test_some_dimensions_alone_are_read_as_among_all():
    discretizer = Discretizer.fit(ROWS, 20, "percentile")
    part = discretizer.of(slice(1, 3))
    np.testing.assert_array_equal(part.encode(ROWS[:, 1:3]), discretizer.encode(ROWS)[:, 1:3])


def test_a_single_bin_is_refused():
    with pytest.raises(UsageError, match="bins must be at least 2, got 1"):
        Discretizer.fit(ROWS, 1, "uniform")
