"""The planners without a goal, of a point that is paid for where it is: that they plan for more, and their contract.

Contract: as tests/policies/test_contract.py asks of learners of transitions.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.diffusion.chain_sampler import ChainSampler, ChainSampling
from langevin.diffusion.samplers import Sampler
from langevin.diffusion.training import DiffusionOptimizer
from langevin.dynamics.inverse import InverseTraining
from langevin.errors import UsageError
from langevin.planners.dmemm import DMEMMTraining
from langevin.planners.dual_guidance import DualGuidance
from langevin.planners.plan_value import ValueTraining
from langevin.planners.value_guidance import ValueGuidance
from langevin.planners.window_diffusion import Chain, WindowTraining
from langevin.policies.base import Policy
from langevin.training.algorithms import decision_diffuser, diffuser, dmemm, veteran
from langevin.training.algorithms.registry import ALGORITHMS, find_algorithm, label_of, load_settings
from langevin.training.checkpoint import Checkpoints, Progress, load_state
from langevin.training.presets import from_toml, to_toml
from langevin.training.programs import COMPILE_QUICKLY
from tests.policies.toy_episodes import joined, system_of_log

SEEDS, UPDATES = 2, 400
OPTIMIZER = DiffusionOptimizer(learning_rate=1e-2, warmup_steps=10, average_decay=0.98)
PLANNER = WindowTraining(
    OPTIMIZER, process="ddpm", chain=Chain(6), normalizer="gaussian", horizon=4, width=8, multipliers=(1,), kernel=3,
    batch_size=64,
)  # fmt: skip
STATES = dataclasses.replace(PLANNER, plans_actions=False)
VALUE = ValueTraining(OPTIMIZER, discount=1.0, width=8, multipliers=(1,), kernel=3)
INVERSE = InverseTraining(width=16, depth=1, batch_size=64, learning_rate=1e-2)
SAMPLING = ChainSampling(steps=6)
SETTINGS = {
    "diffuser": diffuser.DiffuserConfig(
        UPDATES, PLANNER, sampling=SAMPLING, replan_every=2, value=VALUE, candidates=1,
        guidance=ValueGuidance(scale=12.0, unguided_steps=1),
    ),
    "decision_diffuser": decision_diffuser.DecisionDiffuserConfig(
        UPDATES, UPDATES, dataclasses.replace(STATES, contexts=1, drop_probability=0.25), SAMPLING, INVERSE, 1.0,
    ),
    "veteran": veteran.VeteranConfig(
        UPDATES, UPDATES, dataclasses.replace(STATES, stride=2), ChainSampling("ddim", 6), INVERSE,
        dataclasses.replace(VALUE, noised=False), candidates=16,
    ),
    "dmemm": dmemm.DMEMMConfig(
        steps=UPDATES, dynamics_steps=0, reward_steps=0, sampling=SAMPLING, guidance=DualGuidance(scale=0.0),
        planner=DMEMMTraining(PLANNER, return_weights=False, transition_weight=0.0, reward_weight=0.0),
        value=VALUE, value_guidance=ValueGuidance(scale=12.0, unguided_steps=1), replan_every=2,
    ),
}  # fmt: skip
LOSSES = {
    "diffuser": ["planner/loss", "value/loss"],
    "decision_diffuser": ["planner/loss"],
    "veteran": ["planner/loss", "value/loss"],
    "dmemm": ["planner/loss"],
}
PUSH = 0.3


def log(episodes=150, length=9):
    """A point that one push an episode, anywhere in [-1, 1], drives from the middle, paid for where it comes to."""
    pushes = np.random.default_rng(0).uniform(-1, 1, episodes)
    states = PUSH * pushes[:, None, None] * np.arange(length + 1)[None, :, None]
    return joined(states, np.repeat(pushes, length)[:, None], states[:, 1:, 0].ravel())


def stages_of(name, settings=None):
    return ALGORITHMS[name].stages(settings or SETTINGS[name], system_of_log(log()))


LONG_TO_COMPILE = ("decision_diffuser", "veteran")


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=pytest.mark.slow) if name in LONG_TO_COMPILE else name for name in SETTINGS
    ],
)
def trained(request):
    """The name, and of all seeds' training at once beside one alone: first states, last states, metrics, by stage."""
    name = request.param
    stages, data = stages_of(name), ALGORITHMS[name].prepare(SETTINGS[name], log())

    def run_seed(key):
        results, firsts, metrics = {}, {}, {}
        for number, stage in enumerate(stages):
            stage_key = jax.random.fold_in(key, number)
            state = firsts[stage.name] = stage.init(data, results, key=stage_key)

            def update(state, step, stage=stage, stage_key=stage_key):
                return stage.update(state, data, results, step=step, key=jax.random.fold_in(stage_key, step))

            state, metrics[stage.name] = jax.lax.scan(update, state, jnp.arange(UPDATES))
            results[stage.name] = stage.finish(state, data, results) if stage.finish else state
        return firsts, results, metrics

    keys = jax.random.split(jax.random.key(7), SEEDS)
    together, alone = (
        eqx.filter_jit(program, compiler_options=COMPILE_QUICKLY)  # pyright: ignore[reportCallIssue]
        for program in (eqx.filter_vmap(run_seed), run_seed)
    )
    return name, stages[-1], together(keys), alone(keys[1])


