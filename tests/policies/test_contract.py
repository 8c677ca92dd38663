"""What every learner owes, on one small problem; a new learner is one more line in LEARNERS."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.normalize import GaussianNormalizer
from langevin.data.sampling import Transitions
from langevin.errors import NoDensityError
from langevin.policies.base import Policy, SystemSpec, has_density
from langevin.policies.bc import BC
from langevin.policies.bcq import BCQ
from langevin.policies.bear import BEAR
from langevin.policies.combo import COMBO
from langevin.policies.cql import CQL
from langevin.policies.diffusion_ql import DiffusionQL
from langevin.policies.iql import IQL
from langevin.policies.sac import SAC
from langevin.policies.td3bc import TD3BC
from langevin.training.checkpoint import Checkpoints, Progress, load_state

TINY_SAC = SAC(width=16, depth=1, actor_learning_rate=3e-3, critic_learning_rate=3e-3)
LEARNERS = {
    "bc": (BC(width=16, depth=1, learning_rate=3e-3), "actor/loss"),
    "td3bc": (TD3BC(width=16, depth=1, learning_rate=3e-3), "critic/loss"),
    "sac": (TINY_SAC, "critic/loss"),
    "cql": (CQL(TINY_SAC), "critic/loss"),
    "combo": (COMBO(CQL(TINY_SAC, weight=0.1), real_rows=32), "critic/loss"),
    "bcq": (BCQ(width=16, depth=1, vae_width=16, learning_rate=3e-3), "critic/loss"),
    "bear": (
        BEAR(
            width=16,
            depth=1,
            vae_width=16,
            warmup_steps=10,
            actor_learning_rate=3e-3,
            critic_learning_rate=3e-3,
        ),
        "critic/loss",
    ),
    "diffusion_ql": (DiffusionQL(width=16, depth=1, learning_rate=3e-3, average_from=10), "critic/loss"),
    "iql": (IQL(width=16, depth=1, learning_rate=3e-3), "critic/loss"),
}
SEEDS, UPDATES = 3, 300
ROWS = 64


def problem():
    """Random states, actions -s/2 inside their bounds, rewards of the size of the state, no future."""
    rng = np.random.default_rng(0)
    observations = jnp.asarray(rng.normal(size=(ROWS, 3)), jnp.float32)
    return Transitions(
        observations=observations,
        actions=jnp.clip(-0.5 * observations[:, :2], -1, 1),
        rewards=jnp.abs(observations[:, 0]),
        terminations=jnp.ones(ROWS),
        next_observations=jnp.asarray(rng.normal(size=(ROWS, 3)), jnp.float32),
    )


BATCH = problem()
SPEC = SystemSpec(3, 2, -jnp.ones(2), jnp.ones(2), GaussianNormalizer.fit(BATCH.observations))


def run_seed(learner, key):
    """Initial state, state after UPDATES updates on the same batch, metrics of each update."""
    init_key, update_key = jax.random.split(key)
    first = learner.init(SPEC, key=init_key)

    def update(state, step):
        return learner.update(state, BATCH, step=step, key=jax.random.fold_in(update_key, step))

    last, metrics = jax.lax.scan(update, first, jnp.arange(UPDATES))
    return first, last, metrics


def keys():
    return jax.random.split(jax.random.key(7), SEEDS)


@pytest.fixture(scope="module", params=LEARNERS)
def trained(request):
    """The learner, its loss's name, and all seeds' training at once."""
    learner, loss = LEARNERS[request.param]
    program = eqx.filter_jit(eqx.filter_vmap(lambda key: run_seed(learner, key)))
    return learner, loss, program(keys())


def arrays(tree):
    return [
        (jax.tree_util.keystr(path), np.asarray(leaf))
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if eqx.is_array(leaf)
    ]


def test_the_loss_falls_for_every_seed(trained):
    _, loss, (_, _, metrics) = trained
    history = np.asarray(metrics[loss])
    assert history.shape == (SEEDS, UPDATES)
    assert np.all(history[:, -10:].mean(axis=1) < 0.2 * history[:, :10].mean(axis=1))


FIXED = ("normalizer", "action_low", "action_high", "schedule", "embedding")
"""What is of the system or of a method's design, and not learned."""
IDLE = ("multiplier",)
"""What moves only under a setting that these learners do not have (CQL's gap)."""


