"""Dual guidance: its gradient against finite differences and against algebra, and how it moves a step."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.diffusion.chain_sampler import ChainSampling
from langevin.diffusion.ddpm import cosine_schedule
from langevin.diffusion.levels import unmoved
from langevin.errors import UsageError
from langevin.planners.dual_guidance import DualGuidance
from langevin.planners.known_ends import first_state
from tests.planners.small_mechanism import ACTION, SIZE, linear_mechanism, mechanism

HORIZON, CHANNELS = 5, SIZE + ACTION
ROWS = 0.5 * np.random.default_rng(1).normal(size=(HORIZON, CHANNELS)).astype(np.float32)
GAIN = np.array([[0.3, -0.2], [0.1, 0.4], [0.7, 0.5]])
CHAIN = cosine_schedule(100)
DEVIATION, REWARDS = np.array([0.3, 0.8]), np.array([0.6, -0.4, 1.5])


@pytest.mark.parametrize(("reward", "transition"), [(1.0, 0.0), (0.0, 1.0), (1.0, 0.7)])
def test_the_gradient_is_that_of_finite_differences(reward, transition):
    guide = DualGuidance(reward_weight=reward, transition_weight=transition).guide(mechanism(), CHAIN)
    with jax.enable_x64(True):
        wide = jax.tree.map(
            lambda leaf: leaf.astype(jnp.float64) if leaf.dtype == jnp.float32 else leaf, guide
        )
        rows = jnp.asarray(ROWS, jnp.float64)
        found = np.asarray(jax.grad(wide.objective)(rows))
        shifts = 1e-5 * np.eye(ROWS.size).reshape(-1, *ROWS.shape)
        value = jax.jit(jax.vmap(wide.objective))
        expected = (value(rows + shifts) - value(rows - shifts)).reshape(ROWS.shape) / 2e-5
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert np.abs(found).max() > 0.01


def test_log_likelihoods_and_gradient_of_a_linear_gaussian_model_by_hand():
    """log T = sum -(z' - z - m - W [z, u])^2 / (2 v) - ln(2 pi v) / 2 in z-scored units: quadratic in the plan."""
    model = linear_mechanism(GAIN, DEVIATION, REWARDS)
    scales, scale = model.dynamics.scales, model.scale
    double = lambda array: np.asarray(array, np.float64)
    unit = double(scales.change.std) / double(scales.observation.std)
    drift = double(scales.change.mean) / double(scales.observation.std)
    states, actions = ROWS[:, :SIZE].astype(np.float64), ROWS[:, SIZE:].astype(np.float64)
    lowest, highest = double(model.dynamics.members.networks.lowest_log_variance[0]), 0.5
    soft = highest - np.log1p(np.exp(highest - 2 * np.log(DEVIATION)))
    soft = lowest + np.log1p(np.exp(soft - lowest))
    variance = np.exp(soft) * unit**2
    inputs = np.concatenate(
        [states, actions], axis=1
    )  # a Gaussian scale: rows are z-scored as the inputs are
    mean = states + drift + unit * (inputs @ GAIN)
    errors = states[1:] - mean[:-1]
    expected = -0.5 * (errors**2 / variance + np.log(2 * np.pi * variance)).sum(axis=1)
    np.testing.assert_allclose(model.log_likelihoods(jnp.asarray(ROWS)), expected, rtol=2e-4)

    pull = errors / variance
    gradient = np.zeros(ROWS.shape)
    gradient[1:, :SIZE] -= pull
    gradient[:-1] += pull * unit @ GAIN.T
    gradient[:-1, :SIZE] += pull
    reward_slope = REWARDS.copy()
    reward_slope[SIZE:] *= double(scale.action.std)  # the reward model sees raw actions
    guide = DualGuidance(reward_weight=2.0, transition_weight=0.3).guide(model, CHAIN)
    found = jax.grad(guide.objective)(jnp.asarray(ROWS))
    np.testing.assert_allclose(found, 2 * reward_slope + 0.3 * gradient, rtol=2e-3, atol=2e-3)


def test_a_step_is_moved_by_alpha_sigma_squared_g_and_no_further_than_its_bound():
    model = linear_mechanism(GAIN, DEVIATION, REWARDS)
    rows, variance, time = jnp.asarray(ROWS), jnp.float32(0.04), jnp.int32(3)
    elsewhere = jnp.full_like(rows, 7.0)
    free = DualGuidance(0.001, judged="noised", largest_move=1e9).guide(model, CHAIN)
    gradient = np.asarray(jax.grad(free.objective)(rows))
    np.testing.assert_allclose(
        free(rows, elsewhere, variance, time), ROWS + 0.001 * 0.04 * gradient, rtol=1e-5, atol=1e-6
    )
    bound = DualGuidance(100.0, judged="noised", largest_move=0.5).guide(model, CHAIN)
    expected = ROWS + np.clip(100 * 0.04 * gradient, -0.5 * 0.2, 0.5 * 0.2)
    np.testing.assert_allclose(bound(rows, elsewhere, variance, time), expected, rtol=1e-4, atol=1e-5)
    assert np.abs(100 * 0.04 * gradient).max() > 0.1 > np.abs(0.001 * 0.04 * gradient).max()


def test_the_clean_plan_is_judged_and_counts_by_what_is_left_of_it():
    """The step moves by abar_k alpha sigma^2 g, g the gradient at the plan behind the noise."""
    model = linear_mechanism(GAIN, DEVIATION, REWARDS)
    rows, clean, variance = jnp.asarray(ROWS) + 3.0, jnp.asarray(ROWS), jnp.float32(0.04)
    guide = DualGuidance(0.001, largest_move=1e9).guide(model, CHAIN)
    gradient = np.asarray(jax.grad(guide.objective)(clean))
    for step in (10, 60):
        move = guide(rows, clean, variance, jnp.int32(step)) - rows
        np.testing.assert_allclose(move, CHAIN.kept[step] * 0.001 * 0.04 * gradient, rtol=1e-3, atol=2e-6)


@pytest.mark.parametrize(("judged", "least", "most"), [("clean", 0.0, 0.1), ("noised", 0.9, 1.0)])
def test_a_sure_model_leaves_the_noise_of_a_lawful_plan_alone(judged, least, most):
    """A plan that obeys the model, noised to step 50. As Eq. 13 is printed its noise is taken for a breach of the law:
    at alpha = 0.001 nearly every state is moved as far as it may be. Asked of the plan behind the noise, hardly any."""
    model = linear_mechanism(GAIN, np.array([0.01, 0.01]), REWARDS)
    clean = [np.asarray(ROWS[0])]
    for actions in ROWS[1:, SIZE:]:
        after, _ = model.successors(jnp.asarray(clean[-1])[None])
        clean.append(np.concatenate([after[0], actions]))
    clean = jnp.asarray(np.stack(clean))
    step, variance = jnp.int32(50), jnp.float32(0.4)
    noised = CHAIN.noised(clean, step, jax.random.normal(jax.random.key(0), clean.shape))
    guide = DualGuidance(0.001, reward_weight=0.0, judged=judged).guide(model, CHAIN)
    moved = np.abs(guide(noised, clean, variance, step) - noised) / np.sqrt(0.4)
    at_the_bound = (moved[1:, :SIZE] > 0.999).mean()
    assert least <= at_the_bound <= most


def test_beyond_the_data_the_reward_model_has_no_say():
    guide = DualGuidance(transition_weight=0.0).guide(mechanism(), CHAIN)
    far = jnp.asarray(ROWS).at[2].set(50.0)
    gradient = jax.grad(guide.objective)(far)
    np.testing.assert_array_equal(gradient[2], 0)
    assert jnp.abs(gradient[1]).max() > 0


@pytest.mark.parametrize("off", [{"scale": 0.0}, {"reward_weight": 0.0, "transition_weight": 0.0}])
def test_what_is_off_is_not_computed(off):
    assert DualGuidance(**off).guide(mechanism(), CHAIN) is unmoved


def test_guided_plans_are_likelier_under_the_model_and_earn_more():
    """Of a model of independent unit Gaussian rows, which knows neither: E[x_0 | x_k] = sqrt(abar_k) x_k."""
    model, schedule = linear_mechanism(GAIN, np.array([2.0, 2.0]), REWARDS), cosine_schedule(30)
    constraint, _ = first_state(jnp.array([0.3, -0.6]), HORIZON, CHANNELS)
    denoise = lambda noisy, step: jnp.sqrt(schedule.kept[step]) * noisy

    @eqx.filter_jit
    def judged(guidance):
        sampler = ChainSampling(steps=30).sampler(schedule, guidance.guide(model, schedule))
        draw = lambda key: sampler.draw(denoise, constraint, key=key)
        plans = jax.vmap(draw)(jax.random.split(jax.random.key(0), 300))
        likelihood = jax.vmap(model.log_likelihoods)(plans).sum(axis=1).mean()
        return likelihood, jax.vmap(model.rewards)(plans).sum(axis=1).mean()

    likelihood, earned = judged(DualGuidance(0.0))
    likelier, _ = judged(DualGuidance(0.3, reward_weight=0.0))
    _, more = judged(DualGuidance(0.3, transition_weight=0.0))
    assert likelier > likelihood + 1.0
    assert more > earned + 0.5


@pytest.mark.parametrize("method", ["ancestral", "ddim", "dpm_solver"])
def test_a_guide_sees_the_start_where_it_is_held_and_cannot_move_it(method):
    """Of a denoiser whose word for the first row is nonsense."""
    seen = []

    def guide(mean, clean, variance, time):
        jax.debug.callback(lambda row: seen.append(np.asarray(row)), mean[0, :SIZE])
        return mean + 0.1

    start = jnp.array([0.3, -0.6])
    constraint, _ = first_state(start, HORIZON, CHANNELS)
    sampler = ChainSampling(method, 4).sampler(cosine_schedule(8), guide)
    plan = sampler.draw(lambda noisy, time: jnp.full(noisy.shape, 9.0), constraint, key=jax.random.key(0))
    jax.effects_barrier()
    assert len(seen) == 4
    np.testing.assert_allclose(seen, np.tile(start, (4, 1)))
    np.testing.assert_allclose(plan[0, :SIZE], start)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"scale": -1.0}, r"scale must be at least 0, got -1\.0"),
        ({"transition_weight": -0.1}, "transition_weight must be at least 0"),
        ({"largest_move": 0.0}, "largest_move must be greater than 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, words):
    with pytest.raises(UsageError, match=words):
        DualGuidance(**settings)
