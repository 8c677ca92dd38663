"""BEAR's discrepancy, targets and losses against NumPy; that the policy is kept inside the data's support."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.policies.bear import BEAR, mean_discrepancy
from tests.policies import by_hand

LEARNER = BEAR(width=8, depth=1, vae_width=8, candidates=3)
KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def batch():
    return by_hand.make_batch()


@pytest.fixture(scope="module")
def state():
    fresh = LEARNER.init(by_hand.make_spec(), key=jax.random.key(0))
    other = LEARNER.init(by_hand.make_spec(), key=jax.random.key(1))
    return eqx.tree_at(lambda s: (s.target_critics, s.target_actor), fresh, (other.critics, other.actor))


@pytest.mark.parametrize(
    ("kernel", "distance"), [("laplacian", lambda d: np.abs(d).sum()), ("gaussian", lambda d: (d**2).sum())]
)
def test_the_discrepancy_equals_its_definition_pair_by_pair(kernel, distance):
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(3, 2)), rng.normal(size=(4, 2)) + 1
    similarity = lambda a, b: np.mean([[np.exp(-distance(x - y) / 6.0) for y in b] for x in a])
    squared = similarity(first, first) - 2 * similarity(first, second) + similarity(second, second)
    found = mean_discrepancy(jnp.asarray(first, jnp.float32), jnp.asarray(second, jnp.float32), kernel, 3.0)
    assert float(found) == pytest.approx(np.sqrt(squared + 1e-6), rel=1e-5)


def test_samples_do_not_differ_from_themselves_and_the_slope_there_is_finite():
    samples = jnp.asarray(np.random.default_rng(0).normal(size=(5, 2)), jnp.float32)
    measure = lambda moved: mean_discrepancy(moved, samples, "laplacian", 10.0)
    assert float(measure(samples)) == pytest.approx(1e-3, abs=2e-4)
    assert np.isfinite(jax.grad(measure)(samples)).all()


def test_targets_are_the_best_of_the_soft_clipped_minima(state, batch):
    y = np.repeat(by_hand.standard(batch.next_observations), 3, axis=0)
    noise = np.asarray(jax.random.normal(KEY, (3 * by_hand.ROWS, 2)))
    mean, log_std = np.split(by_hand.forward(state.target_actor.network, y), 2, axis=1)
    values = by_hand.values(state.target_critics, y, by_hand.squashed(mean + np.exp(log_std) * noise))
    best = (0.75 * values.min(0) + 0.25 * values.max(0)).reshape(by_hand.ROWS, 3).max(axis=1)
    expected = np.asarray(batch.rewards) + 0.99 * (1 - np.asarray(batch.terminations)) * best
    np.testing.assert_allclose(LEARNER.targets(state, batch, key=KEY), expected, rtol=1e-5, atol=1e-6)


def test_the_multiplier_rises_while_policy_and_data_differ_more_than_allowed(batch):
    for threshold, rises in ((0.0, True), (10.0, False)):
        learner = BEAR(width=8, depth=1, vae_width=8, threshold=threshold)
        state = learner.init(by_hand.make_spec(), key=KEY)
        after, _ = learner.update(state, batch, step=jnp.int32(0), key=KEY)
        assert bool(after.log_multiplier > 0) == rises


def test_while_it_warms_up_the_actor_only_matches_the_data(state, batch):
    """Its loss does not know the critics then."""
    x = state.normalizer.normalize(batch.observations)

    def slope(weight):
        measure = lambda critics: LEARNER.actor_loss(
            state.actor, eqx.tree_at(lambda s: s.critics, state, critics), x, jnp.array(weight), key=KEY
        )[0]
        return max(
            float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(eqx.filter_grad(measure)(state.critics))
        )

    assert slope(0.0) == 0
    assert slope(1.0) > 0


def test_it_stays_inside_the_data_where_the_critics_call_it_out_of_them():
    """Actions between -0.3 and 0.3, paid what they are: without the constraint the policy leaves for 1."""
    rng = np.random.default_rng(0)
    actions = jnp.asarray(rng.uniform(-0.3, 0.3, (128, 1)), jnp.float32)
    zeros = jnp.zeros((128, 1))
    batch = by_hand.Transitions(zeros, actions, actions[:, 0], jnp.ones(128), zeros)
    spec = by_hand.SystemSpec(
        1, 1, -jnp.ones(1), jnp.ones(1), by_hand.GaussianNormalizer(jnp.zeros(1), jnp.ones(1))
    )

    def chosen(threshold):
        learner = BEAR(
            width=32, depth=1, vae_width=32, warmup_steps=500, threshold=threshold, bandwidth=1.0,
            actor_learning_rate=1e-3, critic_learning_rate=3e-3,
        )  # fmt: skip

        @eqx.filter_jit
        def learn(state):
            arrays, rest = eqx.partition(state, eqx.is_array)

            def one(arrays, step):
                key = jax.random.fold_in(KEY, step)
                state, _ = learner.update(eqx.combine(arrays, rest), batch, step=step, key=key)
                return eqx.filter(state, eqx.is_array), None

            return eqx.combine(jax.lax.scan(one, arrays, jnp.arange(3000))[0], rest)

        policy = learner.policy(learn(learner.init(spec, key=KEY)))
        return float(policy.act(jnp.zeros((20, 1)), None, key=KEY)[0].mean())

    kept, free = chosen(0.05), chosen(100.0)
    assert free > 0.5
    assert abs(kept) < 0.3
