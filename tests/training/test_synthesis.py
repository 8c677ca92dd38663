"""DyDiff's rivals end to end on a small log: stages, the synthetic buffer, resuming, and the policy from disk."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_log import actions_of, small_log, small_system

from langevin.data.sampling import Transitions
from langevin.errors import UsageError
from langevin.experiments.runs import one_seed
from langevin.policies.base import Learner
from langevin.training.algorithms.registry import ALGORITHMS, label_of, load_settings
from langevin.training.algorithms.synther import keep
from langevin.training.algorithms.synthesis import learning_stage
from langevin.training.loop import train
from langevin.training.metrics import read_metrics
from langevin.training.record import RunRecord
from langevin.training.results import load_results

ID = "pointmaze/umaze-v0"
LOOP = {"steps": 20, "world_model_steps": 20, "batch_size": 16, "schedule.steps": 2}
UNET = {"world_model.width": 8, "world_model.multipliers": [1], "world_model.batch_size": 4, "horizon": 4}
SETTINGS = {
    "synther": LOOP | {"world_model.width": 8, "world_model.blocks": 1, "world_model.batch_size": 8,
                       "synthesis_steps": 20, "synthesis_batch": 8},
    "mtdiff": LOOP | UNET | {"synthesis_steps": 20, "synthesis_batch": 2},
    "policy_guided": LOOP | UNET | {"epoch_steps": 10, "rollouts": 4, "capacity": 24},
}  # fmt: skip
STAGES = {
    "synther": ["world_model", "synthesis", "policy"],
    "mtdiff": ["world_model", "synthesis", "policy"],
    "policy_guided": ["world_model", "policy"],
}
LEARNERS = {
    "td3bc": {"learner.width": 8, "learner.depth": 1},
    "iql": {"learner.width": 8, "learner.depth": 1},
    "sac": {"learner.width": 8, "learner.depth": 1},
    "cql": {"learner.base.width": 8, "learner.base.depth": 1, "learner.samples": 2},
}


def settings(name, base="td3bc", **more):
    return load_settings(name, base, "cpu", ID, SETTINGS[name] | LEARNERS[base] | more)


@pytest.fixture(scope="module")
def log():
    return small_log(first_ends_by_itself=True)


@pytest.fixture(scope="module")
def system():
    return small_system()


def run(name, base, log, system, folder, **more):
    algorithm, config = ALGORITHMS[name], settings(name, base)
    stages = algorithm.stages(config, system)
    return stages, train(stages, algorithm.prepare(config, log), [0], folder, chunk_steps=10, **more)


def buffer_of(states):
    return states["synthesis"] if "synthesis" in states else states["policy"].buffer


@pytest.mark.parametrize(
    ("name", "base"),
    [("synther", "td3bc"), ("synther", "cql"), ("mtdiff", "iql"), ("policy_guided", "td3bc"),
     pytest.param("policy_guided", "sac", marks=pytest.mark.slow)],
)  # fmt: skip
def test_its_stages_are_trained_and_its_policy_comes_back_from_disk(name, base, log, system, tmp_path):
    stages, trained = run(name, base, log, system, tmp_path)
    assert [stage.name for stage in stages] == STAGES[name]
    blank = ALGORITHMS[name].prepare(settings(name, base), system.blank_data(1_000))
    again = load_results(tmp_path, stages, blank, [0])
    assert eqx.tree_equal(again.states, trained.states)

    actions = actions_of(trained.policies(stages))
    assert (np.abs(actions) <= 1).all()
    np.testing.assert_array_equal(actions_of(again.policies(stages)), actions)

    buffer = buffer_of(trained.states)
    filled = int(buffer.filled[0])
    expected = {"synther": 160, "mtdiff": 120, "policy_guided": 24}[name]
    assert filled == expected if name == "synther" else 10 <= filled <= expected
    rows = jax.tree.map(lambda leaf: np.asarray(leaf)[0, :filled], buffer.rows)
    assert len(np.unique(rows.observations)) > 4, "something was synthesised"
    for column, data in (
        (rows.observations, log.observations),
        (rows.actions, log.actions),
        (rows.rewards, log.rewards),
    ):
        assert data.min() - 1e-5 <= column.min() <= column.max() <= data.max() + 1e-5
    assert set(np.unique(rows.terminations)) <= {0.0, 1.0}

    imagined = drawn_by(name, base, stages, trained)
    assert imagined.observations.shape == (3, 4, log.observation_size)
    assert (imagined.steps is not None) == (name == "synther"), "transitions stand alone, windows do not"
    assert log.rewards.min() - 1e-5 <= imagined.rewards.min()
    assert imagined.rewards.max() <= log.rewards.max() + 1e-5
    assert len(np.unique(imagined.next_observations)) > 1, "something was drawn"


def drawn_by(name, base, stages, trained):
    """What the finished model draws in place of three trajectories of four states."""
    states = one_seed(trained.states, 0)
    world = ALGORITHMS[name].draws(settings(name, base), states)
    policy = stages[-1].policy(states["policy"], states).greedy()
    starts = jnp.zeros((3, buffer_of(states).rows.observations.shape[-1]))
    return eqx.filter_jit(world.imagine)(policy, starts, 4, key=jax.random.key(0))


def test_a_run_killed_while_it_synthesises_ends_bit_identical(log, system, tmp_path, monkeypatch):
    """The buffer stage saves itself half full, and goes on from there."""
    _, whole = run("synther", "td3bc", log, system, tmp_path / "whole")
    save, killed = RunRecord.save, []

    def save_and_die(self, stage, index, step, state, *, finished):
        save(self, stage, index, step, state, finished=finished)
        if stage == "synthesis" and not finished and not killed:
            killed.append((step, int(state.filled[0])))
            raise KeyboardInterrupt

    monkeypatch.setattr(RunRecord, "save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        run("synther", "td3bc", log, system, tmp_path / "killed", checkpoint_seconds=0.0)
    assert killed == [(10, 80)]
    _, resumed = run("synther", "td3bc", log, system, tmp_path / "killed", resume=True)
    assert eqx.tree_equal(resumed.states, whole.states)


class Watching(Learner):
    """Learns nothing, and keeps the rewards of its last batch as its state."""

    def init(self, spec, *, key):
        return jnp.full(16, jnp.inf)

    def update(self, state, batch, *, step, key):
        return batch.rewards, {}

    def policy(self, state):
        raise NotImplementedError


def test_the_learner_never_sees_an_empty_buffer(log, system):
    """Without real rows, what it learns from is synthetic; a buffer's unfilled rows would be paid exactly 0."""
    config = settings("synther", real_share=0.0)
    *models, _ = ALGORITHMS["synther"].stages(config, system)
    watched = learning_stage(dataclasses.replace(config, learner=Watching(), steps=1), system)
    trained = train([*models, watched], ALGORITHMS["synther"].prepare(config, log), [0], chunk_steps=10)
    buffer, seen = trained.states["synthesis"], trained.states["policy"]
    assert int(buffer.filled[0]) == 160
    assert np.isin(seen, buffer.rows.rewards).all()
    assert not np.any(np.asarray(seen) == 0.0)


