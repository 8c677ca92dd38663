"""A DDPM's two forms of prediction: one x_0, a loss of each against NumPy, and guidance of either."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.diffusion.constraints import Constraint, mean_of_counted, unconstrained
from langevin.diffusion.ddim import ddim_sample
from langevin.diffusion.ddpm import cosine_schedule, linear_schedule
from langevin.diffusion.guidance import guided_denoiser, guided_noise, with_presence
from langevin.diffusion.prediction import DDPM
from tests.diffusion.gaussian import exact_denoiser_of

HORIZON, CHANNELS = 4, 3
SCHEDULE = cosine_schedule(20)
NOTHING = jnp.zeros((HORIZON, 0))


def kept_at(time):
    """alpha_bar of what a network is told, ln(noise / signal) / 4."""
    return 1 / (1 + jnp.exp(8 * time))


def clean_network(x, time):
    """Some guess at x_0."""
    return jnp.tanh(x[:, :CHANNELS]) * (0.5 + time)


def noise_network(x, time):
    """The noise that goes with that guess."""
    kept = kept_at(time)
    return (x[:, :CHANNELS] - jnp.sqrt(kept) * clean_network(x, time)) / jnp.sqrt(1 - kept)


FORMS = {"noise": noise_network, "clean": clean_network}


def test_both_forms_see_the_same_clean_sample():
    noisy = jax.random.normal(jax.random.key(0), (HORIZON, CHANNELS))
    for step in map(jnp.int32, range(SCHEDULE.steps)):
        time = jnp.log((1 - SCHEDULE.kept[step]) / SCHEDULE.kept[step]) / 8
        expected = clean_network(noisy, time)
        for form, network in FORMS.items():
            found = DDPM(SCHEDULE, form).denoise(network, noisy, step, NOTHING)
            np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)


def test_both_forms_draw_the_same_samples():
    """Of Gaussian data, with the exact network in each form."""
    schedule = linear_schedule(30, 1e-3, 0.3)
    exact = exact_denoiser_of(schedule)

    def step_of(time):
        return jnp.abs(schedule.kept - kept_at(time)).argmin()

    def clean(x, time):
        return exact(x, step_of(time))

    def noise(x, time):
        kept = schedule.kept[step_of(time)]
        return (x - jnp.sqrt(kept) * clean(x, time)) / jnp.sqrt(1 - kept)

    nothing = jnp.zeros((2, 0))
    samples = [
        ddim_sample(
            guided_denoiser(DDPM(schedule, form), lambda x, time, n=network: n(x[:, :2], time), nothing, 1.0),
            unconstrained(2, 2), schedule.levels(), 1.0, key=jax.random.key(0),
        )
        for form, network in {"noise": noise, "clean": clean}.items()
    ]  # fmt: skip
    np.testing.assert_allclose(samples[0], samples[1], atol=1e-3)


def example(seed=3):
    rng = np.random.default_rng(seed)
    clean = rng.normal(size=(2, HORIZON, CHANNELS)).astype(np.float32)
    held = np.zeros((2, HORIZON, CHANNELS), bool)
    held[:, 0, :2] = True
    valid = np.ones((2, HORIZON), bool)
    valid[1, 3:] = False
    return clean, held, valid


def loss(form, network, clean, held, valid, weights=1.0, key=7):
    """The weighted mean over what counts of two windows, as planners take it."""
    clean, held = jnp.asarray(clean), jnp.asarray(held)

    def errors_of(clean, held, key):
        return DDPM(SCHEDULE, form).square_error(network, clean, Constraint(held, clean), NOTHING, key=key)

    errors = jax.vmap(errors_of)(clean, held, jax.random.split(jax.random.key(key), 2))
    return mean_of_counted(weights * errors, jnp.asarray(valid)[:, :, None] & ~held)


@pytest.mark.parametrize("form", FORMS)
def test_the_loss_is_the_mean_error_of_what_is_predicted(form):
    """In NumPy: held entries clean in the noisy input, held and padded entries in neither sum nor count."""
    clean, held, valid = example()
    weights = np.ones((HORIZON, CHANNELS), np.float32)
    weights[0, 2] = 10.0
    kept = np.cumprod(1 - np.asarray(SCHEDULE.betas, np.float64))
    total, count = 0.0, 0
    for window, key in enumerate(jax.random.split(jax.random.key(7), 2)):
        step_key, noise_key = jax.random.split(key)
        step = int(jax.random.randint(step_key, (), 0, SCHEDULE.steps))
        noise = np.asarray(jax.random.normal(noise_key, clean[0].shape))
        signal, spread = np.sqrt(kept[step]), np.sqrt(1 - kept[step])
        noisy = np.where(held[window], clean[window], signal * clean[window] + spread * noise)
        guess = np.tanh(noisy) * (0.5 + np.log(spread / signal) / 4)
        error = guess - clean[window] if form == "clean" else (noisy - signal * guess) / spread - noise
        counted = valid[window][:, None] & ~held[window]
        total += (weights * error**2)[counted].sum()
        count += counted.sum()
    found = loss(form, FORMS[form], clean, held, valid, jnp.asarray(weights))
    np.testing.assert_allclose(found, total / count, rtol=1e-3)


@pytest.mark.parametrize("form", FORMS)
def test_padded_and_held_entries_never_enter_the_gradient(form):
    clean, held, valid = example()
    output = jnp.asarray(np.random.default_rng(2).normal(size=(HORIZON, CHANNELS)), jnp.float32)
    gradient = jax.grad(lambda out: loss(form, lambda x, time: out, clean, held, valid))(output)
    assert np.all((np.asarray(gradient) != 0) == (valid[:, :, None] & ~held).any(axis=0))
    spoiled = clean.copy()
    spoiled[1, 3] = 1e3
    constant = lambda x, time: output
    assert loss(form, constant, clean, held, valid) == loss(form, constant, spoiled, held, valid)


def test_guidance_adds_the_condition_and_takes_the_prior_away():
    """(1 + w) eps(c) - w eps(null): at w = 0 it is the conditional model, and the prior counts negatively above."""
    told, untold = jnp.array([2.0, -1.0]), jnp.array([0.5, 3.0])
    np.testing.assert_array_equal(guided_noise(told, untold, 0.0), told)
    np.testing.assert_array_equal(guided_noise(told, untold, -1.0), untold)
    np.testing.assert_allclose(guided_noise(told, untold, 0.9), [1.9 * 2 - 0.9 * 0.5, -1.9 - 2.7], rtol=1e-6)
    slope = jax.grad(lambda untold: guided_noise(told, untold, 0.9).sum())(untold)
    np.testing.assert_allclose(slope, -0.9, rtol=1e-6)


@pytest.mark.parametrize("weight", [0.0, 1.2, -1.0])
def test_guiding_the_noise_is_guiding_the_clean_sample(weight):
    """What guided_denoiser gives for a network that predicts noise is the x_0 of the guided noise."""

    def network(x, time):
        told, flag = x[:, CHANNELS : CHANNELS + 1], x[:, CHANNELS + 1 :]
        return x[:, :CHANNELS] * 0.3 + jnp.where(flag > 0, told, -1.0)

    ddpm, step, condition = DDPM(SCHEDULE, "noise"), jnp.int32(8), jnp.full((HORIZON, 1), 2.0)
    noisy = jax.random.normal(jax.random.key(1), (HORIZON, CHANNELS))
    told, untold = (
        ddpm.output(network, noisy, step, with_presence(condition, present)) for present in (True, False)
    )
    expected = SCHEDULE.clean_of(noisy, step, guided_noise(told, untold, weight))
    found = guided_denoiser(ddpm, network, condition, 1 + weight)(noisy, step)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
