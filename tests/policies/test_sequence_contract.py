"""What the learners that are conditioned on outcomes owe, as test_contract.py asks of those that take transitions."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.planners.beam_search import BeamSearch
from langevin.planners.trajectory_transformer import TrajectoryTransformer
from langevin.policies.base import Policy, heeds_rewards
from langevin.policies.decision_transformer import DecisionTransformer
from langevin.policies.rvs import RvS
from langevin.training.algorithms import decision_transformer, rvs, trajectory_transformer
from langevin.training.algorithms.registry import ALGORITHMS, load_settings
from langevin.training.checkpoint import Checkpoints, Progress, load_state
from langevin.training.presets import from_toml, to_toml
from langevin.training.programs import COMPILE_QUICKLY
from tests.policies.toy_episodes import joined, system_of_log

SEEDS, UPDATES, ROWS = 2, 150, 12
SETTINGS = {
    "rvs": (
        rvs.RvSConfig(steps=UPDATES, condition="return", batch_size=32, learner=RvS(1e-2, width=16, depth=1)),
        "actor/loss",
    ),
    "decision_transformer": (
        decision_transformer.DecisionTransformerConfig(
            UPDATES, batch_size=16,
            learner=DecisionTransformer(
                context=3, layers=1, heads=2, width=16, steps=6, learning_rate=1e-2, warmup_steps=5
            ),
        ),
        "actor/loss",
    ),
    "trajectory_transformer": (
        trajectory_transformer.TrajectoryTransformerConfig(
            UPDATES, bins=6, history=1,
            model=TrajectoryTransformer(
                context=3, layers=1, heads=2, width=16, batch_size=16, learning_rate=1e-2, warmup_steps=5
            ),
            search=BeamSearch(horizon=2, width=3, expand=2, top_actions=2),
        ),
        "world_model/loss",
    ),
}  # fmt: skip


def log():
    """States that go round a circle and actions that follow from them."""
    angles = np.random.default_rng(0).uniform(0, 6, (20, 1)) + 0.5 * np.arange(7)
    states = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    actions = 0.8 * states[:, :-1].reshape(-1, 2)
    return joined(states, actions, actions[:, 0])


@pytest.fixture(scope="module", params=SETTINGS)
def trained(request):
    """The name, its stage, its loss's name, and all seeds' training at once beside one alone."""
    settings, loss = SETTINGS[request.param]
    algorithm = ALGORITHMS[request.param]
    stage = algorithm.stages(settings, system_of_log(log()))[0]
    data = algorithm.prepare(settings, log())

    def run_seed(key):
        first = stage.init(data, {}, key=key)

        def update(state, step):
            return stage.update(state, data, {}, step=step, key=jax.random.fold_in(key, step))

        return first, *jax.lax.scan(update, first, jnp.arange(UPDATES))

    keys = jax.random.split(jax.random.key(7), SEEDS)
    together, alone = (
        eqx.filter_jit(program, compiler_options=COMPILE_QUICKLY)  # pyright: ignore[reportCallIssue]
        for program in (eqx.filter_vmap(run_seed), run_seed)
    )
    return request.param, stage, loss, together(keys), alone(keys[1])


def arrays(tree):
    return [
        (jax.tree_util.keystr(path), np.asarray(leaf))
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if eqx.is_array(leaf)
    ]


def test_the_loss_falls_for_every_seed(trained):
    _, _, loss, (_, _, metrics), _ = trained
    history = np.asarray(metrics[loss])
    assert np.isfinite(history).all()
    assert np.all(history[:, -20:].mean(axis=1) < 0.6 * history[:, :5].mean(axis=1))


def test_every_parameter_moves_and_the_systems_facts_do_not(trained):
    _, _, _, (first, last, _), _ = trained
    moved = 0
    for (name, before), (_, after) in zip(arrays(first), arrays(last), strict=True):
        if any(
            word in name
            for word in ("normalizer", "action_", "discretizer", "return_scale", "target", "command")
        ):
            np.testing.assert_array_equal(before, after, err_msg=name)
        elif ".network" in name or ".model" in name:
            assert np.all((before != after).reshape(SEEDS, -1).mean(axis=1) > 0.5), name
            moved += 1
    assert moved >= 4


def test_seeds_side_by_side_equal_each_alone_and_differ(trained):
    _, _, loss, (_, last, metrics), (_, _, alone) = trained
    np.testing.assert_allclose(metrics[loss][1][:20], alone[loss][:20], rtol=1e-3, atol=1e-4)
    name, leaf = max(arrays(last), key=lambda pair: pair[1].size)
    assert not np.allclose(leaf[0], leaf[1]), name


def test_a_state_comes_back_from_disk_bit_equal(trained, tmp_path):
    _, _, _, (first, last, _), _ = trained
    checkpoints = Checkpoints(tmp_path)
    plan = {"seeds": list(range(SEEDS)), "stages": [["policy", UPDATES, None]]}
    checkpoints.save(Progress("policy", 0, UPDATES, True, plan), last)
    path = checkpoints.newest()
    assert path is not None
    assert eqx.tree_equal(load_state(path, first), last)


def test_a_states_form_is_known_without_the_dataset(trained):
    """A run is read back with blank data of another length."""
    name, stage, _, _, (first, _, _) = trained
    blank = ALGORITHMS[name].prepare(SETTINGS[name][0], system_of_log(log()).blank_data(50))
    like = eqx.filter_eval_shape(lambda key: stage.init(blank, {}, key=key), jax.random.key(0))
    shapes = [[(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)] for tree in (like, first)]
    assert shapes[0] == shapes[1]


def test_the_policy_acts_within_the_bounds_and_repeats_itself_for_one_as_for_many(trained):
    name, stage, _, _, (_, state, _) = trained
    policy = stage.policy(state, {})
    assert isinstance(policy, Policy)
    assert heeds_rewards(policy) == (name != "rvs")
    act, observe = eqx.filter_jit(policy.act), eqx.filter_jit(policy.observe)
    observations = 100 * jax.random.normal(jax.random.key(0), (ROWS, 2))
    first, again, alone = policy.start(ROWS), policy.start(ROWS), policy.start(1)
    for step in range(3):
        key, rewards = jax.random.key(step), jnp.arange(ROWS, dtype=jnp.float32)
        actions, first = act(observations, first, key=key)
        repeated, again = act(observations, again, key=key)
        one, alone = act(observations[:1], alone, key=key)
        assert actions.shape == (ROWS, 2)
        assert np.all(np.abs(actions) <= 1)
        np.testing.assert_array_equal(actions, repeated)
        if name != "trajectory_transformer":  # whose draws differ with the number of systems
            np.testing.assert_allclose(one, actions[:1], rtol=1e-4, atol=1e-5)
        first, again, alone = (
            observe(memory, earned)
            for memory, earned in ((first, rewards), (again, rewards), (alone, rewards[:1]))
        )


@pytest.mark.parametrize("preset", ["cpu", "paper"])
@pytest.mark.parametrize("name", SETTINGS)
def test_presets_are_read_and_survive_the_run_folder(name, preset):
    for dataset in ("pointmaze/umaze-v0", "hopper/medium-v0"):
        settings = load_settings(name, None, preset, dataset, {})
        assert from_toml(type(settings), to_toml(settings)) == settings


def test_presets_choose_the_condition_and_the_target_by_the_dataset():
    condition = lambda dataset: load_settings("rvs", None, "cpu", dataset, {}).condition
    assert (condition("pointmaze/large-v0"), condition("walker2d/medium-v0")) == ("goal", "return")
    targets = {"hopper": 3600, "halfcheetah": 12000, "walker2d": 5000, "pointmaze": None}
    for owner, target in targets.items():
        settings = load_settings("decision_transformer", None, "paper", f"{owner}/medium-v0", {})
        assert settings.learner.target_return == target


def test_paper_presets_are_the_published_networks():
    assert (
        load_settings("decision_transformer", None, "paper", "pointmaze/umaze-v0", {}).learner
        == DecisionTransformer()
    )
    published = load_settings("rvs", None, "paper", "hopper/medium-v0", {}).learner
    assert published == RvS()
    model = load_settings("trajectory_transformer", None, "paper", "hopper/medium-v0", {}).model
    assert model == TrajectoryTransformer()
