"""Estimates of the clean trajectory by a network that knows the noise, and by one that does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.diffusion.constraints import Constraint, unconstrained
from langevin.diffusion.ddpm import cosine_schedule
from langevin.diffusion.prediction import DDPM
from langevin.planners.clean_estimates import noise_coefficients, noise_of, posterior_mean, proposition_1

SCHEDULE = cosine_schedule(100)
HORIZON, CHANNELS = 5, 3
CLEAN, NOISE = np.random.default_rng(0).normal(size=(2, HORIZON, CHANNELS)).astype(np.float32)
CONDITION = jnp.zeros((HORIZON, 1))
FREE = unconstrained(HORIZON, CHANNELS)


def perfect_network(predicts):
    """Knows the trajectory, and finds the noise of what it is shown at the level it is told."""

    def network(rows, time):
        level = jnp.exp(4 * time)
        signal = 1 / jnp.sqrt(1 + level**2)
        return (rows[:, :CHANNELS] / signal - CLEAN) / level if predicts == "noise" else jnp.asarray(CLEAN)

    return network


@pytest.mark.parametrize("predicts", ["noise", "clean"])
@pytest.mark.parametrize("k", [1, 50, 75, 99])
def test_the_posterior_mean_of_a_perfect_network_is_the_trajectory(k, predicts):
    process, step = DDPM(SCHEDULE, predicts), jnp.int32(k - 1)
    noisy = SCHEDULE.noised(jnp.asarray(CLEAN), step, jnp.asarray(NOISE))
    output = process.output(perfect_network(predicts), noisy, step, CONDITION)
    estimate = posterior_mean(process, noisy, step, output)
    np.testing.assert_allclose(estimate, CLEAN, atol=1e-5 * (1 + float(SCHEDULE.noise_level(step))) * 10)


def closed_form_bias(k):
    """f_k - S_k in float64: k counts from 1, as in the paper."""
    share = np.arange(101) / 100
    kept = np.cos((share + 0.008) / 1.008 * np.pi / 2) ** 2
    betas = np.minimum(1 - kept[1:] / kept[:-1], 0.999)
    kept = np.cumprod(1 - betas)
    level = np.sqrt((1 - kept[k - 1]) / kept[k - 1])
    return level - np.sum(betas[:k] / np.sqrt((1 - kept[:k]) * kept[:k]))


@pytest.mark.parametrize("predicts", ["noise", "clean"])
@pytest.mark.parametrize(("k", "bias"), [(50, -0.93), (75, -2.30)])
def test_proposition_1_removes_a_perfect_networks_noise_more_than_once(k, bias, predicts):
    """tau^0 + (f_k - S_k) eps: the bias of Eq. 8 as printed, for the cosine schedule with N = 100."""
    np.testing.assert_allclose(closed_form_bias(k), bias, atol=0.005)
    process = DDPM(SCHEDULE, predicts)
    found = proposition_1(
        process, perfect_network(predicts), jnp.asarray(CLEAN), jnp.int32(k - 1), jnp.asarray(NOISE), FREE,
        CONDITION,
    )  # fmt: skip
    np.testing.assert_allclose(found, CLEAN + closed_form_bias(k) * NOISE, atol=2e-3)


def test_proposition_1_by_hand_of_a_network_that_is_not_perfect():
    """Evaluation by evaluation, with an entry held, of a network that answers with what it sees and is told."""
    process, k = DDPM(SCHEDULE, "noise"), 7
    held = np.zeros((HORIZON, CHANNELS), bool)
    held[0] = True
    constraint = Constraint(jnp.asarray(held), jnp.full((HORIZON, CHANNELS), 0.5))
    network = lambda rows, time: 0.3 * rows[:, :CHANNELS] + jnp.cumsum(rows[:, :CHANNELS], axis=0) * time
    found = proposition_1(
        process, network, jnp.asarray(CLEAN), jnp.int32(k - 1), jnp.asarray(NOISE), constraint, CONDITION
    )
    kept, betas = (np.asarray(array, np.float64) for array in (SCHEDULE.kept, SCHEDULE.betas))
    expected = CLEAN + np.sqrt((1 - kept[k - 1]) / kept[k - 1]) * NOISE
    for i in range(k):
        noisy = np.where(held, 0.5, np.sqrt(kept[i]) * CLEAN + np.sqrt(1 - kept[i]) * NOISE)
        time = np.log(np.sqrt((1 - kept[i]) / kept[i])) / 4
        predicted = 0.3 * noisy + np.cumsum(noisy, axis=0) * time
        expected = expected - betas[i] / np.sqrt((1 - kept[i]) * kept[i]) * predicted
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_the_noise_of_a_clean_sample_is_the_one_that_was_added():
    step = jnp.int32(30)
    noisy = SCHEDULE.noised(jnp.asarray(CLEAN), step, jnp.asarray(NOISE))
    np.testing.assert_allclose(
        noise_of(SCHEDULE, noisy, step, jnp.asarray(CLEAN)), NOISE, rtol=1e-3, atol=1e-4
    )
    assert jnp.all(noise_coefficients(SCHEDULE) > 0)


def test_every_step_of_the_chain_is_evaluated_in_one_batched_call():
    calls = []
    network = lambda rows, time: calls.append(rows.shape) or rows[:, :CHANNELS]
    jax.eval_shape(
        lambda clean: proposition_1(
            DDPM(SCHEDULE, "noise"), network, clean, jnp.int32(60), jnp.asarray(NOISE), FREE, CONDITION
        ),
        jnp.asarray(CLEAN),
    )
    assert len(calls) == 1
