"""The ensemble's loss against closed forms, its recovery of a known system, and what early stopping keeps."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from langevin.data.sampling import Transitions
from langevin.dynamics.ensemble_training import (
    EnsembleTraining,
    gaussian_nll,
    held_out_errors,
    weighted_nll,
)
from langevin.dynamics.split import SplitTransitions, split_transitions
from langevin.errors import UsageError

TINY = EnsembleTraining(members=4, elites=2, width=16, depth=1, batch_size=32, evaluate_every=10, patience=3)
NOISE = np.array([0.05, 0.2])


def next_mean(observations, actions):
    """The known system: a damped rotation pushed by the action; its third dimension never moves."""
    x, y, constant = jnp.moveaxis(observations, -1, 0)
    push = actions[..., 0]
    return jnp.stack([0.9 * x + 0.3 * y + 0.2 * push, 0.8 * y - 0.3 * x, constant], axis=-1)


@pytest.fixture(scope="module")
def data() -> SplitTransitions:
    observation_key, action_key, noise_key = jax.random.split(jax.random.key(0), 3)
    observations = jax.random.normal(observation_key, (6000, 3)) * jnp.array([2.0, 1.0, 0.0]) + 5.0
    actions = jax.random.uniform(action_key, (6000, 1), minval=-1.0)
    noise = jax.random.normal(noise_key, (6000, 3)) * jnp.array([*NOISE, 0.0])
    zeros = jnp.zeros(6000)
    return split_transitions(
        Transitions(observations, actions, zeros, zeros, next_mean(observations, actions) + noise)
    )


@eqx.filter_jit
def init(training: EnsembleTraining, data: SplitTransitions, key):
    return training.init(data, key=key)


@eqx.filter_jit
def run(training: EnsembleTraining, data: SplitTransitions, state, steps, key):
    """The state after the updates of these numbers, and their metrics."""
    update = lambda state, step: training.update(state, data, step=step, key=jax.random.fold_in(key, step))
    return jax.lax.scan(update, state, steps)


FIRST, SECOND = jax.random.split(jax.random.key(0))


@pytest.fixture(scope="module")
def fresh(data):
    return init(TINY, data, FIRST)


@pytest.fixture(scope="module")
def trained(data, fresh):
    return run(TINY, data, fresh, jnp.arange(25), FIRST)


def arrays(tree) -> list[np.ndarray]:
    return [np.array(leaf) for leaf in jax.tree.leaves(eqx.filter(tree, eqx.is_array))]


def member(tree, index: int) -> list[np.ndarray]:
    return [leaf[index] for leaf in arrays(tree)]


# The likelihood.

MEANS, LOG_VARIANCES, TARGETS = np.random.default_rng(0).normal(size=(3, 200)) * [[1.0], [2.0], [1.5]]


def log_density(means, log_variances):
    return scipy.stats.norm.logpdf(TARGETS, means, np.exp(log_variances / 2))


def test_negative_log_likelihood_is_that_of_the_normal_distribution():
    values = gaussian_nll(*map(jnp.asarray, (MEANS, LOG_VARIANCES, TARGETS)))
    np.testing.assert_allclose(values, -log_density(MEANS, LOG_VARIANCES), rtol=1e-5, atol=1e-5)


def test_gradients_equal_the_closed_form_and_finite_differences():
    gradients = jax.grad(lambda *x: gaussian_nll(*x).sum(), argnums=(0, 1))(
        *(jnp.asarray(x, jnp.float32) for x in (MEANS, LOG_VARIANCES, TARGETS))
    )
    variances = np.exp(LOG_VARIANCES)
    closed = (MEANS - TARGETS) / variances, 0.5 * (1 - (TARGETS - MEANS) ** 2 / variances)
    step = 1e-5
    differences = (
        (log_density(MEANS - step, LOG_VARIANCES) - log_density(MEANS + step, LOG_VARIANCES)) / (2 * step),
        (log_density(MEANS, LOG_VARIANCES - step) - log_density(MEANS, LOG_VARIANCES + step)) / (2 * step),
    )
    for gradient, exact, difference in zip(gradients, closed, differences, strict=True):
        np.testing.assert_allclose(gradient, exact, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(gradient, difference, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_weighted_likelihood_divides_errors_by_a_power_of_the_variance(weight):
    gradients = jax.grad(lambda *x: weighted_nll(*x, weight).sum(), argnums=(0, 1))(
        *(jnp.asarray(x, jnp.float32) for x in (MEANS, LOG_VARIANCES, TARGETS))
    )
    variances = np.exp(LOG_VARIANCES)
    np.testing.assert_allclose(gradients[0], (MEANS - TARGETS) * variances ** (weight - 1), rtol=1e-4)
    log_variance = 0.5 * variances**weight * (1 - (TARGETS - MEANS) ** 2 / variances)
    np.testing.assert_allclose(gradients[1], log_variance, rtol=1e-4, atol=1e-5)


def test_loss_is_likelihood_plus_bounds_plus_decay_of_the_weights(data, fresh):
    batch = TINY.batches(fresh, data.training, key=jax.random.key(3))
    inputs, targets = data.scales.inputs(batch.observations, batch.actions), data.scales.targets(batch)
    loss, metrics = TINY.loss(fresh.networks, inputs, targets)
    networks = fresh.networks.networks
    first, last = (np.asarray(layer.weight, np.float64) for layer in networks.network.layers)
    expected = 0.0
    for index in range(TINY.members):
        one = jax.tree.map(lambda leaf, index=index: leaf[index], networks)
        means, log_variances = (np.asarray(output, np.float64) for output in one(inputs[index]))
        # MBPO's scale: squared error over variance plus log-variance, without the Gaussian's 1/2.
        likelihood = (
            (means - targets[index]) ** 2 * np.exp(-log_variances) + log_variances + np.log(2 * np.pi)
        )
        expected += np.mean(np.sqrt(np.exp(log_variances)) * likelihood)
        expected += 0.01 * np.sum(one.highest_log_variance - one.lowest_log_variance)
        expected += 0.5 * (2.5e-5 * np.sum(first[index] ** 2) + 1e-4 * np.sum(last[index] ** 2))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["dynamics/loss"], expected, rtol=1e-5)


def test_decay_pulls_on_weights_only_and_the_bounds_are_pressed_together(data, fresh):
    batch = TINY.batches(fresh, data.training, key=jax.random.key(3))
    inputs, targets = data.scales.inputs(batch.observations, batch.actions), data.scales.targets(batch)

    def gradient(**changes):
        values = {"weight_decay": (0.0, 0.0), "bounds_weight": 0.0, "members": 4, "elites": 2, **changes}
        loss = lambda networks: EnsembleTraining(**values).loss(networks, inputs, targets)[0]
        return eqx.filter_grad(loss)(fresh.networks).networks

    plain, decayed, pressed = gradient(), gradient(weight_decay=(0.5, 2.0)), gradient(bounds_weight=10.0)
    for rate, index in ((0.5, 0), (2.0, -1)):
        before, after = (g.network.layers[index] for g in (plain, decayed))
        weight = fresh.networks.networks.network.layers[index].weight
        np.testing.assert_allclose(after.weight - before.weight, rate * weight, atol=1e-5)
        np.testing.assert_array_equal(after.bias, before.bias)
    np.testing.assert_allclose(pressed.highest_log_variance - plain.highest_log_variance, 10.0, rtol=1e-5)
    np.testing.assert_allclose(pressed.lowest_log_variance - plain.lowest_log_variance, -10.0, rtol=1e-5)


# Members.


def test_members_start_from_different_weights(fresh):
    weights = np.asarray(fresh.networks.networks.network.layers[0].weight)
    for first in range(TINY.members):
        for second in range(first):
            assert np.abs(weights[first] - weights[second]).min(axis=None) > 0


def numbered(data: SplitTransitions) -> Transitions:
    """The training rows, with their row number as reward."""
    return eqx.tree_at(lambda t: t.rewards, data.training, jnp.arange(data.training.size, dtype=jnp.float32))


def test_members_see_different_batches_and_so_do_steps(data, fresh):
    keys = jax.random.split(jax.random.key(0))
    first, second = (np.asarray(TINY.batches(fresh, numbered(data), key=key).rewards) for key in keys)
    batches = [*first, *second]
    for i in range(len(batches)):
        for j in range(i):
            assert len(np.intersect1d(batches[i], batches[j])) < 8, "32 of 4800 rows hardly ever meet"


def test_each_member_knows_its_own_bootstrap_only(data, fresh):
    """Resampling n rows with replacement leaves 1 - 1/e of them, others for each member, for good."""
    training = EnsembleTraining(members=4, elites=2, batch_size=40 * data.training.size)
    draw = lambda key: np.asarray(training.batches(fresh, numbered(data), key=key).rewards)
    seen = [set(rows) for rows in draw(jax.random.key(0))]
    again = [set(rows) for rows in draw(jax.random.key(1))]
    rows = data.training.size
    for first, second in zip(seen, again, strict=True):
        assert first == second
        np.testing.assert_allclose(len(first) / rows, 1 - np.exp(-1), atol=0.03)
    assert len(set.union(*seen)) > 0.95 * rows


# What is learned.


def test_recovers_the_mean_and_the_noise_of_a_linear_gaussian_system(data):
    training = EnsembleTraining(
        members=3, elites=2, width=32, depth=1, batch_size=128, learning_rate=3e-3, evaluate_every=100
    )
    key = jax.random.key(0)
    state, metrics = run(training, data, init(training, data, key), jnp.arange(2500), key)
    model = training.finish(state)
    held_out = data.held_out
    means, variances = model.predict_distribution(held_out.observations, held_out.actions)
    truth = np.asarray(next_mean(held_out.observations, held_out.actions))
    errors = np.sqrt(np.square(np.asarray(means) - truth).mean(1))
    assert (errors[:, :2] < 0.25 * NOISE).all(), (
        "the mean is known better than any single transition tells it"
    )
    np.testing.assert_allclose(
        np.sqrt(np.asarray(variances).mean(1))[:, :2], np.tile(NOISE, (3, 1)), rtol=0.12
    )
    assert (errors[:, 2] < 0.02).all(), "a dimension that never moves stays where it is"
    assert np.isfinite(np.concatenate([np.ravel(values) for values in metrics.values()])).all()
    predicted = model.predict(held_out.observations, held_out.actions, key=jax.random.key(0))
    np.testing.assert_array_equal(predicted[:, 2], 5.0, "clipped to the one value the data has")


# Early stopping.


def test_best_weights_are_kept_as_values_while_training_goes_astray(data, fresh, trained):
    good, _ = trained
    kept, errors = arrays(good.best.networks), np.array(good.best.errors)
    assert (errors < fresh.best.errors).all()
    wild = replace(TINY, learning_rate=10.0)
    spoiled, metrics = run(wild, data, good, jnp.arange(25, 45), FIRST)
    assert (np.asarray(held_out_errors(spoiled.networks, data)) > 10 * errors).all()
    assert metrics["dynamics/error"][-1] > 10 * errors.max()
    for before, after in zip(kept, arrays(spoiled.best.networks), strict=True):
        np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(errors, spoiled.best.errors)
    np.testing.assert_allclose(held_out_errors(TINY.finish(spoiled).members, data), errors, rtol=1e-5)


def test_each_member_keeps_its_own_best(data, fresh):
    better = fresh.best.errors * jnp.array([0.5, 2.0, 0.9, 1.0])
    changed = jax.tree.map(lambda leaf: leaf + 1.0, fresh.networks)
    best = TINY.keep_best(fresh.best, changed, better)
    np.testing.assert_array_equal(best.errors, np.minimum(better, fresh.best.errors))
    for index, source in enumerate((changed, fresh.networks, changed, fresh.networks)):
        for kept, expected in zip(member(best.networks, index), member(source, index), strict=True):
            np.testing.assert_array_equal(kept, expected)


def test_patience_counts_measurements_without_progress_of_any_member(fresh):
    best, error = fresh.best, fresh.best.errors
    best = TINY.keep_best(best, fresh.networks, error * 0.995)
    assert int(best.stalled) == 1, "half a percent is no progress"
    best = TINY.keep_best(best, fresh.networks, error * jnp.array([1.0, 1.0, 0.98, 1.0]))
    assert int(best.stalled) == 0, "one member's progress is enough"
    best = TINY.keep_best(best, fresh.networks, error * 0.993)
    best = TINY.keep_best(best, fresh.networks, error * 0.989)
    assert int(best.stalled) == 0, "small steps add up to progress"
    for count in range(1, 4):
        assert not bool(TINY.done(eqx.tree_at(lambda s: s.best, fresh, best)))
        best = TINY.keep_best(best, fresh.networks, error * 2)
        assert int(best.stalled) == count
    assert bool(TINY.done(eqx.tree_at(lambda s: s.best, fresh, best)))


def test_nothing_changes_once_patience_has_run_out(fresh):
    exhausted = eqx.tree_at(lambda b: b.stalled, fresh.best, jnp.int32(TINY.patience))
    changed = jax.tree.map(lambda leaf: leaf + 1.0, fresh.networks)
    after = TINY.keep_best(exhausted, changed, fresh.best.errors * 0.1)
    for before, now in zip(arrays(exhausted), arrays(after), strict=True):
        np.testing.assert_array_equal(before, now)


def test_held_out_error_is_measured_every_so_many_updates(trained):
    state, metrics = trained
    errors = np.asarray(metrics["dynamics/held_out_error"])
    assert len(set(errors[:9])) == len(set(errors[9:19])) == len(set(errors[19:])) == 1
    assert len({errors[0], errors[9], errors[19]}) == 3
    np.testing.assert_allclose(errors[-1], np.sort(state.best.errors)[:2].mean(), rtol=1e-6)


def test_held_out_error_is_the_mean_squared_error_of_the_mean(data, fresh):
    held_out, scales = data.held_out, data.scales
    errors = held_out_errors(fresh.networks, data)
    one = jax.tree.map(lambda leaf: leaf[2], fresh.networks.networks)
    means, _ = one(scales.inputs(held_out.observations, held_out.actions))
    predicted = np.asarray(held_out.observations + scales.change.denormalize(means), np.float64)
    expected = np.mean(((predicted - held_out.next_observations) / np.asarray(scales.change.std)) ** 2)
    np.testing.assert_allclose(errors[2], expected, rtol=1e-4)


def test_elites_are_the_members_of_lowest_held_out_error(fresh):
    errors = jnp.array([0.3, 0.1, jnp.inf, 0.2])
    model = TINY.finish(eqx.tree_at(lambda s: s.best.errors, fresh, errors))
    np.testing.assert_array_equal(model.elites, [1, 3])
    assert model.elites.dtype == jnp.int32


def test_the_learning_rate_falls_to_zero_over_the_decay_steps():
    """Adam's step for an unchanging gradient is the learning rate itself."""
    optimizer = replace(TINY, learning_rate=0.5, decay_steps=10).optimizer
    state, steps = optimizer.init(jnp.zeros(())), []
    for _ in range(12):
        step, state = optimizer.update(jnp.ones(()), state)
        steps.append(-float(step))
    cosine = 0.25 * (1 + np.cos(np.pi * np.minimum(np.arange(12), 10) / 10))
    np.testing.assert_allclose(steps, cosine, atol=1e-5)


def test_more_elites_than_members_is_an_error():
    with pytest.raises(UsageError, match="elites"):
        EnsembleTraining(members=2, elites=3)


def test_seeds_side_by_side_train_as_they_do_alone(data, trained):
    keys = jnp.stack([SECOND, FIRST])
    states = eqx.filter_vmap(init, in_axes=(None, None, 0))(TINY, data, keys)
    together = eqx.filter_vmap(run, in_axes=(None, None, 0, None, 0))
    states, metrics = together(TINY, data, states, jnp.arange(25), keys)
    for name, alone in trained[1].items():
        np.testing.assert_allclose(metrics[name][1], alone, rtol=1e-3)
        assert not np.allclose(metrics[name][0], alone) or name == "dynamics/stalled_evaluations"
    for beside, alone in zip(arrays(states), arrays(trained[0]), strict=True):
        np.testing.assert_allclose(beside[1], alone, rtol=1e-2, atol=1e-3)
