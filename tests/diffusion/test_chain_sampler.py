"""Samplers of a chain that are guided, cooled, or begin at a guess: on Gaussians, whose answers are known."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.diffusion.chain_sampler import ChainSampling
from langevin.diffusion.constraints import unconstrained
from langevin.diffusion.ddpm import cosine_schedule, linear_schedule
from langevin.diffusion.levels import InTurn, Levels
from langevin.errors import UsageError
from tests.diffusion.gaussian import COVARIANCE, MEAN, exact_clean, exact_denoiser_of, exact_flow

CHAIN = linear_schedule(200, 1e-4, 0.08)
FREE = unconstrained(2, 2)
METHODS = ("ancestral", "ddim", "dpm_solver")


def draw(sampling, count=20_000, guide=None, guess=None, schedule=CHAIN):
    denoiser = exact_denoiser_of(schedule)
    sampler = sampling.sampler(schedule, guide) if guide else sampling.sampler(schedule)

    @eqx.filter_jit
    def samples(keys):
        return jax.vmap(lambda key: sampler.draw(denoiser, FREE, guess=guess, key=key))(keys)

    return np.asarray(samples(jax.random.split(jax.random.key(0), count))).reshape(count, 4)


def exact_guide(reward):
    """Of a linear reward, at every level."""

    def guide(mean, clean, variance, step):
        kept = CHAIN.kept[step]
        expected = lambda noisy: (reward * exact_clean(noisy, jnp.sqrt(kept), jnp.sqrt(1 - kept))).sum()
        return mean + variance * jax.grad(expected)(mean)

    return guide


def test_a_linear_reward_guides_samples_to_the_mean_moved_by_the_covariance():
    """p(x) exp(b x) of a Gaussian is the one of mean m + C b, its covariance the same. At every level the exact
    guide of a linear reward is the gradient of b E[x_0 | x_t], times the ancestral variance of the step."""
    reward = jnp.array([[0.8, -0.5], [0.3, 1.0]])

    moved = MEAN.reshape(-1) + COVARIANCE @ np.asarray(reward).reshape(-1)
    found = draw(ChainSampling("ancestral", 200), guide=exact_guide(reward))
    np.testing.assert_allclose(found.mean(0), moved, atol=0.02)
    free = draw(ChainSampling("ancestral", 200))
    np.testing.assert_allclose(np.cov(found.T), np.cov(free.T), atol=1e-4)


def test_guides_in_turn_each_move_what_the_one_before_has_moved():
    """Rewards b and c add up: guided by one after the other, samples come to where b + c leads."""
    first, second = jnp.array([[0.8, -0.5], [0.0, 0.0]]), jnp.array([[0.0, 0.0], [0.3, 1.0]])
    both = draw(ChainSampling("ancestral", 200), guide=InTurn((exact_guide(first), exact_guide(second))))
    moved = MEAN.reshape(-1) + COVARIANCE @ np.asarray(first + second).reshape(-1)
    np.testing.assert_allclose(both.mean(0), moved, atol=0.02)
    doubled = InTurn((lambda mean, *_: mean + 1, lambda mean, *_: 2 * mean))
    np.testing.assert_array_equal(
        doubled(jnp.ones((2, 2)), jnp.ones((2, 2)), jnp.float32(1), jnp.int32(0)), 4.0
    )


def test_the_variance_of_a_step_is_that_of_the_ancestral_chain():
    levels = CHAIN.levels()
    kept = np.asarray(CHAIN.kept, np.float64)[::-1]
    before = np.append(kept[1:], 1.0)
    expected = (1 - kept / before) * (1 - before) / (1 - kept)  # beta_k (1 - abar_{k-1}) / (1 - abar_k)
    np.testing.assert_allclose(levels.variances, expected, rtol=2e-3, atol=1e-7)
    assert levels.arrivals.tolist() == [*range(198, -1, -1), 0]


@pytest.mark.parametrize("method", METHODS)
def test_a_guess_is_noised_to_where_the_last_steps_begin_and_drawn_anew(method):
    """From level (a, s) of a guess g the chain goes to the data given what is seen of it, whose mean is E[x_0 | a g],
    and the flow takes a g to where the flow goes: both are linear, so noise about a g does not matter."""
    guess, sampling = jnp.array([[0.9, 0.4], [-0.6, 0.1]]), ChainSampling(method, 200, renewed_steps=40)
    found = draw(sampling, guess=guess)
    kept = float(CHAIN.kept[39])
    ending = exact_clean if method == "ancestral" else exact_flow
    expected = ending(np.sqrt(kept) * guess, np.sqrt(kept), np.sqrt(1 - kept))
    np.testing.assert_allclose(found.mean(0), np.asarray(expected).reshape(-1), atol=0.02)
    assert np.abs(found.mean(0) - MEAN.reshape(-1)).max() > 0.2, "it remembers the guess"


@pytest.mark.parametrize("method", METHODS)
def test_colder_samples_keep_closer_to_the_mean(method):
    """Noise and what becomes of it are linear in the temperature: half of it is a quarter of the covariance."""
    warm, cold = (draw(ChainSampling(method, 30, temperature), 4000) for temperature in (1.0, 0.5))
    np.testing.assert_allclose(np.cov(cold.T), np.cov(warm.T) / 4, atol=1e-4)


def test_last_keeps_the_end_of_the_way():
    levels = Levels(jnp.arange(5.0), jnp.arange(5.0, 10.0), jnp.arange(4))
    last = levels.last(2)
    assert (last.signal.tolist(), last.noise.tolist(), last.times.tolist()) == ([2, 3, 4], [7, 8, 9], [2, 3])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"temperature": -0.1}, "temperature must be at least 0"),
        ({"steps": 5, "renewed_steps": 6}, r"renewed_steps must be at most steps \(5\).*got 6"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, words):
    with pytest.raises(UsageError, match=words):
        ChainSampling(**settings)


def test_no_more_steps_than_the_chain_has():
    with pytest.raises(UsageError, match="steps must lie between 1 and 10, got 11"):
        ChainSampling("ddim", 11).sampler(cosine_schedule(10))
