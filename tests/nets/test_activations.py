import jax
import jax.numpy as jnp
import numpy as np

from langevin.nets.activations import mish

POINTS = np.array([-200, -90, -30, -5, -1, -1e-3, 0, 1e-3, 0.7, 5, 19, 21, 50, 89, 200], np.float32)


def test_mish_is_its_formula():
    x = POINTS.astype(float)
    np.testing.assert_allclose(
        mish(jnp.asarray(POINTS)), x * np.tanh(np.logaddexp(0, x)), rtol=2e-6, atol=1e-7
    )


def test_its_gradient_is_the_formulas():
    x = POINTS.astype(float)
    softplus = np.logaddexp(0, x)
    expected = np.tanh(softplus) + x / np.cosh(softplus) ** 2 / (1 + np.exp(-x))
    gradient = jax.vmap(jax.grad(mish))(jnp.asarray(POINTS))
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)
