"""From arrays to actions, for a system nobody has a simulator of."""

import json

import numpy as np
import pytest

import langevin
from langevin.cli import run as command

TINY = {"learner.width": 16, "learner.depth": 1}


def logs(terminating=False, episodes=20, steps=50):
    """A tank's level, pumped and draining; the log of a controller that holds it near 1."""
    rng = np.random.default_rng(0)
    level = np.empty((episodes, steps + 1, 1), np.float32)
    level[:, 0] = rng.uniform(0, 2, (episodes, 1))
    pump = np.empty((episodes, steps, 1), np.float32)
    for step in range(steps):
        pump[:, step] = np.clip(1 - level[:, step] + rng.normal(0, 0.2, (episodes, 1)), -1, 1)
        level[:, step + 1] = level[:, step] + 0.1 * pump[:, step]
    last = np.zeros((episodes, steps), bool)
    last[:, -1] = True
    return langevin.Trajectories(
        observations=level[:, :-1].reshape(-1, 1),
        actions=pump.reshape(-1, 1),
        rewards=-abs(level[:, 1:].ravel() - 1),
        terminations=last.ravel() if terminating else np.zeros(last.size, bool),
        truncations=np.zeros(last.size, bool) if terminating else last.ravel(),
        next_observations=level[:, 1:].reshape(-1, 1),
        episode_ends=np.arange(1, episodes + 1) * steps,
        action_low=[-1],
        action_high=[1],
    )


