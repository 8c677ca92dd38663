"""What a plan is worth, and samples drawn towards more of it: where the answers are known in closed form."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.normalize import GaussianNormalizer
from langevin.diffusion.chain_sampler import ChainSampling
from langevin.diffusion.constraints import Constraint, unconstrained
from langevin.diffusion.ddpm import linear_schedule
from langevin.errors import UsageError
from langevin.nets.temporal_encoder import TemporalEncoder
from langevin.planners.plan_value import PlanValue, ValueTraining, chain_of
from langevin.planners.value_guidance import ValueGuidance
from langevin.planners.window_diffusion import Chain, Examples, WindowTraining
from tests.diffusion.gaussian import COVARIANCE, MEAN, exact_clean, exact_denoiser_of

UNIT = GaussianNormalizer(jnp.zeros(1), jnp.ones(1))
SLOPE = np.array([[0.8, -0.5], [0.3, 1.0]], np.float32)
DDPM = Chain(6).ddpm()


class Linear(TemporalEncoder):
    """In place of the network: slope . rows + 0.7 noise."""

    slope: jax.Array

    def __init__(self, slope):
        self.slope = jnp.asarray(slope)
        self.noise_embedding = self.noise_layers = self.blocks = self.shrink = self.head = None  # pyright: ignore

    def __call__(self, x, noise):
        return (self.slope * x).sum() + 0.7 * noise


def examples(count):
    """Windows of two rows and two channels, the first entry held."""
    clean = np.random.default_rng(0).normal(size=(3, 2, 2)).astype(np.float32)
    held = np.zeros((3, 2, 2), bool)
    held[:, 0, 0] = True
    rows = jnp.asarray(np.repeat(clean, count, axis=0))
    constraint = jax.vmap(Constraint)(jnp.asarray(np.repeat(held, count, axis=0)), rows)
    return clean, Examples(rows, jnp.ones(rows.shape[:2], bool), constraint, jnp.zeros((3 * count, 2, 1)))


TARGETS = np.array([0.5, -1.0, 2.0], np.float32)
KEPT = np.cumprod(1 - np.asarray(DDPM.schedule.betas, np.float64))
TIMES = np.log((1 - KEPT) / KEPT) / 8
"""What a network is told of each step: ln(noise over signal) / 4."""


def test_the_loss_of_clean_windows_and_its_gradient_are_least_squares():
    clean, batch = examples(1)
    training = ValueTraining(noised=False, width=8, multipliers=(1,))
    loss, gradient = eqx.filter_value_and_grad(training.loss)(
        Linear(SLOPE), DDPM, batch, jnp.asarray(TARGETS), key=jax.random.key(0)
    )
    errors = (SLOPE * clean).sum(axis=(1, 2)) + 0.7 * TIMES[0] - TARGETS
    np.testing.assert_allclose(loss, (errors**2).mean(), rtol=1e-5)
    np.testing.assert_allclose(gradient.slope, (2 * errors[:, None, None] * clean).mean(axis=0), rtol=1e-5)


def test_the_loss_of_noised_windows_is_its_mean_over_steps_and_noises_with_what_is_held_never_noised():
    """Of a linear value: the square error of the mean, (sqrt(abar) x, held entries whole), and the noise's variance."""
    clean, batch = examples(20_000)
    found = ValueTraining(width=8, multipliers=(1,)).loss(
        Linear(SLOPE), DDPM, batch, jnp.asarray(np.repeat(TARGETS, 20_000)), key=jax.random.key(0)
    )
    signal = np.sqrt(KEPT)[:, None, None, None] * np.ones((1, 3, 2, 2))
    signal[:, :, 0, 0] = 1
    errors = (SLOPE * signal * clean).sum(axis=(2, 3)) + 0.7 * TIMES[:, None] - TARGETS
    free = (SLOPE**2).sum() - SLOPE[0, 0] ** 2
    expected = (errors**2 + ((1 - KEPT) * free)[:, None]).mean()
    np.testing.assert_allclose(found, expected, rtol=0.02)
    all_noised = (errors**2 + ((1 - KEPT) * (SLOPE**2).sum())[:, None]).mean()
    assert abs(all_noised - expected) > 0.1 * expected, "it would show"


