"""DDPM on Gaussians: the forward process, its posterior and the sampler against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.diffusion.ddpm import (
    DiscreteSchedule,
    ancestral_sample,
    cosine_schedule,
    linear_schedule,
    vp_schedule,
)
from langevin.errors import UsageError


def test_noising_keeps_the_variance_of_standard_data():
    schedule = vp_schedule(10)
    clean, noise = jax.random.normal(jax.random.key(0), (2, 100_000))
    for step in range(10):
        assert float(schedule.noised(clean, jnp.int32(step), noise).var()) == pytest.approx(1, abs=0.02)


def test_the_clean_value_is_recovered_from_the_noise():
    schedule = vp_schedule(7)
    clean, noise = jnp.array([0.3, -1.2]), jnp.array([1.0, 0.4])
    for step in map(jnp.int32, range(7)):
        noisy = schedule.noised(clean, step, noise)
        np.testing.assert_allclose(schedule.clean_of(noisy, step, noise), clean, atol=2e-5)


def test_the_posterior_is_bayes_rule():
    """p(x_{k-1} | x_k, x_0) by multiplying the two Gaussians it is made of."""
    schedule = DiscreteSchedule(jnp.array([0.1, 0.3, 0.6]))
    clean, noisy = 0.7, -0.4
    for step in (1, 2):
        beta, kept_before = float(schedule.betas[step]), float(schedule.kept[step - 1])
        precision = (1 - beta) / beta + 1 / (1 - kept_before)
        mean = (
            np.sqrt(1 - beta) * noisy / beta + np.sqrt(kept_before) * clean / (1 - kept_before)
        ) / precision
        found, std = schedule.posterior(jnp.array(clean), jnp.array(noisy), jnp.int32(step))
        assert float(found) == pytest.approx(mean, rel=1e-5)
        assert float(std) == pytest.approx(precision**-0.5, rel=1e-5)


def test_the_last_step_gives_the_clean_value_itself():
    mean, std = vp_schedule(5).posterior(jnp.array(0.7), jnp.array(-3.0), jnp.int32(0))
    assert float(mean) == pytest.approx(0.7, rel=1e-5)
    assert float(std) == 0


def test_a_limit_holds_the_predicted_value():
    samples = ancestral_sample(lambda noisy, step: -50 * jnp.ones_like(noisy), vp_schedule(3), (50,), limit=1.0,
                               key=jax.random.key(0))  # fmt: skip
    assert float(jnp.abs(samples).max()) <= 1


def test_levels_are_those_of_the_chosen_steps():
    schedule = DiscreteSchedule(jnp.array([0.1, 0.3, 0.6, 0.9]))
    levels = schedule.levels([3, 1])
    kept = np.array([0.9 * 0.7 * 0.4 * 0.1, 0.9 * 0.7])
    np.testing.assert_allclose(levels.signal, [*np.sqrt(kept), 1], rtol=1e-5)
    np.testing.assert_allclose(levels.noise, [*np.sqrt(1 - kept), 0], rtol=1e-5)
    assert levels.times.tolist() == [3, 1]
    assert schedule.levels().times.tolist() == [3, 2, 1, 0]
    assert [schedule.evenly(count).times.tolist() for count in (1, 2, 3)] == [[3], [3, 0], [3, 2, 0]]
    np.testing.assert_allclose(schedule.noise_level(jnp.int32(1)), np.sqrt(0.37 / 0.63), rtol=1e-5)


@pytest.mark.parametrize("chosen", [[], [4, 1], [3, 3], [1, 2], [2, -1]])
def test_steps_that_do_not_fall_or_do_not_exist_are_refused(chosen):
    with pytest.raises(UsageError, match="steps to stop at must fall, from 3 at most to 0 at least"):
        vp_schedule(4).levels(chosen)
    with pytest.raises(UsageError, match="count must lie between 1 and 4, got 5"):
        vp_schedule(4).evenly(5)


def test_the_linear_schedule_leaves_what_its_paper_says():
    """Ho et al. 2020, Section 4: L_T = D_KL(q(x_T | x_0) || N(0, I)) is about 1e-5 bits a dimension."""
    kept = float(linear_schedule(1000).kept[-1])
    assert kept == pytest.approx(4.04e-5, rel=0.01)


def test_the_cosine_schedule_keeps_half_the_data_half_way():
    """Without offset alpha_bar is cos(t pi / 2)^2 at every step but the last, whose rate is bounded."""
    schedule = cosine_schedule(100, offset=0.0)
    np.testing.assert_allclose(
        schedule.kept[:99], np.cos(np.arange(1, 100) / 100 * np.pi / 2) ** 2, rtol=1e-3
    )
    assert float(schedule.kept[49]) == pytest.approx(0.5, rel=1e-3)
    assert float(schedule.betas[-1]) == pytest.approx(0.999)


def test_the_offset_adds_noise_to_the_first_step():
    assert float(cosine_schedule(10, offset=1e-4).betas[0]) < float(cosine_schedule(10, offset=0.05).betas[0])


@pytest.mark.parametrize("schedule", [vp_schedule, linear_schedule, cosine_schedule])
def test_a_schedule_needs_a_step(schedule):
    with pytest.raises(UsageError, match="steps must be at least 1"):
        schedule(0)
