"""A model of when episodes end learns a known rule from rows of which few end, and its loss is the cross-entropy."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.sampling import Transitions
from langevin.dynamics.split import split_transitions
from langevin.dynamics.termination import TerminationTraining

ROWS = 4000


@pytest.fixture(scope="module")
def data():
    """s' = s + 0.3 a ends beyond 1.2 in its first dimension, which one row in ten does."""
    rng = np.random.default_rng(0)
    before = rng.uniform(-1.2, 1.2, (ROWS, 2))
    actions = rng.uniform(-1, 1, (ROWS, 1))
    after = before + 0.3 * actions
    ends = np.abs(after[:, 0]) > 1.2
    assert 0.03 < ends.mean() < 0.2
    rows = before, actions, np.zeros(ROWS), ends, after
    return split_transitions(Transitions(*(jnp.asarray(row, jnp.float32) for row in rows)))


@pytest.fixture(scope="module")
def model(data):
    training = TerminationTraining(width=32, depth=1, learning_rate=1e-2)

    @eqx.filter_jit
    def learn(data, key):
        step = lambda state, step: training.update(state, data, step=step, key=jax.random.fold_in(key, step))
        return jax.lax.scan(step, training.init(data, key=key), jnp.arange(1000))

    state, metrics = learn(data, jax.random.key(1))
    assert metrics["termination/loss"][-50:].mean() < 0.2 * metrics["termination/loss"][:10].mean()
    assert metrics["termination/held_out_error"][-1] == state.held_out_error
    return training.finish(state)


def test_it_ends_episodes_as_the_system_does(model, data):
    held_out = data.held_out
    said = np.asarray(model(held_out.observations, held_out.actions, held_out.next_observations))
    true = np.asarray(held_out.terminations) > 0
    assert (said == true).mean() > 0.97
    assert said[true].mean() > 0.7, "saying never would be right nine times in ten"


def test_it_answers_rows_of_any_batch_alike(model, data):
    rows = [
        leaf[:12]
        for leaf in (data.held_out.observations, data.held_out.actions, data.held_out.next_observations)
    ]
    folded = model.logits(*(row.reshape(3, 4, -1) for row in rows))
    assert folded.shape == (3, 4)
    np.testing.assert_allclose(folded.ravel(), model.logits(*rows), rtol=1e-4, atol=1e-4)


def test_its_loss_is_the_cross_entropy(model, data):
    rows = data.held_out
    logits = np.asarray(model.logits(rows.observations, rows.actions, rows.next_observations), np.float64)
    chance, ends = 1 / (1 + np.exp(-logits)), np.asarray(rows.terminations, np.float64)
    expected = -(ends * np.log(chance) + (1 - ends) * np.log1p(-chance)).mean()
    np.testing.assert_allclose(model.error(rows), expected, rtol=1e-4)
