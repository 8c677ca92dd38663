"""The sampler against a Gaussian, whose denoiser and probability-flow solution are known exactly."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.diffusion.constraints import Constraint, unconstrained
from langevin.diffusion.heun import Churn, heun_sample
from langevin.diffusion.schedules import KarrasSchedule
from tests.diffusion.gaussian import (
    assert_samples_have_the_datas_moments,
    exact_denoiser,
    exact_flow,
    orders,
)


@eqx.filter_jit
def draw(schedule, churn, samples, seed):
    keys = jax.random.split(jax.random.key(seed), samples)
    one = lambda key: heun_sample(exact_denoiser, unconstrained(2, 2), schedule, churn, key=key)
    return jax.vmap(one)(keys)


@pytest.mark.parametrize("churn", [0.0, 20.0])
def test_samples_have_the_mean_and_covariance_of_the_data(churn):
    samples = draw(KarrasSchedule(steps=100), Churn(amount=churn, lowest=0.01, noise_scale=1.0), 20_000, 0)
    assert_samples_have_the_datas_moments(samples, 4e-3)


def test_error_falls_at_second_order():
    highest, key = 10.0, jax.random.key(3)
    start_key, _ = jax.random.split(key)
    start = highest * np.asarray(jax.random.normal(start_key, (2, 2)))
    truth = exact_flow(start, 1.0, highest)
    steps = np.array([16, 32, 64])
    errors = []
    for count in steps:
        schedule = KarrasSchedule(steps=int(count), highest=highest, lowest=1e-3)
        end = heun_sample(exact_denoiser, unconstrained(2, 2), schedule, key=key)
        errors.append(np.linalg.norm(end - truth))
    assert np.all(orders(errors) > 1.7), (errors, orders(errors))


@pytest.mark.parametrize("churn", [0.0, 20.0])
def test_held_entries_come_back_untouched_and_the_rest_follows_them(churn):
    held = jnp.array([[True, False], [False, False]])
    values = jnp.array([[1.1, 0.0], [0.0, 0.0]])
    seen = []

    def denoiser(sample, level):
        jax.debug.callback(lambda value: seen.append(float(value)), sample[0, 0])
        return exact_denoiser(sample, level)

    schedule = KarrasSchedule(steps=6)
    sample = heun_sample(denoiser, Constraint(held, values), schedule, Churn(churn), key=jax.random.key(0))
    jax.effects_barrier()
    assert sample[0, 0] == values[0, 0]
    assert np.allclose(seen, 1.1), "churn or a step moved an entry that is held"
    assert np.all(np.isfinite(np.asarray(sample)))


def test_karras_levels_match_the_published_formula():
    levels = np.asarray(KarrasSchedule(steps=18, highest=80.0, lowest=0.002, rho=7.0).noise_levels())
    expected = [(80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(18)]
    assert np.allclose(levels[:-1], expected, rtol=1e-4)
    assert levels[-1] == 0


def test_churn_acts_only_between_its_levels_and_is_capped():
    churn = Churn(amount=60.0, lowest=0.5, highest=50.0)
    levels = jnp.array([80.0, 10.0, 0.1])
    assert np.allclose(churn.gamma(levels, 34), [0.0, 2**0.5 - 1, 0.0])
    assert np.allclose(Churn(amount=1.0).gamma(jnp.array(1.0), 34), 1 / 34)
