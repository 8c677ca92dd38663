"""EDM's loss and denoiser against closed forms; masks and held entries kept out of the loss."""

import jax
import jax.numpy as jnp
import numpy as np

from langevin.diffusion.constraints import Constraint, unconstrained
from langevin.diffusion.edm import EDM, edm_loss
from langevin.diffusion.guidance import guided_denoiser, with_presence

HORIZON, CHANNELS = 4, 3


def zero_network(x, noise):
    return jnp.zeros((HORIZON, CHANNELS))


def linear_network(x, noise):
    return x[:, :CHANNELS] * 0.7 + 0.1 * noise


def test_a_network_of_zeros_denoises_to_the_skip_connection():
    noisy = jax.random.normal(jax.random.key(0), (HORIZON, CHANNELS))
    denoised = EDM().denoise(zero_network, noisy, jnp.float32(2.0), jnp.zeros((HORIZON, 0)))
    assert np.allclose(denoised, noisy * 0.25 / (4 + 0.25), atol=1e-6)


def test_denoiser_equals_equation_seven_by_hand():
    noisy, sigma = np.random.default_rng(0).normal(size=(HORIZON, CHANNELS)).astype(np.float32), 0.8
    c_skip, c_out = 0.25 / (sigma**2 + 0.25), sigma * 0.5 / np.sqrt(sigma**2 + 0.25)
    c_in, c_noise = 1 / np.sqrt(sigma**2 + 0.25), np.log(sigma) / 4
    expected = c_skip * noisy + c_out * (0.7 * c_in * noisy + 0.1 * c_noise)
    got = EDM().denoise(linear_network, jnp.asarray(noisy), jnp.float32(sigma), jnp.zeros((HORIZON, 0)))
    assert np.allclose(got, expected, atol=1e-5)


def test_conditions_reach_the_network_at_data_scale_whatever_the_noise():
    def reads_condition(x, noise):
        return jnp.broadcast_to(x[:, CHANNELS:], (HORIZON, CHANNELS))

    condition = jnp.full((HORIZON, 1), 0.9)
    for sigma in (0.01, 80.0):
        c_out = sigma * 0.5 / np.sqrt(sigma**2 + 0.25)
        denoised = EDM().denoise(
            reads_condition, jnp.zeros((HORIZON, CHANNELS)), jnp.float32(sigma), condition
        )
        assert np.allclose(denoised, c_out * 0.9, rtol=1e-4)


def batch_of(clean, held):
    constraint = Constraint(jnp.asarray(held), jnp.asarray(clean))
    return jax.tree.map(lambda leaf: leaf[None], constraint)


def test_padded_and_held_entries_never_enter_the_loss_or_its_gradient():
    """Whatever stands in a padded row, and whatever the network says of padded or held entries: same loss."""
    clean = np.random.default_rng(1).normal(size=(HORIZON, CHANNELS)).astype(np.float32)
    held = np.zeros((HORIZON, CHANNELS), bool)
    held[0, :2] = True
    valid = jnp.array([[True, True, True, False]])
    counted = np.asarray(valid)[0][:, None] & ~held

    def loss(output, clean):
        constraints = batch_of(clean, held)
        no_conditions = jnp.zeros((1, HORIZON, 0))
        network = lambda x, noise: output
        return edm_loss(EDM(), network, clean[None], valid, constraints, no_conditions, key=jax.random.key(5))

    output = jnp.asarray(np.random.default_rng(2).normal(size=(HORIZON, CHANNELS)), jnp.float32)
    gradient = jax.grad(loss)(output, jnp.asarray(clean))
    assert np.all((np.asarray(gradient) != 0) == counted)
    spoiled = clean.copy()
    spoiled[3] = 1e3
    assert loss(output, jnp.asarray(clean)) == loss(output, jnp.asarray(spoiled))


def test_loss_is_the_mean_over_counted_entries_of_the_weighted_error():
    clean = np.random.default_rng(3).normal(size=(HORIZON, CHANNELS)).astype(np.float32)
    held = np.zeros((HORIZON, CHANNELS), bool)
    held[:, 2] = True
    valid = jnp.array([[True, True, False, False]])
    edm, key = EDM(), jax.random.key(7)
    level_key, noise_key = jax.random.split(jax.random.split(key, 1)[0])
    sigma = np.exp(-1.2 + 1.2 * float(jax.random.normal(level_key)))
    noisy = clean + sigma * np.asarray(jax.random.normal(noise_key, clean.shape))
    noisy[held] = clean[held]
    denoised = noisy * 0.25 / (sigma**2 + 0.25)
    weight = (sigma**2 + 0.25) / (sigma * 0.5) ** 2
    expected = weight * ((denoised - clean)[:2, :2] ** 2).sum() / 4
    got = edm_loss(
        edm, zero_network, jnp.asarray(clean)[None], valid, batch_of(clean, held),
        jnp.zeros((1, HORIZON, 0)), key=key,
    )  # fmt: skip
    assert np.allclose(got, expected, rtol=1e-4)


def test_training_noise_levels_have_the_stated_distribution():
    keys = jax.random.split(jax.random.key(0), 20_000)
    logs = np.log(np.asarray(jax.vmap(lambda key: EDM().draw_noise_level(key=key))(keys)))
    assert abs(logs.mean() + 1.2) < 0.04
    assert abs(logs.std() - 1.2) < 0.04


def test_strength_mixes_prior_and_condition_linearly_and_its_ends_are_exact():
    def network(x, noise):  # answers with what it is told, and with -1 where it is told nothing
        told, flag = x[:, CHANNELS : CHANNELS + 1], x[:, CHANNELS + 1 :]
        return jnp.broadcast_to(jnp.where(flag > 0, told, -1.0), (HORIZON, CHANNELS))

    condition = jnp.full((HORIZON, 1), 2.0)
    noisy, sigma = jnp.zeros((HORIZON, CHANNELS)), jnp.float32(1.0)
    answers = {
        s: guided_denoiser(EDM(), network, condition, s)(noisy, sigma)[0, 0] for s in (0.0, 0.5, 1.0, 1.9)
    }
    c_out = 0.5 / np.sqrt(1.25)
    assert np.allclose(answers[0], -c_out)
    assert np.allclose(answers[1], 2 * c_out)
    assert np.allclose(answers[0.5], 0.5 * c_out)
    # strength 1.9 is w = 0.9 in (1 + w) D(c) - w D(null), the right form of the off-dynamics planner's guidance
    assert np.allclose(answers[1.9], (1.9 * 2 - 0.9 * -1) * c_out, rtol=1e-5)


def test_a_dropped_condition_is_all_zeros_with_its_flag():
    condition = jnp.ones((HORIZON, 2))
    assert np.all(np.asarray(with_presence(condition, False)) == 0)
    assert np.all(np.asarray(with_presence(condition, True)) == 1)


def test_an_empty_constraint_changes_nothing():
    sample = jnp.ones((HORIZON, CHANNELS))
    assert np.array_equal(unconstrained(HORIZON, CHANNELS).apply(sample), sample)