def test_every_parameter_moves_and_the_systems_facts_do_not(trained):
    _, _, (first, last, _) = trained
    for (name, before), (_, after) in zip(arrays(first), arrays(last), strict=True):
        if any(word in name for word in FIXED):
            np.testing.assert_array_equal(before, after, err_msg=name)
        elif np.issubdtype(before.dtype, np.floating) and not any(word in name for word in IDLE):
            moved = (before != after).reshape(SEEDS, -1).mean(axis=1)
            assert np.all(moved > 0.5), name


def test_a_policy_has_a_density_that_integrates_or_says_that_it_has_none(trained):
    """Of the actions in its bounds, by a grid; nobody's density is more than 1 there."""
    learner, _, (_, last, _) = trained
    policy = learner.policy(jax.tree.map(lambda leaf: leaf[0] if eqx.is_array(leaf) else leaf, last))
    if not has_density(policy):
        with pytest.raises(NoDensityError, match=f"{type(policy).__name__} has no density"):
            policy.log_prob(BATCH.observations, BATCH.actions)
        return
    side = (np.arange(600) + 0.5) / 300 - 1
    grid = jnp.asarray(np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2), jnp.float32)
    where = jnp.repeat(BATCH.observations[:1], len(grid), axis=0)
    density = np.exp(np.asarray(eqx.filter_jit(policy.log_prob)(where, grid), np.float64))
    assert 0.05 < density.mean() * 4 < 1.05


def test_metrics_and_states_are_finite_and_metrics_are_named_with_a_prefix(trained):
    _, _, (_, last, metrics) = trained
    assert metrics
    for name, values in metrics.items():
        assert "/" in name
        assert np.isfinite(np.asarray(values)).all(), name
    for name, leaf in arrays(last):
        assert np.isfinite(leaf).all(), name


def test_seeds_side_by_side_equal_each_alone(trained):
    learner, _, (_, last, metrics) = trained
    alone = eqx.filter_jit(lambda key: run_seed(learner, key))(keys()[1])
    for (name, both), (_, single) in zip(arrays(metrics), arrays(alone[2]), strict=True):
        np.testing.assert_allclose(both[1, :50], single[:50], rtol=2e-3, atol=2e-4, err_msg=name)
    # Two programs round differently, and three hundred updates of a learner that draws actions make much of it: most in
    # the optimiser's squared gradients, least in what was learned, where single entries may still part.
    for (name, both), (_, single) in zip(arrays(last), arrays(alone[1]), strict=True):
        if "optimizer" not in name:
            assert np.isclose(both[1], single, rtol=2e-2, atol=2e-2).mean() >= 0.9, name
    first_leaf = arrays(last)[0][1]
    assert not np.allclose(first_leaf[0], first_leaf[1]), "seeds differ from one another"


def test_a_state_comes_back_from_disk_bit_equal(trained, tmp_path):
    _, _, (first, last, _) = trained
    checkpoints = Checkpoints(tmp_path)
    plan = {"seeds": list(range(SEEDS)), "stages": [["policy", UPDATES, None]]}
    checkpoints.save(Progress("policy", 0, UPDATES, True, plan), last)
    path = checkpoints.newest()
    assert path is not None
    restored = load_state(path, first)
    assert eqx.tree_equal(restored, last)


def test_the_policy_acts_on_raw_observations_within_the_bounds_and_repeats_itself(trained):
    learner, _, (_, last, _) = trained
    state = jax.tree.map(lambda leaf: leaf[0] if eqx.is_array(leaf) else leaf, last)
    policy = learner.policy(state)
    assert isinstance(policy, Policy)
    memory = policy.start(ROWS)
    actions, _ = policy.act(100 * BATCH.observations, memory, key=jax.random.key(0))
    again, _ = policy.act(100 * BATCH.observations, memory, key=jax.random.key(0))
    assert actions.shape == (ROWS, 2)
    assert np.all(np.abs(actions) <= 1)
    np.testing.assert_array_equal(actions, again)
    one, _ = policy.act(100 * BATCH.observations[:1], policy.start(1), key=jax.random.key(0))
    np.testing.assert_allclose(one, actions[:1], rtol=1e-4, atol=1e-5)
