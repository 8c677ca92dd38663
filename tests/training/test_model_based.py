"""The model-based algorithms end to end on a small log: stages, what is kept on disk, and the policy it makes again."""

import equinox as eqx
import numpy as np
import pytest
from small_log import actions_of, small_log, small_system

from langevin.errors import UsageError
from langevin.training.algorithms.registry import ALGORITHMS, label_of, load_settings
from langevin.training.loop import train
from langevin.training.results import load_results

ID = "pointmaze/umaze-v0"
MODELS = {
    "dynamics.width": 8, "dynamics.depth": 1, "dynamics.members": 2, "dynamics.elites": 2, "reward.width": 8,
    "reward.depth": 1, "reward_steps": 20,
}  # fmt: skip
LOOP = {"steps": 20, "dynamics_steps": 20, "batch_size": 16, "epoch_steps": 10, "rollouts": 4}
BRANCHED = {"rollout_steps": 3, "epochs_kept": 2}
SMALL = {"learner.width": 8, "learner.depth": 1}
SETTINGS = {
    "mopo": MODELS | LOOP | BRANCHED | SMALL,
    "combo": MODELS | LOOP | BRANCHED
    | {"learner.base.width": 8, "learner.base.depth": 1, "learner.samples": 2},
    "morel": MODELS | LOOP | BRANCHED | SMALL,
    "mppi": MODELS | {"steps": 20, "search.horizon": 3, "search.candidates": 4},
    "single_step": MODELS | LOOP | SMALL | {"horizon": 4, "capacity": 40},
}  # fmt: skip
STAGES = {
    "mopo": ["dynamics", "reward", "policy"],
    "combo": ["dynamics", "reward", "policy"],
    "morel": ["dynamics", "reward", "unknown", "policy"],
    "mppi": ["reward", "dynamics"],
    "single_step": ["dynamics", "reward", "policy"],
}
LABELS = {
    "mopo": "MOPO",
    "combo": "COMBO",
    "morel": "MOReL (SAC)",
    "mppi": "MPPI",
    "single_step": "TD3+BC + ensemble rollouts",
}


def settings(name, preset="cpu", **more):
    return load_settings(name, None, preset, ID, SETTINGS[name] | more)


@pytest.fixture(scope="module")
def log():
    return small_log()


@pytest.fixture(scope="module")
def system():
    return small_system()


@pytest.mark.parametrize("name", STAGES)
def test_its_stages_are_trained_and_its_policy_comes_back_from_disk(name, log, system, tmp_path):
    config = settings(name)
    algorithm = ALGORITHMS[name]
    stages = algorithm.stages(config, system)
    assert [stage.name for stage in stages] == STAGES[name]
    trained = train(stages, algorithm.prepare(config, log), [0], tmp_path, chunk_steps=10)
    blank = algorithm.prepare(config, system.blank_data(1_000))
    again = load_results(tmp_path, stages, blank, [0])
    assert eqx.tree_equal(again.states, trained.states)

    actions = actions_of(trained.policies(stages))
    assert (np.abs(actions) <= 1).all()
    np.testing.assert_array_equal(actions_of(again.policies(stages)), actions)
    if "policy" in STAGES[name]:
        buffer = trained.states["policy"].buffer
        rows = np.asarray(buffer.rows.observations)[0, : int(buffer.filled[0])]
        assert len(rows) >= 4, "something was imagined"
        assert len(np.unique(rows)) > 4
    if name == "morel":
        unknown = trained.states["unknown"]
        np.testing.assert_allclose(unknown.reward, log.rewards.min() - config.halt_offset, rtol=1e-6)
        assert float(unknown.threshold[0]) > 0


@pytest.mark.parametrize("name", LABELS)
def test_its_name_in_tables(name):
    assert label_of(name, None) == LABELS[name]
    assert ALGORITHMS[name].imagines


@pytest.mark.parametrize("preset", ["cpu", "paper"])
@pytest.mark.parametrize("name", STAGES)
def test_its_presets_hold_together(name, preset, system):
    config = load_settings(name, None, preset, "hopper/medium-v0", {})
    assert [stage.name for stage in ALGORITHMS[name].stages(config, system)] == STAGES[name]


def test_mopos_paper_preset_has_its_rollout_length_and_penalty_for_each_dataset():
    found = {
        dataset: (lambda config: (config.rollout_steps, config.penalty))(
            load_settings("mopo", None, "paper", dataset, {})
        )
        for dataset in ("halfcheetah/medium-v0", "halfcheetah/medium-expert-v0", "hopper/medium-v0",
                        "hopper/medium-replay-v0", "walker2d/medium-expert-v0")
    }  # fmt: skip
    assert list(found.values()) == [(1, 1.0), (5, 5.0), (5, 5.0), (5, 1.0), (1, 2.0)]


@pytest.mark.parametrize(
    ("name", "bad", "words"),
    [
        ("mopo", {"penalty": -1.0}, r"penalty must be at least 0, got -1\.0"),
        ("combo", {"real_share": 1.0}, r"real_share must give it 1 to 15 of 16 rows, got 1\.0"),
        ("combo", {"real_share": 0.0}, r"real_share must give it 1 to 15 of 16 rows, got 0\.0"),
        ("combo", {"pushed_states": "data"}, "pushed_states must be one of model, mixed, got 'data'"),
        ("morel", {"pessimism": 0.0}, r"pessimism must be greater than 0, got 0\.0"),
        ("morel", {"halt_offset": -1.0}, r"halt_offset must be at least 0, got -1\.0"),
        (
            "morel",
            {"dynamics.members": 1, "dynamics.elites": 1},
            "dynamics.members must be at least 2, got 1",
        ),
        ("mppi", {"search.temperature": 0.0}, r"temperature must be greater than 0, got 0\.0"),
        ("single_step", {"patience": -1}, "patience must be at least 0, got -1"),
        ("single_step", {"halt_margin": -0.5}, "halt_margin must be at least 0, got -0.5"),
        ("single_step", {"iterations": 1}, "unknown key 'iterations'"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_trained(name, bad, words):
    with pytest.raises(UsageError, match=words):
        settings(name, **bad)