def test_a_finished_plan_is_judged_at_the_least_noise_and_in_reward_units_when_asked():
    value = PlanValue(Linear(SLOPE), DDPM.schedule, GaussianNormalizer(jnp.array([300.0]), jnp.array([50.0])))
    rows = jnp.ones((2, 2))
    np.testing.assert_allclose(value(rows), SLOPE.sum() + 0.7 * TIMES[0], rtol=1e-5)
    np.testing.assert_allclose(value.expected_return(rows), 300 + 50 * value(rows), rtol=1e-5)


@pytest.mark.parametrize(("time", "guided"), [(5, True), (2, True), (1, False), (0, False)])
def test_a_step_climbs_by_its_variance_but_for_the_last_ones_and_where_the_system_is(time, guided):
    """mu + 2 alpha Sigma grad J, and nothing for the first observation, which is held."""
    value = PlanValue(Linear(SLOPE), DDPM.schedule, UNIT)
    guide = ValueGuidance(scale=3.0, gradient_steps=2, unguided_steps=3).guide(value, 1)
    mean = jnp.asarray(np.random.default_rng(1).normal(size=(2, 2)), jnp.float32)
    moved = np.asarray(guide(mean, mean, jnp.float32(0.1), jnp.int32(time))) - np.asarray(mean)
    expected = guided * 2 * 3.0 * 0.1 * np.where([[True, False], [False, False]], 0, SLOPE)
    np.testing.assert_allclose(moved, expected, atol=1e-6)


CHAIN = linear_schedule(200, 1e-4, 0.08)


class Expected(PlanValue):
    """slope . E[x_0 | x_k] of the Gaussian: what a perfect value network of a linear return would say."""

    def __init__(self):
        self.network, self.schedule, self.returns = Linear(SLOPE), CHAIN, UNIT

    def at(self, rows, step):
        kept = CHAIN.kept[step]
        return (SLOPE * exact_clean(rows, jnp.sqrt(kept), jnp.sqrt(1 - kept))).sum()


@pytest.mark.parametrize("gradient_steps", [1, 2])
def test_samples_of_a_gaussian_move_by_its_covariance_times_the_values_slope(gradient_steps):
    """p(x) exp(alpha b x) is the Gaussian about m + alpha C b; two gradient steps of half the alpha are one of it."""
    guide = ValueGuidance(1 / gradient_steps, gradient_steps, unguided_steps=0).guide(Expected(), 0)
    sampler, denoiser = ChainSampling("ancestral", 200).sampler(CHAIN, guide), exact_denoiser_of(CHAIN)

    @eqx.filter_jit
    def samples(keys):
        return jax.vmap(lambda key: sampler.draw(denoiser, unconstrained(2, 2), key=key))(keys)

    found = np.asarray(samples(jax.random.split(jax.random.key(0), 20_000))).reshape(-1, 4)
    moved = MEAN.reshape(-1) + COVARIANCE @ SLOPE.reshape(-1)
    np.testing.assert_allclose(found.mean(0), moved, atol=0.02)
    assert np.abs(moved - MEAN.reshape(-1)).max() > 0.1


@pytest.mark.parametrize("method", ["ancestral", "ddim", "dpm_solver"])
def test_a_guide_sees_what_is_held_in_its_place(method):
    """A guide that copies the held 5 to another entry, of a model that says 0 of all."""
    constraint = Constraint(jnp.zeros((2, 2), bool).at[0, 0].set(True), jnp.full((2, 2), 5.0))
    copy = lambda mean, clean, variance, time: mean.at[1, 1].set(mean[0, 0])
    sampler = ChainSampling(method, 6).sampler(CHAIN, copy)
    found = sampler.draw(lambda noisy, time: jnp.zeros_like(noisy), constraint, key=jax.random.key(0))
    np.testing.assert_allclose(found, [[5, 0], [0, 5]], atol=1e-6)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ValueGuidance(scale=-1.0), "scale must be at least 0"),
        (lambda: ValueGuidance(gradient_steps=0), "gradient_steps must be at least 1, got 0"),
        (lambda: ValueTraining(discount=1.01), "discount must lie between 0 and 1"),
        (lambda: ValueTraining(width=12), "width must be a multiple of 8"),
        (lambda: chain_of(WindowTraining(process="edm")), "set planner.process to ddpm, not edm"),
    ],
)
def test_settings_that_cannot_work_are_refused(make, words):
    with pytest.raises(UsageError, match=words):
        make()