def one(tree, seed=0):
    return jax.tree.map(lambda leaf: leaf[seed] if eqx.is_array(leaf) else leaf, tree)


def policy_of(trained, **changed):
    """The policy of one seed under changed settings."""
    name, _, (_, results, _), _ = trained
    stage = stages_of(name, dataclasses.replace(SETTINGS[name], **changed))[-1]
    results = one(results)
    return stage.policy(results["policy"], results)


@eqx.filter_jit
def driven(policy, key):
    """Where 64 points that begin in the middle come to in 6 steps of the true system."""

    def step(carry, step_key):
        states, memory = carry
        actions, memory = policy.act(states, memory, key=step_key)
        return (states + PUSH * actions, memory), None

    start = jnp.zeros((64, 1)), policy.start(64)
    return jax.lax.scan(step, start, jax.random.split(key, 6))[0][0][:, 0]


def test_plans_are_driven_to_where_more_is_paid(trained):
    """Pushed at random a point stays about the middle; the best push of the data comes to 1.8."""
    name = trained[0]
    least = {
        "diffuser": {"guidance": ValueGuidance(scale=0.0), "candidates": 1},
        "decision_diffuser": {"guidance": 0.0},
        "veteran": {"candidates": 1},
        "dmemm": {"value_guidance": ValueGuidance(scale=0.0)},
    }
    came_to, without = (
        np.asarray(driven(policy, jax.random.key(0)))
        for policy in (policy_of(trained), policy_of(trained, **least[name]))
    )
    assert abs(without.mean()) < 0.4
    assert came_to.mean() > 0.7
    assert came_to.mean() > without.mean() + 0.4
    if name == "decision_diffuser":
        worst = driven(policy_of(trained, target_return=-1.0), jax.random.key(0))
        assert np.mean(worst) < -0.8
    if name in ("diffuser", "dmemm"):
        chosen = driven(policy_of(trained, **least[name] | {"candidates": 16}), jax.random.key(0))
        assert np.mean(chosen) > without.mean() + 0.3, "the best of many plans is worth more than any one"


def arrays(tree):
    return [
        (jax.tree_util.keystr(path), np.asarray(leaf))
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if eqx.is_array(leaf)
    ]


def test_the_loss_falls_for_every_seed(trained):
    name, _, (_, _, metrics), _ = trained
    for loss in LOSSES[name]:
        history = np.asarray(metrics["policy"][loss])
        assert np.isfinite(history).all()
        assert np.all(history[:, -50:].mean(axis=1) < 0.7 * history[:, :10].mean(axis=1)), loss


def test_every_parameter_moves_and_the_systems_facts_do_not(trained):
    _, _, (firsts, results, _), _ = trained
    moved = 0
    for (name, before), (_, after) in zip(arrays(firsts["policy"]), arrays(results["policy"]), strict=True):
        if "windows.scale" in name or ".returns" in name:
            np.testing.assert_array_equal(before, after, err_msg=name)
        elif ".network" in name:
            assert np.all((before != after).reshape(SEEDS, -1).mean(axis=1) > 0.5), name
            moved += 1
    assert moved >= 20


