"""What a refinement makes of a rollout, with a denoiser known in closed form."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.diffusion.constraints import Constraint, unconstrained
from langevin.diffusion.samplers import Sampler
from langevin.diffusion.schedules import KarrasSchedule
from langevin.errors import UsageError
from langevin.imagination.refinement import Refinement
from langevin.training.algorithms.registry import load_settings

VARIANCES = jnp.array([1.0, 1e-4])
"""Of the data along their two directions: they lie on a line."""
KEY = jax.random.key(0)
METHODS = ["heun", "dpm_solver", "ddim"]


def exact_denoiser(noisy, level):
    """E[x | x + level eps] for Gaussian data of these variances."""
    return noisy * VARIANCES / (VARIANCES + level**2)


@eqx.filter_jit
def renoised(rollouts, method, level, passes=1, steps=120):
    """Every rollout of one row refined, each with noise of its own."""
    refinement = Refinement(Sampler(method, KarrasSchedule(steps, level)), passes)
    one = lambda rollout, key: refinement(exact_denoiser, unconstrained(1, 2), rollout[None], key=key)[0]
    return jax.vmap(one)(rollouts, jax.random.split(KEY, len(rollouts)))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("passes", [1, 3])
def test_trajectories_of_the_data_stay_what_they_are_in_distribution(method, passes):
    data = jax.random.normal(jax.random.key(1), (4000, 2)) * jnp.sqrt(VARIANCES)
    found = np.asarray(renoised(data, method, 0.7, passes))
    np.testing.assert_allclose(found.std(axis=0), np.sqrt(VARIANCES), rtol=0.06)
    assert np.abs(found.mean(axis=0) / np.sqrt(VARIANCES)).max() < 0.08


def test_noise_smaller_than_what_a_rollout_says_keeps_it_and_draws_in_what_the_data_contradict():
    """Along the line x + 0.1 eps keeps to x / (1 + 0.1^2) in the mean; across it nothing is left of 0.5."""
    found = np.asarray(renoised(jnp.tile(jnp.array([0.8, 0.5]), (2000, 1)), "ddim", 0.1))
    kept = 0.8 / np.sqrt(1 + 0.1**2)  # the flow from level 0.1 to 0 shrinks by this factor
    np.testing.assert_allclose(found[:, 0].mean(), kept, atol=0.01)
    assert np.abs(found[:, 1]).mean() < 0.1 * 0.5


def test_every_pass_draws_a_rollout_in_farther():
    rollouts = jnp.tile(jnp.array([3.0, 0.0]), (500, 1))
    means = [float(renoised(rollouts, "ddim", 1.0, passes)[:, 0].mean()) for passes in (1, 2, 3)]
    np.testing.assert_allclose(means, [3 / 2**0.5, 3 / 2, 3 / 2**1.5], rtol=0.06)


def test_under_far_more_noise_than_the_data_spread_the_rollout_is_forgotten():
    here, there = (renoised(jnp.full((50, 2), value), "heun", 80.0) for value in (-1.0, 1.0))
    np.testing.assert_allclose(here, there, atol=0.05)


def test_states_drawn_from_noise_know_nothing_of_the_rollout():
    drawn = Refinement(Sampler("ddim", KarrasSchedule(3, 10.0)))
    rollouts = jnp.array([[[0.0, 0.0]], [[5.0, -5.0]]])
    one, other = (drawn(exact_denoiser, unconstrained(1, 2), rollout, key=KEY) for rollout in rollouts)
    assert eqx.tree_equal(one, other)


@pytest.mark.parametrize("method", METHODS)
def test_held_entries_are_what_the_constraint_says_whatever_the_rollout_says(method):
    """The denoiser answers with the mean of all rows, so that a held row that were lost would show in the others."""
    held = jnp.array([[True], [False], [False]])
    constraint = Constraint(held, jnp.array([[3.0], [0.0], [0.0]]))
    mean = lambda noisy, level: jnp.full_like(noisy, constraint.apply(noisy)[0, 0])
    found = Refinement(Sampler(method, KarrasSchedule(4, 0.5)), 2)(
        mean, constraint, jnp.zeros((3, 1)), key=KEY
    )
    np.testing.assert_allclose(np.ravel(found), [3, 3, 3], rtol=0.02)


def test_passes_that_cannot_be_made_are_refused():
    with pytest.raises(UsageError, match="passes must be at least 0, got -1"):
        Refinement(Sampler(), -1)
    with pytest.raises(UsageError, match="passes must be at least 1, got 0"):
        settings(refine_from="rollout", **{"renoised.passes": 0})
    with pytest.raises(UsageError, match="margin must be at least 0, got -1"):
        settings(refine_from="rollout", **{"renoised.margin": -1.0})


def settings(**overrides):
    return load_settings("dydiff", "td3bc", "cpu", "pointmaze/umaze-v0", overrides)


def test_the_settings_say_what_a_refinement_begins_at():
    """The noise on a rollout takes the place of the schedule's highest level; its steps stay."""
    drawn = settings().refinement()
    assert (drawn.passes, drawn.sampler.schedule) == (0, KarrasSchedule(3, 10.0))
    kept = settings(refine_from="rollout", **{"renoised.noise_level": 0.5, "renoised.passes": 2}).refinement()
    assert (kept.passes, kept.sampler.schedule) == (2, KarrasSchedule(3, 0.5))
    with pytest.raises(UsageError, match=r"0 < lowest < highest, got lowest 0\.002, highest 0\.0"):
        settings(refine_from="rollout", **{"renoised.noise_level": 0.0})