@pytest.fixture
def tank(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    langevin.save_dataset(logs(), "tank/hand-v0")
    return "tank/hand-v0"


@pytest.fixture
def cloned(tank, tmp_path):
    settings = TINY | {"learner.learning_rate": 1e-2}
    summary = langevin.train("bc", tank, tmp_path / "run", seeds=2, steps=500, settings=settings)
    return tmp_path / "run", summary


def test_behaviour_cloning_of_a_logged_system_acts_as_its_log_did(cloned):
    folder, summary = cloned
    assert summary["task"] == "logged"
    assert summary["normalized_score"] is None
    assert summary["episodes"] == 0
    levels = np.linspace(0.2, 1.8, 9, dtype=np.float32)[:, None]
    for seed in (0, 1):
        policy = langevin.load_policy(folder, seed)
        actions = policy.act(levels)
        assert actions.shape == (9, 1)
        np.testing.assert_allclose(actions, 1 - levels, atol=0.15)
        policy.reset()
        np.testing.assert_allclose(policy.act(levels[3]), actions[3], atol=1e-5)


def test_a_controller_refuses_what_is_not_an_observation(cloned):
    policy = langevin.load_policy(cloned[0])
    with pytest.raises(langevin.UsageError, match=r"shape \(1,\) or \(batch, 1\), got \(2,\)"):
        policy.act(np.zeros(2))
    with pytest.raises(langevin.UsageError, match="must be finite"):
        policy.act(np.array([np.nan]))
    policy.act(np.zeros((3, 1)))
    with pytest.raises(langevin.UsageError, match="reset"):
        policy.act(np.zeros((2, 1)))
    with pytest.raises(langevin.UsageError, match="seed must be 0 to 1, got 2"):
        langevin.load_policy(cloned[0], seed=2)


def test_a_controller_tells_a_commanded_policy_what_was_earned(tank, tmp_path):
    """Two systems alike until one of them has earned far more than the other: then they are driven differently."""
    small = {"learner.width": 8, "learner.layers": 1, "learner.context": 3, "batch_size": 8}
    langevin.train("decision_transformer", tank, tmp_path / "run", seeds=1, steps=2, settings=small)
    policy = langevin.load_policy(tmp_path / "run")
    levels = np.full((2, 1), 0.5, np.float32)
    with pytest.raises(langevin.UsageError, match=r"call act\(\) before observe\(\)"):
        policy.observe([0.0, 0.0])
    first = policy.act(levels)
    np.testing.assert_array_equal(first[0], first[1])
    with pytest.raises(langevin.UsageError, match=r"shape \(2,\), got \(3,\)"):
        policy.observe([0.0, 0.0, 0.0])
    with pytest.raises(langevin.UsageError, match="must be finite"):
        policy.observe([0.0, np.nan])
    policy.observe([0.0, 50.0])
    second = policy.act(levels)
    assert abs(second[0] - second[1]) > 1e-5


def test_telling_rewards_to_a_policy_without_memory_changes_nothing(cloned):
    policy = langevin.load_policy(cloned[0])
    before = policy.act([1.0])
    policy.observe(3.0)
    np.testing.assert_array_equal(policy.act([1.0]), before)


def test_commands_on_a_logged_run_say_that_there_is_no_simulator(cloned, capsys):
    folder = str(cloned[0])
    assert command(["evaluate", folder, "--episodes", "2"]) == 2
    assert "no simulator" in capsys.readouterr().err
    assert command(["report", folder, "-o", f"{folder}/report.html"]) == 2
    assert "no scores" in " ".join(capsys.readouterr().err.split())


def test_train_command_of_a_logged_system(tank, tmp_path, capsys):
    words = [
        "train",
        "td3bc",
        "--dataset",
        tank,
        "--seeds",
        "1",
        "--steps",
        "2",
        "--out",
        str(tmp_path / "run"),
    ]
    assert command([*words, "--set", "learner.width=8"]) == 0
    assert "Not scored" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["return"] is None


def test_a_world_model_learns_the_endings_of_a_system_without_a_rule(tank, tmp_path):
    langevin.save_dataset(logs(terminating=True), "tank/emptied-v0")
    settings = TINY | {"epoch_steps": 2, "dynamics_steps": 2, "reward_steps": 2, "rollouts": 2, "horizon": 4}
    for dataset, learned in (("tank/emptied-v0", True), (tank, False)):
        out = tmp_path / dataset
        langevin.train(
            "single_step", dataset, out, base="td3bc", steps=2, seeds=1,
            settings=settings | {"dynamics.width": 8, "dynamics.depth": 1, "capacity": 100, "halt": False},
        )  # fmt: skip
        assert (out / "checkpoints").is_dir()
        assert bool(list((out / "checkpoints").glob("*termination*"))) == learned
        assert langevin.load_policy(out).act([0.4]).shape == (1,)


def test_a_learner_goes_on_on_a_second_systems_data_from_python_too(tank, tmp_path):
    langevin.save_dataset(logs(episodes=10), "tank/slow-v0")
    summary = langevin.train(
        "bc", tank, tmp_path / "out", target_dataset="tank/slow-v0", transfer="finetune", seeds=1, steps=5,
        settings={"learner.width": 8, "finetune_steps": 5},
    )  # fmt: skip
    assert (summary["dataset"], summary["target_dataset"]) == (tank, "tank/slow-v0")
    with pytest.raises(
        langevin.UsageError, match="finetune learns from a source and a target: name the target"
    ):
        langevin.train("bc", tank, tmp_path / "other", transfer="finetune")
    with pytest.raises(langevin.UsageError, match='from Python transfer="dara" or "finetune"'):
        langevin.train("bc", tank, tmp_path / "other", target_dataset="tank/slow-v0")


def test_a_planner_to_a_goal_refuses_a_system_without_one(tank, tmp_path):
    with pytest.raises(langevin.UsageError, match="has no goal"):
        langevin.train("diffuser", tank, tmp_path / "run", steps=2, settings={"planner.goal_size": 2})


@pytest.mark.parametrize("name", ["seeds", "episodes", "steps"])
def test_numbers_below_one_are_refused(tank, tmp_path, name):
    with pytest.raises(langevin.UsageError, match=f"{name} must be at least 1, got 0"):
        langevin.train("bc", tank, tmp_path / "run", **{name: 0})


def test_every_name_of_the_package_is_there():
    for name in langevin.__all__:
        assert getattr(langevin, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = langevin.nonsense