def test_seeds_side_by_side_equal_each_alone_and_differ(trained):
    name, _, (_, results, metrics), (_, _, alone) = trained
    for loss in LOSSES[name]:
        np.testing.assert_allclose(
            metrics["policy"][loss][1][:10], alone["policy"][loss][:10], rtol=1e-3, atol=1e-4
        )
    largest, leaf = max(arrays(results["policy"]), key=lambda pair: pair[1].size)
    assert not np.allclose(leaf[0], leaf[1]), largest


def test_a_state_comes_back_from_disk_bit_equal(trained, tmp_path):
    _, _, (firsts, results, _), _ = trained
    checkpoints = Checkpoints(tmp_path)
    plan = {"seeds": list(range(SEEDS)), "stages": [["policy", UPDATES, None]]}
    checkpoints.save(Progress("policy", 0, UPDATES, True, plan), results["policy"])
    path = checkpoints.newest()
    assert path is not None
    assert eqx.tree_equal(load_state(path, firsts["policy"]), results["policy"])


def test_a_states_form_is_known_without_the_dataset(trained):
    """A run is read back with blank data of another length."""
    name, stage, _, (first, _, _) = trained
    blank = ALGORITHMS[name].prepare(SETTINGS[name], system_of_log(log()).blank_data(50))
    like = eqx.filter_eval_shape(lambda key: stage.init(blank, {}, key=key), jax.random.key(0))
    shapes = [
        [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)] for tree in (like, first["policy"])
    ]
    assert shapes[0] == shapes[1]


def test_the_policy_acts_within_the_bounds_and_repeats_itself(trained):
    policy = policy_of(trained)
    assert isinstance(policy, Policy)
    act = eqx.filter_jit(policy.act)
    observations = 100 * jax.random.normal(jax.random.key(0), (64, 1))
    memory = policy.start(64)
    for step in range(3):
        actions, after = act(observations, memory, key=jax.random.key(step))
        again, _ = act(observations, memory, key=jax.random.key(step))
        assert actions.shape == (64, 1)
        assert np.all(np.abs(actions) <= 1)
        np.testing.assert_array_equal(actions, again)
        memory = after


@pytest.mark.parametrize("preset", ["cpu", "paper"])
@pytest.mark.parametrize("name", SETTINGS)
def test_presets_are_read_build_their_stages_and_survive_the_run_folder(name, preset):
    system = system_of_log(log())
    for dataset in ("hopper/medium-v0", "halfcheetah/medium-v0", "pointmaze/umaze-v0", "tank/mine-v0"):
        settings = load_settings(name, None, preset, dataset, {})
        assert from_toml(type(settings), to_toml(settings)) == settings
        if name not in ("diffuser", "dmemm") or "pointmaze" not in dataset:
            assert [stage.name for stage in ALGORITHMS[name].stages(settings, system)][-1] == "policy"


def test_names_in_tables():
    assert [label_of(name, None) for name in SETTINGS] == [
        "Diffuser",
        "Decision Diffuser",
        "Diffusion Veteran-like",
        "DMEMM",
    ]
    assert label_of("diffuser", None, "finetune") == "Diffuser + fine-tuned"


def test_plans_to_a_goal_are_drawn_by_the_process_they_were_learned_by():
    samplers = [
        diffuser.goal_sampler(
            load_settings("diffuser", None, "cpu", "pointmaze/umaze-v0", {"planner.process": process})
        )
        for process in ("edm", "ddpm")
    ]
    assert [type(sampler) for sampler in samplers] == [Sampler, ChainSampler]


def test_diffuser_plans_to_a_goal_in_a_maze_and_by_value_elsewhere():
    forms = {
        dataset: load_settings("diffuser", None, "cpu", dataset, {}).to_a_goal
        for dataset in (
            "pointmaze/large-v0",
            "pointmaze/multi-umaze-v0",
            "walker2d/medium-v0",
            "tank/mine-v0",
        )
    }
    assert list(forms.values()) == [True, True, False, False]


