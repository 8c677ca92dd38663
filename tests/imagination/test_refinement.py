"""What a refinement does to a rollout, with denoisers known in closed form."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.diffusion.constraints import Constraint, unconstrained
from langevin.diffusion.samplers import Sampler
from langevin.diffusion.schedules import KarrasSchedule
from langevin.errors import UsageError
from langevin.imagination.refinement import Projected, Redrawn

VARIANCES = jnp.array([1.0, 1e-4])
"""Of the data along their two directions: they lie on a line."""
KEY = jax.random.key(0)


def exact_denoiser(noisy, level):
    """E[x | x + level eps] for Gaussian data of these variances."""
    return noisy * VARIANCES / (VARIANCES + level**2)


@pytest.mark.parametrize(("noise_level", "passes"), [(0.5, 1), (0.5, 3), (2.0, 2)])
def test_a_projection_shrinks_each_direction_by_what_noise_explains_of_it(noise_level, passes):
    rollout = jnp.array([[1.0, 1.0], [-2.0, 0.3]])
    projected = Projected(noise_level, passes)(exact_denoiser, unconstrained(2, 2), rollout, key=KEY)
    share = np.asarray(VARIANCES) / (np.asarray(VARIANCES) + noise_level**2)
    np.testing.assert_allclose(projected, np.asarray(rollout) * share**passes, rtol=1e-5)


def test_little_noise_keeps_what_is_likely_and_draws_in_what_is_not():
    rollout = jnp.array([[0.8, 0.5]])
    projected = Projected(0.1, 3)(exact_denoiser, unconstrained(1, 2), rollout, key=KEY)
    assert abs(projected[0, 0] - 0.8) < 0.03, "along the line it stays"
    assert abs(projected[0, 1]) < 1e-4, "off the line it goes"


def test_held_entries_are_what_the_constraint_says_in_every_pass():
    """The denoiser averages rows, so a held row that were lost in one pass would show in the next."""
    held = jnp.array([[True], [False], [False]])
    constraint = Constraint(held, jnp.array([[3.0], [0.0], [0.0]]))
    mean = lambda noisy, level: jnp.full_like(noisy, noisy.mean())
    projected = Projected(0.5, 2)(mean, constraint, jnp.zeros((3, 1)), key=KEY)
    np.testing.assert_allclose(np.ravel(projected), [3, 5 / 3, 5 / 3], rtol=1e-6)


def test_states_drawn_from_noise_know_nothing_of_the_rollout():
    drawn = Redrawn(Sampler("ddim", KarrasSchedule(3, 10.0)))
    rollouts = jnp.array([[[0.0, 0.0]], [[5.0, -5.0]]])
    one, other = (drawn(exact_denoiser, unconstrained(1, 2), rollout, key=KEY) for rollout in rollouts)
    assert eqx.tree_equal(one, other)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"noise_level": 0.0}, "noise_level must be above 0, got 0"),
        ({"noise_level": float("nan")}, "noise_level must be above 0, got nan"),
        ({"passes": 0}, "passes must be at least 1, got 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, words):
    with pytest.raises(UsageError, match=words):
        Projected(**settings)
