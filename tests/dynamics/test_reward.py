"""The reward model learns a known reward, in raw units."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.sampling import Transitions
from langevin.dynamics.reward import RewardTraining
from langevin.dynamics.split import SplitTransitions, split_transitions


def reward(observations, actions):
    """A reward far from zero mean and unit variance: the model must answer in these units."""
    return 8.0 + 3.0 * jnp.sin(observations[:, 0] / 3.0) - 2.0 * jnp.abs(actions[:, 0])


@pytest.fixture(scope="module")
def data() -> SplitTransitions:
    observation_key, action_key = jax.random.split(jax.random.key(0))
    # The second dimension never moves.
    observations = jax.random.normal(observation_key, (4000, 2)) * jnp.array([3.0, 0.0]) + 7.0
    actions = jax.random.uniform(action_key, (4000, 1), minval=-1.0)
    rewards = reward(observations, actions)
    return split_transitions(Transitions(observations, actions, rewards, 0 * rewards, observations))


def train(training: RewardTraining, data: SplitTransitions, updates: int):
    @eqx.filter_jit
    def run(data, key):
        def update(state, step):
            return training.update(state, data, step=step, key=jax.random.fold_in(key, step))

        return jax.lax.scan(update, training.init(data, key=key), jnp.arange(updates))

    return run(data, jax.random.key(1))


def test_learns_a_known_function_in_raw_units(data):
    training = RewardTraining(width=64, learning_rate=3e-3, evaluate_every=100)
    state, metrics = train(training, data, 1500)
    model = training.finish(state)
    held_out = data.held_out
    predicted = model.predict(held_out.observations, held_out.actions)
    error = np.square(np.asarray(predicted - reward(held_out.observations, held_out.actions))).mean()
    assert error < 0.02 * np.var(held_out.rewards)
    np.testing.assert_allclose(metrics["reward/held_out_error"][-1], error, rtol=1e-5)
    assert metrics["reward/loss"][-1] < 0.01 * metrics["reward/loss"][0]


def test_held_out_error_is_measured_every_so_many_updates(data):
    training = RewardTraining(width=8, batch_size=16, evaluate_every=4)
    _, metrics = train(training, data, 8)
    errors = np.asarray(metrics["reward/held_out_error"])
    assert len(set(errors[:3])) == 1
    assert len(set(errors[3:7])) == 1
    assert len({errors[0], errors[3], errors[7]}) == 3


def test_loss_is_the_mean_squared_error_on_the_raw_reward(data):
    model = RewardTraining(width=8).init(data, key=jax.random.key(0)).model
    rows = jax.tree.map(lambda field: field[:10], data.training)
    predicted = np.asarray(model.predict(rows.observations, rows.actions), np.float64)
    expected = np.mean((predicted - np.asarray(rows.rewards)) ** 2)
    np.testing.assert_allclose(model.error(rows), expected, rtol=1e-5)
