import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.normalize import GaussianNormalizer, MinMaxNormalizer

SCALES = np.array([1e-5, 1e-2, 1.0, 1e4])
OFFSETS = np.array([0.0, 5.0, -3.0, 2e4])


@pytest.fixture
def rows():
    """A thousand rows whose dimensions differ in scale by nine orders of magnitude, and a constant one."""
    noise = np.random.default_rng(0).standard_normal((1000, 4))
    varied = OFFSETS + SCALES * noise
    return np.concatenate([varied, np.full((1000, 1), 7.0)], axis=1).astype(np.float32)


def test_gaussian_gives_each_dimension_zero_mean_and_unit_variance(rows):
    normalized = np.asarray(GaussianNormalizer.fit(rows).normalize(rows))[:, :4]
    np.testing.assert_allclose(normalized.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(normalized.std(axis=0), 1, rtol=1e-3)


def test_min_max_puts_each_dimension_between_minus_one_and_one(rows):
    normalized = np.asarray(MinMaxNormalizer.fit(rows).normalize(rows))[:, :4]
    np.testing.assert_allclose(normalized.min(axis=0), -1, atol=1e-5)
    np.testing.assert_allclose(normalized.max(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize("kind", [GaussianNormalizer, MinMaxNormalizer])
def test_round_trip_gives_the_rows_back(kind, rows):
    normalizer = kind.fit(rows)
    back = np.asarray(normalizer.denormalize(normalizer.normalize(rows)))
    spread = np.maximum(rows.std(axis=0), 1e-6 * np.abs(rows).max(axis=0))
    assert (np.abs(back - rows) <= 1e-5 * spread + 4e-7 * np.abs(rows)).all()


@pytest.mark.parametrize("kind", [GaussianNormalizer, MinMaxNormalizer])
def test_a_constant_dimension_becomes_zero_and_a_surprise_in_it_stays_finite_and_small(kind, rows):
    normalizer = kind.fit(rows)
    assert (np.asarray(normalizer.normalize(rows))[:, 4] == 0).all()
    surprise = rows[:1] + np.float32(0.5)
    assert abs(float(normalizer.normalize(surprise)[0, 4])) == pytest.approx(0.5)


def test_a_dimension_that_is_zero_throughout_is_guarded():
    zeros = np.zeros((5, 2), np.float32)
    for kind in (GaussianNormalizer, MinMaxNormalizer):
        assert (np.asarray(kind.fit(zeros).normalize(zeros)) == 0).all()


def test_float32_noise_on_a_large_constant_does_not_count_as_movement():
    rows = np.full((1000, 1), 1e6, np.float32)
    rows[::2] += 0.0625
    assert float(GaussianNormalizer.fit(rows).std[0]) == 1


def test_statistics_do_not_drift_in_a_million_rows():
    rows = np.full((1_000_000, 1), 1000.0, np.float32)
    rows[::2] += 1
    normalizer = GaussianNormalizer.fit(rows)
    assert float(normalizer.mean[0]) == pytest.approx(1000.5, abs=1e-4)
    assert float(normalizer.std[0]) == pytest.approx(0.5, rel=1e-4)


def test_fitting_inside_jit_gives_the_same_statistics(rows):
    outside, inside = GaussianNormalizer.fit(rows), eqx.filter_jit(GaussianNormalizer.fit)(jnp.asarray(rows))
    np.testing.assert_allclose(inside.mean, outside.mean, rtol=1e-5)
    np.testing.assert_allclose(inside.std, outside.std, rtol=1e-5)


def test_any_leading_axes_inside_jit_and_vmap(rows):
    normalizer = GaussianNormalizer.fit(rows)
    batch = jnp.asarray(rows[:12]).reshape(2, 6, 5)
    whole = eqx.filter_jit(lambda n, x: n.normalize(x))(normalizer, batch)
    mapped = jax.vmap(normalizer.normalize)(batch)
    np.testing.assert_allclose(whole, mapped, rtol=1e-6, atol=1e-6)


def test_statistics_are_leaves_that_a_checkpoint_keeps(rows, tmp_path):
    fitted = GaussianNormalizer.fit(rows)
    eqx.tree_serialise_leaves(tmp_path / "normalizer.eqx", fitted)
    like = GaussianNormalizer(jnp.zeros(5), jnp.zeros(5))
    loaded = eqx.tree_deserialise_leaves(tmp_path / "normalizer.eqx", like)
    assert (loaded.mean == fitted.mean).all()
    assert (loaded.std == fitted.std).all()
