"""Predictions and rollouts of an ensemble whose members are known exactly."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.normalize import GaussianNormalizer
from langevin.dynamics import ensemble
from langevin.dynamics.ensemble import DynamicsModel, GaussianNetwork, soft_bound
from langevin.dynamics.split import Scales
from langevin.nets.ensemble import Ensemble

MEMBERS, ELITES = 5, (3, 0, 4)


@pytest.fixture(scope="module")
def scales() -> Scales:
    """Two dimensions; the second of the change is constant, as GaussianNormalizer.fit would leave it."""
    return Scales(
        observation=GaussianNormalizer(jnp.array([1.0, -2.0]), jnp.array([3.0, 0.5])),
        action=GaussianNormalizer(jnp.array([0.5]), jnp.array([2.0])),
        change=GaussianNormalizer(jnp.array([0.1, 0.3]), jnp.array([0.2, 1.0])),
        observation_low=jnp.array([-100.0, -100.0]),
        observation_high=jnp.array([100.0, 100.0]),
        action_low=jnp.array([-1.0]),
        action_high=jnp.array([1.0]),
    )


@pytest.fixture(scope="module")
def model(scales) -> DynamicsModel:
    members = Ensemble(lambda key: GaussianNetwork(3, 2, 8, 1, key=key), MEMBERS, key=jax.random.key(0))
    return DynamicsModel(members, jnp.array(ELITES, jnp.int32), scales)


@pytest.fixture(scope="module")
def shifting(model) -> DynamicsModel:
    """Member i adds exactly i to both dimensions, with a standard deviation of exp(-5) in z-scored units."""
    shifts = jnp.arange(MEMBERS, dtype=jnp.float32)[:, None] * jnp.ones(2)
    z_scored = model.scales.change.normalize(shifts)
    zeros = jax.tree.map(jnp.zeros_like, model.members.networks.network)
    network = eqx.tree_at(
        lambda n: n.layers[-1].bias, zeros, jnp.concatenate([z_scored, jnp.full((MEMBERS, 2), -10.0)], axis=1)
    )
    members = eqx.tree_at(lambda m: m.networks.network, model.members, network)
    low, high = jnp.full((MEMBERS, 2), -100.0), jnp.full((MEMBERS, 2), 100.0)
    members = eqx.tree_at(
        lambda m: (m.networks.lowest_log_variance, m.networks.highest_log_variance), members, (low, high)
    )
    return DynamicsModel(members, model.elites, model.scales)


predict = eqx.filter_jit(DynamicsModel.predict)
rollout = eqx.filter_jit(ensemble.rollout)
replay = eqx.filter_jit(ensemble.replay)


def rows(count: int) -> tuple[jax.Array, jax.Array]:
    observation_key, action_key = jax.random.split(jax.random.key(7))
    return jax.random.normal(observation_key, (count, 2)), jax.random.normal(action_key, (count, 1)) / 4


def test_soft_bound_bounds_whatever_comes_in():
    low, high = jnp.array([-10.0, -3.0]), jnp.array([0.5, -1.0])
    x = jnp.linspace(-1e4, 1e4, 20_001)[:, None] * jnp.ones(2)
    bounded = np.asarray(soft_bound(x, low, high))
    assert (bounded >= low).all()
    assert (bounded <= high + np.log1p(np.exp(low - high)) + 1e-5).all()
    np.testing.assert_allclose(bounded[0], low, atol=1e-5)
    middle = soft_bound(jnp.full(2, -5.0), jnp.full(2, -100.0), jnp.full(2, 100.0))
    np.testing.assert_allclose(middle, -5.0, rtol=1e-6)


def test_soft_bound_lets_the_gradient_through_to_the_bounds():
    to_low = jax.grad(lambda low: soft_bound(jnp.full(1, -20.0), low, jnp.full(1, 0.5)).sum())(
        jnp.full(1, -10.0)
    )
    to_high = jax.grad(lambda high: soft_bound(jnp.full(1, 20.0), jnp.full(1, -10.0), high).sum())(
        jnp.full(1, 0.5)
    )
    np.testing.assert_allclose((to_low[0], to_high[0]), 1.0, atol=1e-3)


def test_each_row_is_predicted_by_one_elite_in_equal_shares(shifting):
    observations, actions = rows(30)
    for seed in range(5):
        change = predict(shifting, observations, actions, key=jax.random.key(seed)) - observations
        members = np.rint(change).astype(int)
        np.testing.assert_allclose(change, members, atol=1e-4)
        np.testing.assert_array_equal(members[:, 0], members[:, 1])
        counts = dict(zip(*np.unique(members[:, 0], return_counts=True), strict=True))
        assert counts == dict.fromkeys(ELITES, 10)


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_every_row_draws_every_elite_equally_often(shifting, batch):
    observations, actions = rows(batch)
    draws = 3000
    keys = jax.random.split(jax.random.key(1), draws)
    predictions = jax.vmap(lambda key: predict(shifting, observations, actions, key=key))(keys)
    members = np.rint(predictions - observations)[..., 0]
    for elite in ELITES:
        shares = (members == elite).mean(0)
        # Five standard deviations of a share of 1/3 over the draws.
        np.testing.assert_allclose(shares, 1 / 3, atol=5 * np.sqrt(2 / 9 / draws))


def test_rows_draw_anew_at_every_step_of_a_rollout(shifting):
    start = jnp.zeros((3, 2))
    states = replay(shifting, start, jnp.zeros((3, 24, 1)), key=jax.random.key(0))
    members = np.rint(np.diff(np.asarray(states), axis=1))[..., 0]
    for row in members:
        assert set(row) == set(ELITES)


def test_samples_have_the_mean_and_variance_of_their_elite(model):
    one = DynamicsModel(model.members, jnp.array([2], jnp.int32), model.scales)
    observations, actions = rows(1)
    many = jnp.repeat(observations, 20_000, 0), jnp.repeat(actions, 20_000, 0)
    samples = np.asarray(predict(one, *many, key=jax.random.key(0), sample=True))
    means, variances = one.predict_distribution(observations, actions)
    deviation = np.sqrt(variances[2, 0])
    np.testing.assert_allclose(
        samples.mean(0), means[2, 0], atol=float(5 * deviation.max() / np.sqrt(20_000))
    )
    np.testing.assert_allclose(samples.std(0), deviation, rtol=0.03)
    exact = predict(one, observations, actions, key=jax.random.key(0))
    np.testing.assert_allclose(exact, means[2], rtol=1e-5)


def test_distribution_is_in_the_environments_units(shifting):
    observations, actions = rows(4)
    means, variances = shifting.predict_distribution(observations, actions)
    assert means.shape == variances.shape == (MEMBERS, 4, 2)
    expected = np.asarray(observations) + np.arange(MEMBERS)[:, None, None]
    np.testing.assert_allclose(means, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(np.sqrt(variances[:, :, 0]), np.exp(-5) * 0.2, rtol=1e-4)
    np.testing.assert_allclose(np.sqrt(variances[:, :, 1]), np.exp(-5) * 1.0, rtol=1e-4)


def test_predictions_stay_in_the_range_of_the_data(shifting):
    low, high = jnp.array([0.0, -1.0]), jnp.array([2.0, 0.5])
    scales = eqx.tree_at(lambda s: (s.observation_low, s.observation_high), shifting.scales, (low, high))
    clipped = DynamicsModel(shifting.members, shifting.elites, scales)
    observations, actions = rows(50)
    predicted = predict(clipped, 1e3 * observations, actions, key=jax.random.key(0))
    assert bool(jnp.all((predicted >= low) & (predicted <= high)))
    assert bool(jnp.any(predicted == high))


def test_inputs_outside_the_data_are_taken_to_its_edge(model):
    observations, _ = rows(6)
    far, edge = (
        predict(model, observations, jnp.full((6, 1), action), key=jax.random.key(0))
        for action in (40.0, 1.0)
    )
    np.testing.assert_array_equal(far, edge)
    outside = jnp.full((6, 2), 1e5)
    far, edge = (
        predict(model, x, jnp.zeros((6, 1)), key=jax.random.key(0)) for x in (outside, outside / 1e3)
    )
    np.testing.assert_array_equal(far, edge)


def test_a_rollout_is_predict_after_predict(model):
    start, _ = rows(9)
    act = lambda observations, key: jnp.tanh(observations[:, :1]) + 0.1 * jax.random.normal(key, (9, 1))
    observations, actions = rollout(act, model, start, 6, key=jax.random.key(3))
    assert observations.shape == (9, 6, 2)
    assert actions.shape == (9, 6, 1)
    policy_key, model_key = jax.random.split(jax.random.key(3))
    state = start
    for step, policy_step_key in enumerate(jax.random.split(policy_key, 6)):
        np.testing.assert_allclose(observations[:, step], state, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(actions[:, step], act(state, policy_step_key), rtol=1e-5, atol=1e-5)
        if step < 5:
            state = predict(model, state, actions[:, step], key=jax.random.split(model_key, 5)[step])


def test_replaying_a_rollouts_actions_gives_its_observations(model):
    start, _ = rows(9)
    act = lambda observations, key: jax.random.uniform(key, (9, 1), minval=-1.0)
    observations, actions = rollout(act, model, start, 8, key=jax.random.key(3), sample=True)
    model_key = jax.random.split(jax.random.key(3))[1]
    replayed = replay(model, start, actions[:, :-1], key=model_key, sample=True)
    np.testing.assert_allclose(replayed, observations, rtol=1e-5, atol=1e-5)


def test_a_rollout_of_one_row_is_the_start(model):
    start, _ = rows(2)
    observations, actions = rollout(
        lambda observations, key: observations[:, :1], model, start, 1, key=jax.random.key(0)
    )
    np.testing.assert_array_equal(observations, start[:, None])
    np.testing.assert_array_equal(actions, start[:, None, :1])


def test_a_model_per_seed_predicts_as_it_does_alone(model):
    other = jax.tree.map(lambda leaf: leaf + leaf, model.members)
    models = [model, DynamicsModel(other, jnp.array([1, 2, 0], jnp.int32), model.scales)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *models)
    observations, actions = rows(5)
    keys = jax.random.split(jax.random.key(0))
    together = eqx.filter_vmap(lambda model, key: predict(model, observations, actions, key=key))(
        stacked, keys
    )
    for one, key, predicted in zip(models, keys, together, strict=True):
        np.testing.assert_allclose(
            predicted, predict(one, observations, actions, key=key), rtol=1e-5, atol=1e-6
        )