@pytest.mark.parametrize(
    ("name", "bad", "words"),
    [
        ("diffuser", {"replan_every": 0}, "replan_every must be at least 1, got 0"),
        (
            "diffuser",
            {"replan_every": 9},
            "replan_every must be at most 8, the steps for which a plan of 8 rows",
        ),
        ("diffuser", {"candidates": 0}, "candidates must be at least 1, got 0"),
        ("diffuser", {"planner.process": "edm"}, "set planner.process to ddpm, not edm"),
        ("diffuser", {"value.noised": False}, "value.noised must be true"),
        ("diffuser", {"guidance.scale": -1.0}, "scale must be at least 0"),
        ("decision_diffuser", {"planner.contexts": 0}, "planner.contexts must be 1, the return"),
        ("decision_diffuser", {"planner.plans_actions": True}, "planner.plans_actions must be false"),
        ("decision_diffuser", {"guidance": -0.5}, "guidance must be at least 0"),
        ("veteran", {"value.noised": True}, "value.noised must be false"),
        ("veteran", {"planner.goal_size": 2}, "planner.goal_size must be 0, .* got 2"),
        ("veteran", {"replan_every": 30}, "replan_every must be at most 29"),
    ],
)
def test_settings_that_cannot_work_are_refused(name, bad, words):
    with pytest.raises(UsageError, match=words):
        load_settings(name, None, "cpu", "hopper/medium-v0", bad)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (
            {"planner.goal_size": 2, "planner.process": "ddpm"},
            "planner.goal_size is 2, and task logged .*set it to 0",
        ),
        ({"sampling.steps": 50}, "steps must lie between 1 and 20, got 50"),
    ],
)
def test_settings_that_do_not_fit_the_task_or_the_chain_are_refused_before_training(bad, words):
    settings = load_settings("diffuser", None, "cpu", "hopper/medium-v0", bad)
    with pytest.raises(UsageError, match=words):
        stages_of("diffuser", settings)


def test_fine_tuning_goes_on_on_the_targets_windows_with_the_sources_scales():
    fine = find_algorithm("diffuser", "finetune")
    settings = fine.config_class(None)(
        **{
            field.name: getattr(SETTINGS["diffuser"], field.name)
            for field in dataclasses.fields(diffuser.DiffuserConfig)
        }
    )
    assert settings.finetune_steps == 10_000, "off-dynamics planner, Table I"
    source, target = log(), log(episodes=20)
    target = dataclasses.replace(target, rewards=5 * target.rewards)
    first, second = fine.stages(settings, system_of_log(source))
    assert [(stage.name, stage.steps) for stage in (first, second)] == [
        ("source", UPDATES),
        ("policy", 10_000),
    ]
    data = fine.prepare(settings, source, target)
    make = eqx.filter_jit(first.init, compiler_options=COMPILE_QUICKLY)
    state = make(data, {}, key=jax.random.key(0))
    begun = second.init(data, {"source": state}, key=jax.random.key(9))
    assert eqx.tree_equal(begun, state)

    def go_on(data):
        return second.update(begun, data, {}, step=jnp.int32(0), key=jax.random.key(1))[0]

    update = eqx.filter_jit(go_on, compiler_options=COMPILE_QUICKLY)
    after = update(data)
    assert eqx.tree_equal(
        (after.windows.scale, after.value.returns), (state.windows.scale, state.value.returns)
    )
    for part in (lambda s: s.windows.diffusion.average, lambda s: s.value.learned.average):
        assert not eqx.tree_equal(part(after), part(state))
    other = eqx.tree_at(lambda d: d.source.windows.actions, data, -data.source.windows.actions)
    assert eqx.tree_equal(update(other), after), "the source has no say any more"


@pytest.mark.parametrize("name", ["decision_diffuser", "veteran", "mppi"])
def test_what_cannot_be_fine_tuned_says_who_can(name):
    with pytest.raises(
        UsageError, match=f"{name} cannot learn from a source and a target; choose one of .*diffuser"
    ):
        find_algorithm(name, "finetune")
    with pytest.raises(UsageError, match=r"choose one of bc, .*diffusion_ql$"):
        find_algorithm("diffuser", "dara")
