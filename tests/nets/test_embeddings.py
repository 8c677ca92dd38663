import jax.numpy as jnp
import numpy as np
import pytest

from langevin.nets.embeddings import SinusoidalEmbedding


def test_frequencies_run_geometrically_from_lowest_to_highest():
    embedding = SinusoidalEmbedding(6, lowest_frequency=0.5, highest_frequency=8.0)
    angles = 0.3 * np.array([0.5, 2.0, 8.0])
    expected = np.concatenate([np.sin(angles), np.cos(angles)])
    np.testing.assert_allclose(embedding(jnp.float32(0.3)), expected, rtol=1e-5)


def test_noise_levels_of_edm_are_told_apart():
    """No two levels of a fine ladder from 0.002 to 80 share an embedding."""
    embedding = SinusoidalEmbedding(32)
    ladder = np.log(np.geomspace(0.002, 80, 60)) / 4
    embedded = np.stack([embedding(jnp.float32(value)) for value in ladder])
    distances = np.linalg.norm(embedded[:, None] - embedded[None], axis=-1)
    assert distances[~np.eye(60, dtype=bool)].min() > 0.1


@pytest.mark.parametrize("size", [5, 2])
def test_a_size_without_pairs_is_refused(size):
    with pytest.raises(ValueError, match="even"):
        SinusoidalEmbedding(size)
