"""Gaussian data of 2 rows and 2 channels, of which denoiser and probability flow are known exactly."""

import jax.numpy as jnp
import numpy as np

MEAN = np.array([[0.3, -0.5], [0.1, 0.8]])
FACTOR = np.array([[0.5, 0, 0, 0], [0.2, 0.3, 0, 0], [-0.1, 0.1, 0.4, 0], [0.05, -0.2, 0.1, 0.25]])
COVARIANCE = FACTOR @ FACTOR.T


def exact_clean(noisy, signal, noise):
    """E[x_0 | signal x_0 + noise eps] for x_0 ~ N(MEAN, COVARIANCE)."""
    gain = signal * COVARIANCE @ jnp.linalg.inv(signal**2 * COVARIANCE + noise**2 * jnp.eye(4))
    return (MEAN.reshape(-1) + gain @ (noisy.reshape(-1) - signal * MEAN.reshape(-1))).reshape(2, 2)


def exact_denoiser(noisy, level):
    """The same at signal 1: EDM's denoiser."""
    return exact_clean(noisy, 1.0, level)


def exact_denoiser_of(schedule):
    """The same for the steps of a discrete chain."""
    return lambda noisy, step: exact_clean(
        noisy, jnp.sqrt(schedule.kept[step]), jnp.sqrt(1 - schedule.kept[step])
    )


def exact_flow(noisy, signal, noise):
    """Where the probability-flow ODE takes a noisy sample: each principal direction's deviation from the mean stays
    proportional to its standard deviation, sqrt(signal^2 variance + noise^2)."""
    variances, directions = np.linalg.eigh(COVARIANCE)
    deviation = (np.asarray(noisy).reshape(-1) - signal * MEAN.reshape(-1)) @ directions
    shrunk = deviation * np.sqrt(variances / (signal**2 * variances + noise**2))
    return (MEAN.reshape(-1) + directions @ shrunk).reshape(2, 2)


def assert_samples_have_the_datas_moments(samples, allowance):
    """Mean within 5 standard errors and an allowance, covariance within 0.012 (20,000 samples)."""
    flat = np.asarray(samples).reshape(-1, 4)
    standard_error = np.sqrt(np.diag(COVARIANCE) / len(flat))
    assert np.all(np.abs(flat.mean(0) - MEAN.reshape(-1)) < 5 * standard_error + allowance)
    np.testing.assert_allclose(np.cov(flat.T), COVARIANCE, atol=0.012)


def orders(errors):
    """By which power of the step the error falls, each time the number of steps is doubled."""
    return np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
