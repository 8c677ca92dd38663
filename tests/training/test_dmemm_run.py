"""DMEMM end to end on small logs: its stages, what ablations leave out, seeds, resuming, and the policy from disk."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_log import small_log, small_system

from langevin.diffusion.levels import unmoved
from langevin.envs.tasks import get_task
from langevin.errors import UsageError
from langevin.planners.goal_planner import PlannerPolicy
from langevin.planners.receding import RecedingPlanner
from langevin.policies.base import heeds_rewards
from langevin.training.algorithms.registry import ALGORITHMS, label_of, load_settings
from langevin.training.algorithms.system import System
from langevin.training.loop import train
from langevin.training.metrics import read_metrics
from langevin.training.record import RunRecord
from langevin.training.results import load_results
from tests.policies.toy_episodes import joined

SMALL = {
    "steps": 40, "dynamics_steps": 20, "reward_steps": 20, "dynamics.width": 8, "dynamics.depth": 1,
    "dynamics.members": 3, "dynamics.elites": 2, "reward.width": 8, "reward.depth": 1,
    "planner.windows.horizon": 6, "planner.windows.shortest": 2, "planner.windows.width": 8,
    "planner.windows.multipliers": [1], "planner.windows.kernel": 3, "planner.windows.batch_size": 8,
    "planner.windows.chain.steps": 8, "planner.windows.optimizer.learning_rate": 1e-2,
    "planner.windows.optimizer.warmup_steps": 5, "sampling.steps": 3, "guidance.scale": 0.001,
    "value.width": 8, "value.multipliers": [1], "value.kernel": 3,
}  # fmt: skip
DATASETS = {"robot": "hopper/medium-v0", "maze": "pointmaze/umaze-v0"}
NO_VALUE = {"candidates": 1, "value_guidance.scale": 0.0}
OFF = NO_VALUE | {
    "planner.return_weights": False, "planner.transition_weight": 0.0, "planner.reward_weight": 0.0,
    "guidance.scale": 0.0,
}  # fmt: skip


def settings(kind, **more):
    return load_settings("dmemm", None, "cpu", DATASETS[kind], SMALL | more)


def maze_log():
    """A point that is driven to and fro in the U-Maze's lower corridor, paid in one half of it."""
    rng = np.random.default_rng(0)
    steps = 0.05 * rng.uniform(-1, 1, (6, 41, 4)).cumsum(axis=1) + [1.0, 1.0, 0.0, 0.0]
    states = np.clip(steps, [0.6, 0.6, -1, -1], [3.4, 1.4, 1, 1]).astype(np.float32)
    actions = rng.uniform(-1, 1, (240, 2)).astype(np.float32)
    return joined(states, actions, (states[:, :-1, 0].reshape(-1) > 1).astype(np.float32))


def maze_system(task="pointmaze/umaze"):
    task = get_task(task)
    return System(task, task.observation_size, 2, -np.ones(2, np.float32), np.ones(2, np.float32))


LOGS = {"robot": (small_log, small_system), "maze": (maze_log, maze_system)}


def trained(kind, folder, seeds=(0,), off=False, **loop):
    log, system = (make() for make in LOGS[kind])
    config, algorithm = settings(kind, **(OFF if off else {})), ALGORITHMS["dmemm"]
    stages = algorithm.stages(config, system)
    return stages, train(stages, algorithm.prepare(config, log), list(seeds), folder, chunk_steps=10, **loop)


def one_of(states, index=0):
    return jax.tree.map(lambda leaf: leaf[index] if eqx.is_array(leaf) else leaf, states)


