"""The classifier learns the true odds; DARA's charge is the dynamics' log ratio and nothing of the behaviours'."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.sampling import Transitions
from langevin.dynamics.dara import DARA
from langevin.dynamics.domain_classifier import DomainTraining, DynamicsClassifier

NOISE = 0.5


def rows(seed, push, mean_action, count=20_000):
    """s' = s + push a + noise: two systems differ in the push, two behaviours in the mean action."""
    rng = np.random.default_rng(seed)
    s = rng.normal(size=(count, 1))
    a = mean_action + rng.normal(size=(count, 1))
    after = s + push * a + NOISE * rng.normal(size=(count, 1))
    column = lambda values: jnp.asarray(values, jnp.float32)
    return Transitions(column(s), column(a), jnp.ones(count), jnp.zeros(count), column(after))


SOURCE, TARGET = rows(0, push=1.0, mean_action=0.0), rows(1, push=0.2, mean_action=0.5, count=2_000)


def log_density(rows, push):
    """Of the step, up to a constant."""
    error = rows.next_observations - rows.observations - push * rows.actions
    return np.asarray(-0.5 * (error / NOISE) ** 2)[:, 0]


def trained(training, steps, *, sees_next=None):
    init = training.init if sees_next is None else (
        lambda source, target, *, key: training.init(source, target, sees_next, key=key)
    )  # fmt: skip

    @eqx.filter_jit
    def learn(state, key):
        arrays, rest = eqx.partition(state, eqx.is_array)

        def one(arrays, step):
            state = eqx.combine(arrays, rest)
            state, metrics = training.update(
                state, SOURCE, TARGET, step=step, key=jax.random.fold_in(key, step)
            )
            return eqx.filter(state, eqx.is_array), metrics

        arrays, metrics = jax.lax.scan(one, arrays, jnp.arange(steps))
        return eqx.combine(arrays, rest), metrics

    return learn(init(SOURCE, TARGET, key=jax.random.key(0)), jax.random.key(1))


@pytest.fixture(scope="module")
def dara():
    settings = DARA(classifiers=DomainTraining(width=32, learning_rate=3e-3))
    return settings, trained(settings, 2500)[0]


def test_the_odds_are_the_true_ones_though_one_system_has_ten_times_the_rows(dara):
    """log p(x | target) / p(x | source), as if both had been equally frequent."""
    _, state = dara
    sample = jax.tree.map(lambda leaf: leaf[:500], SOURCE)
    behaviour = np.asarray(-0.5 * (sample.actions - 0.5) ** 2 + 0.5 * sample.actions**2)[:, 0]
    dynamics = log_density(sample, 0.2) - log_density(sample, 1.0)
    found = np.asarray(state.full.classifier.logit(sample))
    usual = np.abs(behaviour + dynamics) < 4  # beyond it there are too few rows to learn from
    assert usual.mean() > 0.8
    assert np.corrcoef(found[usual], (behaviour + dynamics)[usual])[0, 1] > 0.93
    assert np.abs(found - behaviour - dynamics)[usual].mean() < 0.35


def test_the_charge_is_the_ratio_of_the_dynamics_alone(dara):
    """The behaviours' ratio is in both classifiers and cancels."""
    settings, state = dara
    sample = jax.tree.map(lambda leaf: leaf[:500], SOURCE)
    truth = np.clip(log_density(sample, 1.0) - log_density(sample, 0.2), -10, 10)
    charge = np.asarray(sample.rewards - settings.rewards(state, sample)) / 0.1
    usual = np.abs(truth) < 4
    assert np.corrcoef(charge[usual], truth[usual])[0, 1] > 0.93
    assert np.abs(charge - truth)[usual].mean() < 0.4


def test_two_classifiers_say_of_the_dynamics_what_one_mixes_with_who_acted(dara):
    _, state = dara
    sample = jax.tree.map(lambda leaf: leaf[:500], SOURCE)
    both = DynamicsClassifier(state.full.classifier, state.partial.classifier)
    truth = log_density(sample, 0.2) - log_density(sample, 1.0)
    usual = np.abs(truth) < 4
    assert np.abs(np.asarray(both.logit(sample)) - truth)[usual].mean() < 0.4
    np.testing.assert_allclose(both.probability(sample), jax.nn.sigmoid(both.logit(sample)), rtol=1e-6)


def test_the_charge_is_limited(dara):
    settings, state = dara
    far = eqx.tree_at(lambda rows: rows.next_observations, SOURCE, SOURCE.next_observations + 1e3)
    charge = np.abs(np.asarray(far.rewards - settings.rewards(state, far)))
    assert charge.max() == pytest.approx(1.0)  # 0.1 x 10


def test_the_loss_is_the_cross_entropy_of_the_logits_and_not_of_their_sigmoid():
    """Hand-computed; a sigmoid inside a loss that applies one again is an old mistake."""
    training = DomainTraining(width=8, depth=1)
    state = training.init(SOURCE, TARGET, True, key=jax.random.key(0))
    source, target = (jax.tree.map(lambda leaf: leaf[:7], part) for part in (SOURCE, TARGET))
    logits = [np.asarray(state.classifier.logit(part), np.float64) for part in (source, target)]
    probabilities = [1 / (1 + np.exp(-logit)) for logit in logits]
    expected = -(np.log(1 - probabilities[0]).mean() + np.log(probabilities[1]).mean()) / 2
    loss, accuracy = training.loss(
        state.classifier.network, state.classifier, source, target, key=jax.random.key(0)
    )
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert float(accuracy) == pytest.approx(
        ((probabilities[0] < 0.5).mean() + (probabilities[1] > 0.5).mean()) / 2
    )


def test_two_copies_of_one_system_cannot_be_told_apart():
    training = DomainTraining(width=16, learning_rate=3e-3)
    same = rows(5, push=1.0, mean_action=0.0, count=5_000)

    @eqx.filter_jit
    def learn(state):
        arrays, rest = eqx.partition(state, eqx.is_array)

        def one(arrays, step):
            key = jax.random.fold_in(jax.random.key(1), step)
            state, metrics = training.update(eqx.combine(arrays, rest), SOURCE, same, step=step, key=key)
            return eqx.filter(state, eqx.is_array), metrics["domain/accuracy"]

        arrays, accuracy = jax.lax.scan(one, arrays, jnp.arange(500))
        return eqx.combine(arrays, rest), accuracy

    state, accuracy = learn(training.init(SOURCE, same, True, key=jax.random.key(0)))
    assert float(accuracy[-200:].mean()) == pytest.approx(0.5, abs=0.03)
    assert np.abs(state.classifier.probability(same) - 0.5).mean() < 0.1
