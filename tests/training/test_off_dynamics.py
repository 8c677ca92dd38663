"""The off-dynamics planner end to end, on a system whose target does the opposite of what its source does."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.trajectories import Trajectories
from langevin.diffusion.chain_sampler import ChainSampling
from langevin.diffusion.training import DiffusionOptimizer
from langevin.dynamics.domain_classifier import DomainTraining
from langevin.dynamics.inverse import InverseTraining
from langevin.envs.tasks import logged_task
from langevin.errors import UsageError
from langevin.planners.off_dynamics import init_planner, stratified_batch
from langevin.planners.off_dynamics_contexts import CONTEXTS
from langevin.planners.receding import RecedingPlanner
from langevin.planners.slider import with_contexts
from langevin.planners.window_diffusion import Chain, WindowTraining
from langevin.training.algorithms import off_dynamics
from langevin.training.algorithms.off_dynamics import OffDynamicsConfig, context_bounds, remarks
from langevin.training.algorithms.registry import find_algorithm, load_settings
from langevin.training.algorithms.system import system_of
from langevin.training.loop import train
from langevin.training.presets import from_toml, to_toml
from langevin.training.results import load_results

STEPS, SEEDS, LENGTH = 600, (0, 1), 5
CONFIG = OffDynamicsConfig(
    steps=STEPS, classifier_steps=200, inverse_steps=200,
    planner=WindowTraining(
        process="ddpm", chain=Chain(10, "cosine", "clean"), normalizer="gaussian", horizon=3, width=16,
        multipliers=(1,), kernel=3, batch_size=32, first_action_weight=3.0,
        optimizer=DiffusionOptimizer(1e-2, 20, average_decay=0.98),
    ),
    sampling=ChainSampling("ancestral", 10),
    classifier=DomainTraining(16, 1, 64, 1e-2),
    inverse=InverseTraining(16, 1, 64, 1e-2),
)  # fmt: skip


def log(sign, episodes, seed):
    """A point pushed to either side, rewarded for going right; the source goes where it is pushed, the target the
    other way."""
    rng = np.random.default_rng(seed)
    pushes = rng.choice([-0.8, 0.8], (episodes, 1)) + 0.1 * rng.normal(size=(episodes, LENGTH))
    pushes = np.clip(pushes, -1, 1)
    states = np.zeros((episodes, LENGTH + 1, 2))
    states[:, 1:, 0] = np.cumsum(0.3 * sign * pushes, axis=1)
    states[..., 0] += rng.normal(size=(episodes, 1))
    states[..., 1] = rng.normal(size=(episodes, LENGTH + 1))
    rows, ends = episodes * LENGTH, LENGTH * np.arange(1, episodes + 1)
    return Trajectories(
        observations=states[:, :-1].reshape(rows, 2), actions=pushes.reshape(rows, 1),
        rewards=np.diff(states[..., 0], axis=1).reshape(rows), terminations=np.zeros(rows, bool),
        truncations=np.isin(np.arange(1, rows + 1), ends), next_observations=states[:, 1:].reshape(rows, 2),
        episode_ends=ends, action_low=-np.ones(1), action_high=np.ones(1),
    )  # fmt: skip


SOURCE, TARGET = log(1, 300, 0), log(-1, 40, 1)
SYSTEM = system_of(logged_task(2, -np.ones(1, np.float32), np.ones(1, np.float32)), SOURCE, TARGET)
DATA = off_dynamics.prepare(CONFIG, SOURCE, TARGET)
STAGES = off_dynamics.stages(CONFIG, SYSTEM)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def trained(folder):
    return train(STAGES, DATA, SEEDS, folder, chunk_steps=200)


def mean_action(policy, values, start=0.0):
    policy = with_contexts(policy, context_bounds(CONFIG), values)
    observations = jnp.stack([jnp.full(32, start), jnp.linspace(-1, 1, 32)], axis=-1)
    actions, _ = eqx.filter_jit(policy.act)(observations, policy.start(32), key=jax.random.key(0))
    assert np.abs(actions).max() <= 1
    return float(actions.mean())


def one_policy(result, index=0):
    policies = result.policies(STAGES)
    return jax.tree.map(lambda leaf: leaf[index] if eqx.is_array(leaf) else leaf, policies)


@pytest.mark.parametrize("index", range(len(SEEDS)))
def test_it_acts_for_the_system_it_is_told_of_and_not_for_the_one_with_more_data(trained, index):
    """To go right is a push to the right in the source, of which there are seven times as many rows, and to the left
    in the target, which is what it plans for unless it is told otherwise."""
    policy = one_policy(trained, index)
    assert mean_action(policy, {}) < -0.4
    assert mean_action(policy, {"dynamics": 1.0, "return": 1.0}) < -0.4
    assert mean_action(policy, {"dynamics": -1.0, "inverse": np.log(2) / 2}) > 0.4
    assert mean_action(policy, {"return": 0.0}) > 0.4, "the worst return in the target"


def test_a_run_comes_back_from_disk_without_its_data(trained, folder):
    blank = SYSTEM.blank_data(100)
    again = load_results(folder, STAGES, off_dynamics.prepare(CONFIG, blank, blank), SEEDS)
    assert eqx.tree_equal(again.states, trained.states)
    assert mean_action(one_policy(again), {}) == mean_action(one_policy(trained), {})


def test_seeds_differ_and_their_scales_are_those_of_all_the_data(trained):
    planner = trained.states["policy"]
    largest = max(
        jax.tree.leaves(eqx.filter(planner.windows.network, eqx.is_array)), key=lambda leaf: leaf.size
    )
    assert not np.allclose(largest[0], largest[1])
    returns = np.concatenate([np.asarray(system.returns) for system in (DATA.source, DATA.target)])
    np.testing.assert_allclose(planner.scales.returns.low, returns.min(), rtol=1e-6)
    np.testing.assert_allclose(planner.scales.returns.high, returns.max(), rtol=1e-6)
    typical = np.asarray(planner.diagnostics.typical)[:, :, CONTEXTS.index("dynamics")]
    assert np.all(typical[:, 0] < -0.5)
    assert np.all(typical[:, 1] > 0.5)


def test_a_score_of_the_dynamics_alone_does_not_tell_who_acted(tmp_path):
    """One system twice, of which one was only ever pushed to the left: its rows tell, their dynamics do not."""
    left = log(1, 200, 3)
    rows = left.actions[:, 0] < 0
    chosen = dataclasses.replace(CONFIG, score="dynamics")
    system = off_dynamics.prepare(chosen, SOURCE, left)
    pushed_left = jax.tree.map(lambda leaf: leaf[np.flatnonzero(rows)], system.target.transitions)
    system = eqx.tree_at(lambda s: s.taught, system, pushed_left)
    stage = off_dynamics.classifier_stage(chosen)
    result = train([stage], system, (0,), tmp_path, chunk_steps=200)
    classifier = jax.tree.map(
        lambda leaf: leaf[0] if eqx.is_array(leaf) else leaf, result.states["classifier"]
    )
    sure = np.abs(np.asarray(classifier.transition.probability(pushed_left)) - 0.5).mean()
    of_dynamics = np.abs(np.asarray(classifier.probability(pushed_left)) - 0.5).mean()
    assert of_dynamics < sure / 2


@pytest.fixture(scope="module")
def begun(trained):
    results = jax.tree.map(lambda leaf: leaf[0] if eqx.is_array(leaf) else leaf, trained.states)
    training = dataclasses.replace(CONFIG.planner, contexts=3)
    init = eqx.filter_jit(init_planner)
    return init(
        training, DATA, results["classifier"], results["inverse"], CONFIG.epsilon, key=jax.random.key(0)
    )


def test_a_batch_is_half_of_each_system_and_every_window_has_its_own_contexts(begun):
    batch, contexts = stratified_batch(DATA, begun, 4_000, key=jax.random.key(1))
    domain = np.asarray(contexts[:, CONTEXTS.index("domain")])
    np.testing.assert_array_equal(domain, np.repeat([-1, 1], 2_000))
    moved = np.asarray(batch.observations[:, 1:, 0] - batch.observations[:, :-1, 0])
    np.testing.assert_allclose(
        moved, -0.3 * domain[:, None] * np.asarray(batch.actions[:, :-1, 0]), atol=1e-5
    )
    total = (0.99 ** np.arange(3) * np.asarray(batch.rewards)).sum(axis=1)
    shares = np.asarray(begun.scales.returns.share(jnp.asarray(total)))
    np.testing.assert_allclose(contexts[:, CONTEXTS.index("return")], shares, atol=1e-5)
    assert len(np.unique(np.asarray(batch.observations[2_000:, 0, 1]))) > 0.9 * DATA.target.windows.size


def test_an_update_is_told_the_contexts_that_were_asked_for_and_no_others(begun):
    """The return alone is learned from: whatever the other contexts hold, the step is the same."""
    config = dataclasses.replace(CONFIG, contexts=("return",))
    stage = off_dynamics.stages(config, SYSTEM)[-1]
    blind = eqx.tree_at(
        lambda s: s.windows, begun,
        eqx.filter_jit(dataclasses.replace(CONFIG.planner, contexts=1).init)(
            DATA.source.windows.observations, DATA.source.windows.actions, key=jax.random.key(0)
        ),
    )  # fmt: skip
    update = eqx.filter_jit(stage.update)

    def step(state):
        return update(state, DATA, {}, step=jnp.int32(0), key=jax.random.key(2))[0].windows

    changed = [
        eqx.tree_at(
            lambda s: (s.source, s.target),
            blind,
            (blind.source.at[:, i].add(1), blind.target.at[:, i].add(1)),
        )
        for i in (CONTEXTS.index("dynamics"), CONTEXTS.index("return"))
    ]
    plain = step(blind)
    assert eqx.tree_equal(step(changed[0]), plain)
    assert not eqx.tree_equal(step(changed[1]), plain)


def test_the_inverse_action_is_executed_when_asked_for(trained):
    results = {name: jax.tree.map(lambda leaf: leaf[0] if eqx.is_array(leaf) else leaf, state)
               for name, state in trained.states.items()}  # fmt: skip
    policies = [
        off_dynamics.stages(dataclasses.replace(CONFIG, action=action), SYSTEM)[-1].policy(results["policy"], results)
        for action in ("planned", "inverse")
    ]  # fmt: skip
    assert [isinstance(policy, RecedingPlanner) and policy.inverse is not None for policy in policies] == [
        False,
        True,
    ]
    assert policies[0].context_weight == 0.9


def test_remarks_speak_of_a_saturated_classifier_alone():
    record = lambda share: [{"stage": "policy", "contexts/saturated": share}, {"planner/loss": 1.0}]
    assert remarks(record(0.5)) == []
    assert remarks([{"planner/loss": 1.0}]) == []
    assert "97% of the windows" in remarks(record(0.97))[0]


def test_the_slider_sets_what_is_named_and_keeps_the_rest(trained):
    policies, bounds = trained.policies(STAGES), context_bounds(CONFIG)
    moved = with_contexts(policies, bounds, {"dynamics": 0.5})
    np.testing.assert_allclose(moved.contexts, np.tile([1, 0.5, 0], (2, 1)))
    np.testing.assert_allclose(policies.contexts, np.tile([1, 1, 0], (2, 1)))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"dynamic": 1.0}, "is told return, dynamics, inverse, and nothing called 'dynamic'"),
        ({"return": 1.5}, "context return lies between 0 and 1, got 1.5"),
        ({"dynamics": float("nan")}, "context dynamics lies between -1 and 1, got nan"),
    ],
)
def test_what_the_slider_cannot_be_set_to_is_refused(trained, values, words):
    with pytest.raises(UsageError, match=words):
        with_contexts(one_policy(trained), context_bounds(CONFIG), values)


def test_a_planner_that_is_told_nothing_has_no_slider(trained):
    deaf = eqx.tree_at(lambda p: p.contexts, one_policy(trained), None)
    with pytest.raises(UsageError, match="told no contexts"):
        with_contexts(deaf, {}, {"return": 1.0})


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"replan_every": 4}, "replan_every must be at most 3 with planned actions"),
        ({"replan_every": 3, "action": "inverse"}, "replan_every must be at most 2 with inverse actions"),
        ({"contexts": ()}, "contexts must name at least one"),
        ({"contexts": ("return", "return")}, "each once"),
        ({"epsilon": 0.0}, "epsilon must lie between 0 and 1"),
        ({"discount": 1.5}, "discount must lie between 0 and 1"),
        ({"guidance": -1.0}, "guidance must be at least 0"),
        ({"planner": dataclasses.replace(CONFIG.planner, batch_size=5)}, "must be even"),
        ({"planner": dataclasses.replace(CONFIG.planner, process="edm")}, "planner.process must be ddpm"),
        ({"planner": dataclasses.replace(CONFIG.planner, stride=2)}, "planner.stride must be 1"),
        ({"planner": dataclasses.replace(CONFIG.planner, plans_actions=False)}, "plans_actions must be True"),
    ],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused(changed, words):
    with pytest.raises(UsageError, match=words):
        dataclasses.replace(CONFIG, **changed)


def test_more_steps_than_the_chain_has_are_refused_before_anything_is_trained():
    steps = CONFIG.planner.chain.steps + 1
    config = dataclasses.replace(CONFIG, sampling=ChainSampling(steps=steps))
    with pytest.raises(UsageError, match=f"steps must lie between 1 and {steps - 1}, got {steps}"):
        off_dynamics.stages(config, SYSTEM)


@pytest.mark.parametrize("preset", ["cpu", "paper"])
@pytest.mark.parametrize("robot", ["hopper", "halfcheetah", "walker2d"])
def test_presets_are_read_and_survive_the_run_folder(preset, robot):
    settings = load_settings("off_dynamics", None, preset, f"{robot}/medium-expert-v0", {})
    assert from_toml(type(settings), to_toml(settings)) == settings
    assert (settings.planner.horizon == 4) == (robot == "halfcheetah")
    assert (settings.guidance, settings.planner.drop_probability) == (0.9, 0.5)


def test_it_takes_no_other_way_of_learning_from_two_datasets():
    assert find_algorithm("off_dynamics").takes_target
    with pytest.raises(UsageError, match="learns from both datasets by itself"):
        find_algorithm("off_dynamics", "dara")