@pytest.fixture(scope="module", params=LOGS)
def finished(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, folder, *trained(request.param, folder, (0, 1))


def test_its_stages_are_trained_and_come_back_from_disk(finished):
    kind, folder, stages, result = finished
    asked = ["value"] if kind == "robot" else []
    assert [stage.name for stage in stages] == ["reward", "dynamics", *asked, "policy"]
    config = settings(kind)
    blank = ALGORITHMS["dmemm"].prepare(config, LOGS[kind][1]().blank_data(1_000))
    again = load_results(folder, stages, blank, [0, 1])
    assert eqx.tree_equal(again.states, result.states)
    assert not result.stopped


def test_the_loss_falls_and_seeds_differ(finished):
    """Of the same windows, noised alike, before the first update and after the last."""
    kind, folder, stages, result = finished
    stage, data = stages[-1], ALGORITHMS["dmemm"].prepare(settings(kind), LOGS[kind][0]())
    states = one_of(result.states)
    begun = stage.init(data, states, key=jax.random.key(1))
    measure = eqx.filter_jit(
        lambda state, key: stage.update(state, data, states, step=jnp.int32(0), key=key)[1][
            "planner/denoising"
        ]
    )
    before, after = (
        np.mean([measure(state, jax.random.key(seed)) for seed in range(20)])
        for state in (begun, states["policy"])
    )
    assert after < 0.95 * before
    records = [record for record in read_metrics(folder / "metrics.jsonl") if record["stage"] == "policy"]
    for name in ("planner/transition", "planner/reward"):
        assert all(name in record for record in records if "planner/loss" in record)
    windows = result.states["policy"] if kind == "robot" else result.states["policy"].windows
    for path, leaf in jax.tree_util.tree_leaves_with_path(windows.diffusion.network):
        if eqx.is_array(leaf):
            assert np.mean(np.asarray(leaf[0] != leaf[1])) > 0.5, jax.tree_util.keystr(path)


def test_the_policy_plans_from_where_it_is_within_the_bounds_and_repeats_itself(finished):
    kind, _, stages, result = finished
    policy = one_of(result.policies(stages), 1)
    assert isinstance(policy, RecedingPlanner if kind == "robot" else PlannerPolicy)
    assert not heeds_rewards(policy)
    starts = {"robot": jnp.linspace(-0.2, 0.3, 3)[:, None], "maze": jnp.array([[1.0, 1.0, 0, 0]] * 3)}[kind]
    act = eqx.filter_jit(policy.act)
    actions, memory = act(starts, policy.start(3), key=jax.random.key(0))
    again, _ = act(starts, policy.start(3), key=jax.random.key(0))
    assert np.all(np.abs(actions) <= 1)
    np.testing.assert_array_equal(actions, again)
    if isinstance(policy, RecedingPlanner):
        found = jax.vmap(policy.windows.scale.observations)(memory.rows)[:, 0]
    else:
        found = memory.observations[:, 0]
    np.testing.assert_allclose(found, starts, atol=1e-5)


def test_a_run_killed_while_the_planner_learns_ends_bit_identical(finished, tmp_path, monkeypatch):
    """The models are read back from disk, not trained again, and the optimiser goes on where it was."""
    kind, _, _, whole = finished
    save, killed = RunRecord.save, []

    def save_and_die(self, stage, index, step, state, *, finished):
        save(self, stage, index, step, state, finished=finished)
        if stage == "policy" and step == 20 and not killed:
            killed.append(step)
            raise KeyboardInterrupt

    monkeypatch.setattr(RunRecord, "save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        trained(kind, tmp_path, (0, 1), checkpoint_seconds=0.0)
    _, resumed = trained(kind, tmp_path, (0, 1), resume=True)
    assert killed == [20]
    assert eqx.tree_equal(resumed.states, whole.states)


@pytest.mark.parametrize(
    ("more", "names"),
    [
        (OFF, ["policy"]),
        (OFF | {"candidates": 2}, ["value", "policy"]),
        (OFF | {"value_guidance.scale": 1.0}, ["value", "policy"]),
        (NO_VALUE | {"planner.transition_weight": 0.0}, ["reward", "dynamics", "policy"]),
        (
            NO_VALUE | {"planner.transition_weight": 0.0, "guidance.transition_weight": 0.0},
            ["reward", "policy"],
        ),
        (NO_VALUE | {"planner.reward_weight": 0.0, "guidance.reward_weight": 0.0}, ["dynamics", "policy"]),
        (OFF | {"guidance.scale": 0.1, "guidance.reward_weight": 0.0}, ["dynamics", "policy"]),
    ],
)
def test_a_model_that_nothing_asks_for_is_not_trained(more, names):
    assert [
        stage.name for stage in ALGORITHMS["dmemm"].stages(settings("robot", **more), small_system())
    ] == names


def test_without_modulation_and_guidance_it_is_trained_and_plans_unguided(tmp_path):
    stages, result = trained("robot", tmp_path, off=True)
    assert list(result.states) == ["policy"]
    policy = one_of(result.policies(stages))
    assert policy.sampler.guide is unmoved
    actions, _ = eqx.filter_jit(policy.act)(jnp.zeros((2, 1)), policy.start(2), key=jax.random.key(0))
    assert np.isfinite(actions).all()


@pytest.mark.parametrize("preset", ["cpu", "paper"])
@pytest.mark.parametrize("task", ["umaze", "medium", "large", "multi-umaze", "multi-medium", "multi-large"])
def test_its_presets_fit_every_maze(preset, task):
    config = load_settings("dmemm", None, preset, f"pointmaze/{task}-v0", {})
    names = [stage.name for stage in ALGORITHMS["dmemm"].stages(config, maze_system(f"pointmaze/{task}"))]
    assert names == (["dynamics", "policy"] if "multi" in task else ["reward", "dynamics", "policy"])
    size = task.removeprefix("multi-")
    assert config.planner.windows.steps >= {"umaze": 125, "medium": 253, "large": 381}[size]


def test_the_paper_preset_has_the_papers_numbers():
    horizons = {
        dataset: load_settings("dmemm", None, "paper", dataset, {}).planner.windows.horizon
        for dataset in ("hopper/medium-v0", "pointmaze/umaze-v0", "pointmaze/medium-v0", "pointmaze/large-v0")
    }
    assert list(horizons.values()) == [100, 128, 256, 384]
    config = load_settings("dmemm", None, "paper", "hopper/medium-v0", {})
    weights = config.planner.transition_weight, config.planner.reward_weight, config.guidance.scale
    assert weights == (0.1, 0.05, 0.001)
    assert (config.planner.windows.chain.steps, config.sampling.steps) == (100, 100)
    assert (config.candidates, config.value_guidance.scale) == (1, 0.0)
    assert label_of("dmemm", None) == "DMEMM"


@pytest.mark.parametrize(
    ("kind", "more", "words"),
    [
        ("robot", {"planner.windows.goal_size": 2}, "planner.windows.goal_size is 2, and task logged has no"),
        ("robot", {"replan_every": 0}, "replan_every must be at least 1"),
        ("robot", {"planner.estimator": "eq8"}, "estimator must be one of posterior_mean, proposition_1"),
        (
            "robot",
            {"planner.transition_wait": 1.0},
            "unknown key.*transition_wait.*nearest: transition_weight",
        ),
        ("robot", {"guidance.scale": -1.0}, "scale must be at least 0"),
        ("robot", {"sampling.steps": 9}, "steps must lie between 1 and 8, got 9"),
        ("maze", {"planner.windows.goal_size": 0}, "is held at its goal's position.*set it to 2"),
        ("maze", {"sampling.renewed_steps": 2}, "renewed_steps must be 0 with a goal"),
        ("maze", {"arrivals": 0}, "arrivals must be at least 1"),
        ("maze", {"candidates": 8}, "candidates must be 1 and value_guidance.scale 0 with a goal"),
        ("robot", {"candidates": 0}, "candidates must be at least 1, got 0"),
        ("robot", {"replan_every": 100}, "replan_every must be at most .* got 100"),
        ("robot", {"value_guidance.scale": 1.0, "value.noised": False}, "value.noised must be true"),
        ("maze", {"planner.windows.process": "edm"}, 'process must be "ddpm"'),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_trained(kind, more, words):
    with pytest.raises(UsageError, match=words):
        ALGORITHMS["dmemm"].stages(settings(kind, **more), LOGS[kind][1]())


def test_rewards_of_a_goal_that_no_row_holds_are_refused():
    with pytest.raises(UsageError, match=r"drawn anew in every episode.*set planner.reward_weight"):
        ALGORITHMS["dmemm"].stages(settings("maze"), maze_system("pointmaze/multi-umaze"))
