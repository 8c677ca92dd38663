"""DDIM and DPM-Solver++ against a Gaussian, on EDM's noise levels and on a discrete chain's."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.diffusion.constraints import Constraint, unconstrained
from langevin.diffusion.ddim import ddim_sample
from langevin.diffusion.ddpm import ancestral_sample, cosine_schedule, linear_schedule
from langevin.diffusion.dpm_solver import dpm_solver_sample, weights_of_the_last_call
from langevin.diffusion.heun import Churn
from langevin.diffusion.levels import Levels, clipped
from langevin.diffusion.samplers import Sampler
from langevin.diffusion.schedules import KarrasSchedule
from langevin.errors import UsageError
from tests.diffusion.gaussian import (
    COVARIANCE,
    MEAN,
    assert_samples_have_the_datas_moments,
    exact_denoiser,
    exact_denoiser_of,
    exact_flow,
    orders,
)

FREE = unconstrained(2, 2)
CHAIN = linear_schedule(1000)
LONG_CHAIN, SHORT_CHAIN = cosine_schedule(400), cosine_schedule(60)
SAMPLERS = {"ddim": ddim_sample, "dpm_solver": dpm_solver_sample}


def edm_levels(steps):
    return KarrasSchedule(steps=steps, highest=10.0, lowest=1e-3).levels()


def first_noise(sampler, key):
    """What a sampler starts from, seen through a single step whose denoiser gives back what it is handed."""
    seen = Levels(jnp.array([1.0, 1.0]), jnp.array([1.0, 0.0]), jnp.zeros(1))
    return sampler(lambda noisy, time: noisy, FREE, seen, key=key)


@pytest.mark.parametrize("process", ["edm", "chain"])
@pytest.mark.parametrize(("name", "order"), [("ddim", 1), ("dpm_solver", 2)])
def test_the_error_falls_at_the_stated_order(name, order, process):
    sampler, key = SAMPLERS[name], jax.random.key(3)
    denoiser = exact_denoiser if process == "edm" else exact_denoiser_of(CHAIN)
    errors = []
    for steps in (16, 32, 64):
        levels = edm_levels(steps) if process == "edm" else even_in_log_noise(CHAIN, steps)
        start = levels.noise[0] * first_noise(sampler, key)
        truth = exact_flow(start, float(levels.signal[0]), float(levels.noise[0]))
        errors.append(np.linalg.norm(sampler(denoiser, FREE, levels, key=key) - truth))
    assert np.all(np.abs(orders(errors) - order) < 0.35), (errors, orders(errors))


def even_in_log_noise(schedule, steps):
    """Steps of a chain that are evenly spaced in ln(noise level), as far as whole steps can be."""
    logs = np.log(np.asarray(jax.vmap(schedule.noise_level)(jnp.arange(schedule.steps))))
    wanted = np.linspace(logs[-1], logs[0], steps)
    return schedule.levels(sorted({int(np.abs(logs - value).argmin()) for value in wanted}, reverse=True))


def test_ddim_on_a_gaussian_is_the_map_worked_out_by_hand():
    """Per principal direction of variance v, a step from (a, s) to (a', s') multiplies the deviation by
    (a a' v + s s') / (a^2 v + s^2)."""
    levels, key = SHORT_CHAIN.evenly(7), jax.random.key(1)
    signal, noise = np.asarray(levels.signal, np.float64), np.asarray(levels.noise, np.float64)
    variances, directions = np.linalg.eigh(COVARIANCE)
    start = noise[0] * np.asarray(first_noise(ddim_sample, key)).reshape(-1)
    deviation = (start - signal[0] * MEAN.reshape(-1)) @ directions
    for a, s, next_a, next_s in zip(signal[:-1], noise[:-1], signal[1:], noise[1:], strict=True):
        deviation *= (a * next_a * variances + s * next_s) / (a**2 * variances + s**2)
    found = ddim_sample(exact_denoiser_of(SHORT_CHAIN), FREE, levels, key=key)
    np.testing.assert_allclose(found.reshape(-1), MEAN.reshape(-1) + directions @ deviation, atol=2e-5)


PROCESSES = {
    "edm": (exact_denoiser, KarrasSchedule(steps=400).levels()),
    "chain": (exact_denoiser_of(LONG_CHAIN), LONG_CHAIN.levels()),
}


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("process", PROCESSES)
def test_samples_have_the_mean_and_covariance_of_the_data(name, process):
    denoiser, levels = PROCESSES[process]

    @jax.jit
    def draw(key):
        one = lambda key: SAMPLERS[name](denoiser, FREE, levels, key=key)
        return jax.vmap(one)(jax.random.split(key, 20_000))

    assert_samples_have_the_datas_moments(draw(jax.random.key(0)), 6e-3)


def test_ddim_with_all_the_noise_is_the_ancestral_chain():
    """The same distribution from two programs: one by DDIM's Eqs. 12 and 16, one by DDPM's Eqs. 6 and 7. The chain is
    so short that both are far from the data, which a deterministic DDIM of the same steps shows."""
    schedule = linear_schedule(6, 0.2, 0.7)
    denoiser = exact_denoiser_of(schedule)

    @eqx.filter_jit
    def moments(sample):
        samples = jax.vmap(lambda key: sample(key))(jax.random.split(jax.random.key(0), 60_000))
        flat = samples.reshape(-1, 4)
        return flat.mean(0), jnp.cov(flat.T)

    def noise_of(noisy, step):
        kept = schedule.kept[step]
        return (noisy - jnp.sqrt(kept) * denoiser(noisy, step)) / jnp.sqrt(1 - kept)

    chain = moments(lambda key: ancestral_sample(noise_of, schedule, (2, 2), key=key))
    noisy = moments(lambda key: ddim_sample(denoiser, FREE, schedule.levels(), 1.0, key=key))
    for found, expected in zip(noisy, chain, strict=True):
        np.testing.assert_allclose(found, expected, atol=0.006)
    still = moments(lambda key: ddim_sample(denoiser, FREE, schedule.levels(), key=key))
    assert np.abs(still[1] - chain[1]).max() > 0.012


@pytest.mark.parametrize("name", SAMPLERS)
def test_held_entries_come_back_untouched_and_the_denoiser_sees_them_clean(name):
    constraint = Constraint(jnp.array([[True, False], [False, False]]), jnp.array([[1.1, 0.0], [0.0, 0.0]]))
    seen = []

    def denoiser(noisy, step):
        jax.debug.callback(lambda value: seen.append(float(value)), noisy[0, 0])
        return exact_denoiser_of(SHORT_CHAIN)(noisy, step)

    settings = (0.7,) if name == "ddim" else ()
    sample = SAMPLERS[name](denoiser, constraint, SHORT_CHAIN.evenly(5), *settings, key=jax.random.key(0))
    jax.effects_barrier()
    assert np.allclose(seen, 1.1)
    assert len(seen) == 5
    assert sample[0, 0] == np.float32(1.1)


def test_the_last_call_weighs_as_the_steps_lengths_say():
    """Noise levels 8, 4, 1, 1/2, 0: steps in lambda of ln 2, ln 4, ln 2, infinity."""
    levels = Levels(jnp.ones(5), jnp.array([8.0, 4.0, 1.0, 0.5, 0.0]), jnp.zeros(4))
    np.testing.assert_allclose(weights_of_the_last_call(levels), [0, 1, 0.25, 0], rtol=1e-6)


def test_one_step_gives_what_the_denoiser_says_at_the_highest_noise():
    levels = KarrasSchedule(steps=1, highest=10.0).levels()
    for sampler in SAMPLERS.values():
        found = sampler(lambda noisy, level: jnp.full((2, 2), level), FREE, levels, key=jax.random.key(0))
        np.testing.assert_allclose(found, 10.0, rtol=1e-5)


def test_a_clipped_denoiser_keeps_its_limit():
    found = clipped(lambda noisy, time: 9 * noisy, 1.0)(jnp.array([[0.05, 2.0], [-3.0, 0.0]]), jnp.float32(0))
    np.testing.assert_allclose(found, [[0.45, 1.0], [-1.0, 0.0]], rtol=1e-6)


@pytest.mark.parametrize(
    ("method", "steps", "calls"), [("heun", 8, 15), ("dpm_solver", 8, 8), ("ddim", 1, 1)]
)
def test_a_sampler_makes_as_many_calls_as_it_says(method, steps, calls):
    """And reaches the same end as the others do, on a Gaussian."""
    seen = []

    def denoiser(noisy, level):
        jax.debug.callback(lambda: seen.append(1))
        return exact_denoiser(noisy, level)

    sampler = Sampler(method, KarrasSchedule(steps=steps, highest=10.0))
    sampler.draw(denoiser, FREE, key=jax.random.key(0))
    jax.effects_barrier()
    assert len(seen) == sampler.calls == calls


def test_every_method_reaches_the_end_of_the_exact_flow():
    for method in ("heun", "dpm_solver", "ddim"):
        key, steps = jax.random.key(5), 200
        levels = KarrasSchedule(steps=steps, highest=10.0).levels()
        start_key = key if method == "dpm_solver" else jax.random.split(key)[0]
        start = 10.0 * jax.random.normal(start_key, (2, 2))
        found = Sampler(method, KarrasSchedule(steps=steps, highest=10.0)).draw(exact_denoiser, FREE, key=key)
        np.testing.assert_allclose(found, exact_flow(start, 1.0, float(levels.noise[0])), atol=0.02)


def test_churn_goes_with_heun_alone():
    with pytest.raises(UsageError, match=r"churn.amount must be 0 with sampler 'ddim', .* got 60"):
        Sampler("ddim", churn=Churn(60.0))