def paid(count):
    """Transitions that are paid 0, 1, 2 and so on, and carry that number in every other field."""
    numbers = jnp.arange(count, dtype=jnp.float32)
    return Transitions(numbers[:, None], numbers[:, None], numbers, 0 * numbers, numbers[:, None])


@pytest.mark.parametrize("filter", ["hardmax", "softmax"])
def test_synther_f_keeps_transitions_of_high_reward_whole(filter):
    config = settings("synther", synthesis_batch=400, keep_share=0.25, filter=filter)
    kept = keep(config, paid(400), key=jax.random.key(0))
    np.testing.assert_array_equal(kept.observations[:, 0], kept.rewards)
    np.testing.assert_array_equal(kept.next_observations[:, 0], kept.rewards)
    assert len(set(np.asarray(kept.rewards).tolist())) == 100
    if filter == "hardmax":
        assert sorted(np.asarray(kept.rewards).tolist()) == list(range(300, 400))
    else:
        assert 280 < float(kept.rewards.mean()) < 349, "drawn, so not the very best; uniform would be 200"


def test_synther_keeps_all_in_the_order_they_were_drawn():
    kept = keep(settings("synther", synthesis_batch=40), paid(40), key=jax.random.key(0))
    np.testing.assert_array_equal(kept.rewards, np.arange(40))


def test_the_synthesis_is_on_record(log, system, tmp_path):
    run("mtdiff", "td3bc", log, system, tmp_path)
    records = [
        record for record in read_metrics(tmp_path / "metrics.jsonl") if record["stage"] == "synthesis"
    ]
    assert [record["step"] for record in records] == [10, 20]
    low, high = log.rewards.min(), log.rewards.max()
    assert all(low <= record["synthesis/reward"] <= high for record in records)
    assert all(0 <= record["synthesis/terminations"] <= 1 for record in records)


def test_their_names_in_tables():
    assert label_of("synther", "iql") == "IQL + SynthER"
    assert label_of("mtdiff", None) == "TD3+BC + MTDiff-s"
    assert label_of("policy_guided", "sac") == "SAC + policy-guided diffusion"


@pytest.mark.parametrize("preset", ["cpu", "paper"])
@pytest.mark.parametrize("name", STAGES)
def test_its_presets_hold_together(name, preset, system):
    for base in ("td3bc", "cql", "iql", "sac"):
        config = load_settings(name, base, preset, "hopper/medium-v0", {})
        assert [stage.name for stage in ALGORITHMS[name].stages(config, system)] == STAGES[name]


def test_the_papers_amounts():
    synther, mtdiff = (load_settings(name, None, "paper", ID, {}) for name in ("synther", "mtdiff"))
    assert synther.synthesis_steps * synther.synthesis_batch == 5_000_000
    assert abs(mtdiff.synthesis_steps * mtdiff.synthesis_batch * (mtdiff.horizon - 1) / 5e6 - 1) < 0.01


@pytest.mark.parametrize(
    ("name", "bad", "words"),
    [
        ("synther", {"keep_share": 0.0}, r"keep_share must keep at least one of 8 transitions .* got 0\.0"),
        ("synther", {"keep_share": 1.5}, r"keep_share must keep .* at most all, got 1\.5"),
        ("synther", {"synthesis_steps": 0}, "synthesis_steps must be at least 1, got 0"),
        ("synther", {"filter": "best"}, "filter must be one of hardmax, softmax, got 'best'"),
        ("mtdiff", {"real_share": 1.1}, r"real_share must lie between 0 and 1, got 1\.1"),
        ("mtdiff", {"horizon": 1}, "horizon must be at least 2, got 1"),
        ("policy_guided", {"strength": -1.0}, r"strength must be at least 0, got -1\.0"),
        ("policy_guided", {"spread": 0.0}, r"spread must be greater than 0, got 0\.0"),
        ("policy_guided", {"capacity": 3}, "capacity must be at least the 12 rows that an epoch keeps, got 3"),
    ],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused_before_anything_is_trained(name, bad, words, system):
    with pytest.raises(UsageError, match=words):
        ALGORITHMS[name].stages(settings(name, **bad), system)
