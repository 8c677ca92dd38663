"""SynthER's model of transitions: it draws a known distribution, and transitions that obey a known law."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.sampling import Transitions
from langevin.diffusion.heun import Churn
from langevin.diffusion.schedules import KarrasSchedule
from langevin.diffusion.training import DiffusionOptimizer
from langevin.errors import UsageError
from langevin.imagination.synther import TransitionModelTraining, TransitionScales, columns_of

UPDATES, ENDS = 2_000, 0.3
TRAINING = TransitionModelTraining(
    optimizer=DiffusionOptimizer(learning_rate=3e-3, decay_steps=UPDATES, average_decay=0.99),
    width=48, blocks=2, batch_size=128,
)  # fmt: skip


@pytest.fixture(scope="module")
def data():
    """States in two places, 5 apart; s' = s + a; the reward is 10 + 3 a; three in ten transitions end the episode."""
    rng = np.random.default_rng(0)
    rows = 4_000
    states = (rng.choice([-1.0, 4.0], rows, p=[0.7, 0.3]) + 0.3 * rng.normal(size=rows))[:, None]
    actions = rng.normal(0.2, 0.5, (rows, 1)).clip(-1, 1)
    columns = (states, actions, 10 + 3 * actions[:, 0], rng.random(rows) < ENDS, states + actions)
    return Transitions(*(jnp.asarray(column, jnp.float32) for column in columns))


@pytest.fixture(scope="module")
def drawn(data):
    @eqx.filter_jit
    def train_and_sample(data, key):
        def update(state, step):
            return TRAINING.update(state, data, step=step, key=jax.random.fold_in(key, step))

        state, metrics = jax.lax.scan(update, TRAINING.init(data, key=key), jnp.arange(UPDATES))
        model = TRAINING.finish(state)
        return model.sample(3_000, KarrasSchedule(steps=16), Churn(), key=key), metrics["world_model/loss"]

    sample, loss = train_and_sample(data, jax.random.key(0))
    assert loss[-50:].mean() < 0.7 * loss[:20].mean()
    return jax.tree.map(np.asarray, sample)


def test_samples_have_the_mean_and_the_covariance_of_the_data(data, drawn):
    expected, got = (np.asarray(columns_of(transitions)) for transitions in (data, drawn))
    spread = expected.std(axis=0)
    assert np.all(np.abs(got.mean(0) - expected.mean(0)) < 0.1 * spread)
    np.testing.assert_allclose(np.cov(got.T) / np.outer(spread, spread), np.corrcoef(expected.T), atol=0.12)


def test_both_places_are_visited_as_often_as_in_the_data_and_nothing_lies_between(data, drawn):
    states = drawn.observations[:, 0]
    assert abs((states > 1.5).mean() - np.mean(np.asarray(data.observations) > 1.5)) < 0.05
    assert ((states > 0.5) & (states < 2.5)).mean() < 0.02


def test_terminals_are_zero_or_one_and_as_frequent_as_in_the_data(data, drawn):
    assert set(np.unique(drawn.terminations)) == {0.0, 1.0}
    assert abs(drawn.terminations.mean() - float(data.terminations.mean())) < 0.04


def test_a_transition_obeys_the_law_far_more_closely_than_the_states_are_spread(drawn):
    moved = drawn.next_observations - drawn.observations
    error = np.sqrt(np.square(moved - drawn.actions).mean())
    assert error < 0.08 * drawn.observations.std()
    assert np.sqrt(np.square(drawn.rewards - 10 - 3 * drawn.actions[:, 0]).mean()) < 0.25


def test_scales_undo_themselves_and_round_the_terminal(data):
    scales = TransitionScales.fit(data)
    rows = scales.to_rows(data)
    np.testing.assert_allclose(rows[:, :-1].mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(rows[:, :-1].std(0), 1, atol=1e-4)
    assert eqx.tree_equal(scales.to_transitions(rows), data, rtol=1e-5, atol=1e-5)
    nearly = rows.at[:, -1].add(0.49 * (1 - 2 * rows[:, -1]))
    np.testing.assert_array_equal(scales.to_transitions(nearly).terminations, data.terminations)


def test_no_sample_leaves_the_datas_range(data):
    scales = TransitionScales.fit(data)
    far = scales.to_transitions(jnp.full((2, scales.channels), 50.0).at[1].set(-50.0))
    columns = columns_of(data)
    np.testing.assert_allclose(
        columns_of(far), jnp.stack([columns.max(axis=0), columns.min(axis=0)]), rtol=1e-6
    )


def test_a_model_that_cannot_be_built_is_refused():
    for setting in ("width", "blocks", "batch_size"):
        with pytest.raises(UsageError, match=f"{setting} must be at least 1, got 0"):
            TransitionModelTraining(**{setting: 0})
