"""Guidance by a policy against Gaussians, where what it should draw is known in closed form."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.diffusion.constraints import Constraint, unconstrained
from langevin.diffusion.edm import EDM
from langevin.diffusion.heun import Churn, heun_sample
from langevin.diffusion.policy_guidance import policy_guided
from langevin.diffusion.schedules import KarrasSchedule

STD, SLOPE = 0.2, 0.7  # p(a | s) = N(SLOPE s, STD^2), and s ~ N(0, STD^2)
GAIN, OFFSET = -0.5, 0.15  # the policy: N(GAIN s + OFFSET, spread^2)
ROW = EDM(sigma_data=STD)
ACTION = slice(1, 2)
COVARIANCE = STD**2 * np.array([[1, SLOPE], [SLOPE, SLOPE**2 + 1]])


def policy_density(spread):
    def log_density(rows, actions):
        return -0.5 * jnp.square((actions - GAIN * rows[:, :1] - OFFSET) / spread).sum(-1)

    return log_density


def given_state(sample, level):
    """E[a | noisy a, s] in rows [s, a] whose state is known."""
    prior = SLOPE * sample[:, :1]
    action = prior + STD**2 / (STD**2 + level**2) * (sample[:, 1:] - prior)
    return sample.at[:, 1:].set(action)


def of_both(sample, level):
    """E[s, a | noisy s, noisy a]."""
    return sample @ (COVARIANCE @ jnp.linalg.inv(COVARIANCE + level**2 * jnp.eye(2))).T


@eqx.filter_jit
def actions_given(states, strength, spread, seed, churn=0.0, steps=64):
    denoiser = policy_guided(given_state, ROW, policy_density(spread), ACTION, strength)
    schedule = KarrasSchedule(steps=steps, highest=10.0)
    churn = Churn(churn, lowest=0.01, noise_scale=1.0)

    def one(state, key):
        held = Constraint(jnp.array([[True, False]]), jnp.stack([state, 0.0])[None])
        return heun_sample(denoiser, held, schedule, churn, key=key)[0, 1]

    return jax.vmap(one)(states, jax.random.split(jax.random.key(seed), states.size))


def product(state, strength, spread):
    """Mean and variance of p(a | s) pi(a | s)^lambda."""
    precision = 1 / STD**2 + strength / spread**2
    mean = (SLOPE * state / STD**2 + strength * (GAIN * state + OFFSET) / spread**2) / precision
    return mean, 1 / precision


@pytest.mark.parametrize(
    ("strength", "spread", "churn"), [(0.0, 0.1, 0.0), (0.5, 0.2, 0.0), (1.0, 0.05, 20.0), (4.0, 0.1, 0.0)]
)
def test_in_a_known_state_the_actions_are_the_product_of_model_and_policy(strength, spread, churn):
    count = 4_000
    for state in (0.3, -0.2):
        found = np.asarray(actions_given(jnp.full(count, state), strength, spread, 0, churn))
        mean, variance = product(state, strength, spread)
        assert abs(found.mean() - mean) < 5 * np.sqrt(variance / count) + 2e-3
        assert np.isclose(found.std(), np.sqrt(variance), rtol=0.06)


def test_states_of_the_data_and_guided_actions_have_the_products_joint_covariance():
    """s ~ p(s), a ~ p(a | s) pi(a | s)^lambda: the joint Gaussian, worked out by hand."""
    strength, spread = 1.0, 0.15
    states = STD * np.random.default_rng(0).normal(size=8_000).astype(np.float32)
    actions = np.asarray(actions_given(jnp.asarray(states), strength, spread, 1))
    slope = product(1.0, strength, spread)[0] - product(0.0, strength, spread)[0]
    variance = product(0.0, strength, spread)[1]
    expected = np.array([[STD**2, slope * STD**2], [slope * STD**2, slope**2 * STD**2 + variance]])
    np.testing.assert_allclose(np.cov(states, actions), expected, atol=1.5e-3)


@eqx.filter_jit
def rows_of_both(strength, spread, seed):
    denoiser = policy_guided(of_both, ROW, policy_density(spread), ACTION, strength)
    draw = lambda key: heun_sample(
        denoiser, unconstrained(1, 2), KarrasSchedule(steps=64, highest=10.0), key=key
    )[0]
    return jax.vmap(draw)(jax.random.split(jax.random.key(seed), 4_000))


def test_where_the_state_is_drawn_too_it_goes_with_the_action_and_the_more_the_stronger():
    rows = {strength: np.asarray(rows_of_both(strength, 0.2, 0)) for strength in (0.0, 0.5, 2.0)}
    np.testing.assert_allclose(np.cov(rows[0.0].T), COVARIANCE, atol=4e-3)
    away = [np.square(row[:, 1] - GAIN * row[:, 0] - OFFSET).mean() for row in rows.values()]
    assert away[0] > 1.5 * away[1] > 1.5 * 1.5 * away[2]
    assert rows[2.0][:, 0].mean() > rows[0.0][:, 0].mean() + 0.02, "p ties higher actions to higher states"


def test_a_narrow_policy_is_obeyed_and_never_overshot():
    """The plain form, D + lambda v g, would step 1 / 0.01^2 x 0.2^2 = 400 times too far at high noise."""
    found = np.asarray(actions_given(jnp.full(64, 0.3), 1.0, 0.01, 2, steps=8))
    assert np.abs(found - (GAIN * 0.3 + OFFSET)).max() < 0.05


def test_a_density_that_is_not_concave_pushes_uphill_and_stays_within_the_data():
    """A valley: away from its bottom, as far as the data go."""
    valley = lambda rows, actions: 50 * jnp.square(actions - 0.05).sum(-1)
    denoiser = policy_guided(given_state, ROW, valley, ACTION, 10.0)
    rows = jnp.array([[0.0, 0.0], [0.0, 1.0]])
    clean = given_state(rows, 5.0)
    guided = np.asarray(denoiser(rows, jnp.float32(5.0)))
    assert guided[0, 1] < clean[0, 1]
    assert np.all(np.abs(guided) <= 1)
    np.testing.assert_array_equal(guided[:, 0], clean[:, 0])


def test_guidance_fades_with_the_noise():
    """v = c_out^2 goes to zero: at the end the sample is what it is."""
    rows = jnp.array([[0.1, 0.3]])
    moved = [
        float(
            (
                policy_guided(of_both, ROW, policy_density(0.2), ACTION, 1.0)(rows, jnp.float32(level))
                - of_both(rows, jnp.float32(level))
            )[0, 1]
        )
        for level in (1.0, 0.1, 0.001)
    ]
    assert abs(moved[0]) > abs(moved[1]) > abs(moved[2])
    assert abs(moved[2]) < 1e-4
