import json
import os
from pathlib import Path

import minari
import numpy as np
import pytest
import tyro

from langevin.commands.data import Check, Info, ListDatasets, Make
from langevin.data.sources import open_dataset
from langevin.data.sources.minari import save_dataset
from langevin.data.trajectories import Trajectories
from langevin.envs.behaviour_policies import BehaviourPolicy, save_behaviour
from langevin.envs.shifts import NAMED_SHIFTS
from langevin.errors import DatasetError, UsageError

ID = "pointmaze/umaze-v0"


@pytest.fixture(autouse=True)
def datasets(tmp_path, monkeypatch):
    """An empty folder of datasets, and an empty working directory."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "datasets"


def make(dataset=ID, **options):
    return Make(dataset, **{"transitions": 700, "json": True, **options}).run()


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_make_writes_what_it_says(datasets):
    result = make(seed=3)
    assert (result["id"], result["transitions"], result["episodes"], result["seed"]) == (ID, 700, 3, 3)
    assert result["path"] == str(datasets / ID)
    data = open_dataset(ID)
    assert (data.transitions, data.episodes, data.metadata["seed"]) == (700, 3, 3)


def test_one_seed_gives_the_same_files_and_another_seed_others(datasets):
    make(seed=3)
    first = contents(datasets)
    make(seed=3, overwrite=True)
    assert contents(datasets) == first
    make(seed=4, overwrite=True)
    assert contents(datasets) != first


def test_noisy_data_can_stand_beside_clean_data_under_another_id():
    make()
    assert make(action_noise=0.5, save_as="pointmaze/umaze-noisy-v0")["id"] == "pointmaze/umaze-noisy-v0"
    clean, noisy = open_dataset(ID), open_dataset("pointmaze/umaze-noisy-v0")
    assert (clean.metadata["recipe"]["action_noise"], noisy.metadata["recipe"]["action_noise"]) == (0, 0.5)
    assert noisy.metadata["id"] == "pointmaze/umaze-noisy-v0"
    assert (clean.actions != noisy.actions).any()


def test_list_shows_what_can_be_made_and_what_is_on_disk(datasets):
    before = ListDatasets(json=True).run()
    assert before["folder"] == str(datasets)
    mazes = [f"pointmaze/{kind}{size}-v0" for kind in ("", "multi-") for size in ("large", "medium", "umaze")]
    qualities = ("random", "medium", "medium-replay", "expert", "medium-expert")
    robots = [
        f"{name}/{quality}-v0" for name in ("hopper", "walker2d", "halfcheetah") for quality in qualities
    ]
    targets = [f"{setting}/target-v0" for setting in NAMED_SHIFTS]
    assert list(before["datasets"]) == sorted([*mazes, *robots, *targets])
    assert not any(entry["on_disk"] for entry in before["datasets"].values())
    make()
    make(save_as="pointmaze/umaze-mine-v0")
    after = ListDatasets(json=True).run()["datasets"]
    assert after[ID]["on_disk"]
    assert after[ID]["can_be_made"]
    assert (after[ID]["transitions"], after[ID]["episodes"]) == (700, 3)
    assert after["pointmaze/umaze-mine-v0"]["on_disk"]
    assert not after["pointmaze/umaze-mine-v0"]["can_be_made"]


def test_info_of_a_target_set_says_what_the_shift_changes():
    """With the untrained policy of a file as behaviour."""
    layers = [np.zeros((17, 8), np.float32), np.zeros((8, 12), np.float32)]
    policy = BehaviourPolicy(tuple(layers), (np.zeros(8, np.float32), np.zeros(12, np.float32)), {})
    save_behaviour(Path("policy.npz"), policy)
    Make("halfcheetah/torso_size/target-v0", 300, behaviour=Path("policy.npz"), json=True).run()
    info = Info("halfcheetah/torso_size/target-v0", json=True).run()
    assert info["task"] == "halfcheetah/torso_size"
    assert info["shift"]["radius torso"] == "0.046 -> 0.092"
    difference = float(info["shift"]["mean one-step difference"].split()[0])
    assert 0.02 < difference < 1
    assert info["target_returns"]["random"] == pytest.approx(-280, abs=120)
    assert info["recipe"]["controller"] == "policy.npz"


def test_minari_builds_the_shifted_environment_again_from_the_dataset():
    Make("hopper/leg_size/target-v0", 60, json=True).run()
    env = minari.load_dataset("hopper/leg_size/target-v0").recover_environment()
    assert env.unwrapped.model.geom("leg_geom").size[0] == pytest.approx(0.04 * 4 / 3)
    assert env.spec.max_episode_steps == 1000


def test_a_setting_that_is_almost_no_shift_says_so(capsys):
    layers = [np.zeros((11, 8), np.float32), np.zeros((8, 6), np.float32)]
    policy = BehaviourPolicy(tuple(layers), (np.zeros(8, np.float32), np.zeros(6, np.float32)), {})
    save_behaviour(Path("policy.npz"), policy)
    Make("hopper/torso_stiffness/target-v0", 60, behaviour=Path("policy.npz")).run()
    assert "almost no shift" in " ".join(capsys.readouterr().out.split())
    info = Info("hopper/torso_stiffness/target-v0", json=True).run()
    assert "almost no shift" in info["shift"]["warning"]


def test_info_gives_sizes_returns_scores_references_and_recipe():
    make()
    info = Info(ID, json=True).run()
    returns = open_dataset(ID).episode_returns()
    assert (info["task"], info["transitions"], info["episodes"]) == ("pointmaze/umaze", 700, 3)
    assert info["episode_length"]["max"] == 300
    assert info["return"]["mean"] == pytest.approx(returns.mean(), abs=1e-4)
    expected = 100 * (returns - 23.85) / (161.86 - 23.85)
    assert info["normalized_score"]["mean"] == pytest.approx(expected.mean(), abs=1e-3)
    assert info["reference_scores"] == [23.85, 161.86]
    assert info["recipe"]["controller"] == "waypoint"


def test_check_passes_good_data_and_points_at_bad_rewards():
    make()
    assert Check(ID, json=True).run()["well_formed"]
    data = open_dataset(ID)
    data.rewards[5] = 7
    save_dataset(data, ID, overwrite=True)
    findings = Check(ID, json=True).run()["findings"]
    wrong = [finding for finding in findings if "differ from the task's reward" in finding["message"]]
    assert len(wrong) == 1
    assert wrong[0]["level"] == "warning"


def test_a_dataset_of_a_system_unknown_here_has_no_score_and_is_checked_all_the_same():
    save_dataset(Trajectories.blank(7, 3, np.full(3, -1.0), np.full(3, 1.0), 5), "robot/arm-v0")
    info = Info("robot/arm-v0", json=True).run()
    assert (info["task"], info["normalized_score"], info["observation_size"]) == (None, None, 7)
    check = Check("robot/arm-v0", json=True).run()
    assert check["warnings"] >= 3


def test_a_dataset_can_be_named_by_its_folder(datasets):
    make()
    assert Info(str(datasets / ID), json=True).run()["id"] == ID
    os.chdir(datasets)
    assert Check("./" + ID, json=True).run()["task"] == "pointmaze/umaze"


@pytest.mark.parametrize("command", [ListDatasets(json=True), Info(ID, json=True), Check(ID, json=True)])
def test_json_is_one_object_on_standard_output_and_is_what_run_returns(command, capsys):
    make()
    capsys.readouterr()
    result = command.run()
    captured = capsys.readouterr()
    assert json.loads(captured.out) == result
    assert captured.out.count("\n") == 1


def test_make_with_json_prints_nothing_else(capfd):
    result = make()
    captured = capfd.readouterr()
    assert json.loads(captured.out) == result
    assert captured.err == ""


def test_people_are_told_in_words(capsys):
    Make(ID, transitions=700).run()
    for command in (ListDatasets(), Info(ID), Check(ID)):
        command.run()
    said = " ".join(capsys.readouterr().out.split())
    for words in (
        f"Made {ID}: 700 transitions in 3 episodes",
        "Well formed, compared with task pointmaze/umaze",
    ):
        assert words in said
    assert "{" not in said


BAD_MAKE = [
    ({"dataset": "pointmaze/umase-v0"}, "did you mean pointmaze/umaze-v0"),
    ({"dataset": "pointmaze/umaze"}, "must read like pointmaze/umaze-v0"),
    ({"dataset": "pointmaze/umaze-v1"}, "cannot be made"),
    ({"dataset": ""}, "must read like pointmaze/umaze-v0"),
    ({"dataset": "../umaze-v0"}, "must read like pointmaze/umaze-v0"),
    ({"dataset": "atari/pong-v0"}, "cannot be made; choose one of"),
    ({"dataset": "hopper/mediun-v0"}, "cannot be made; did you mean hopper/medium-v0"),
    ({"dataset": "hopper-d4rl/medium-v0"}, "cannot be made; did you mean"),
    ({"dataset": "hopper/random-v0", "transitions": 0}, "transitions must be at least 1, got 0"),
    ({"dataset": "hopper/random-v0", "seed": -1}, "seed must not be negative, got -1"),
    ({"dataset": "hopper/random-v0", "action_noise": 0.5}, "--action-noise goes with the point mazes"),
    (
        {"dataset": "hopper/random-v0", "save_as": "walker2d/mine-v0"},
        "names another task than hopper/random-v0",
    ),
    ({"dataset": "hopper/random-v0", "behaviour": Path("nowhere")}, "nowhere is not a run folder"),
    (
        {"dataset": "hopper/medium-replay-v0", "behaviour": Path("x")},
        "is a replay buffer; leave out --behaviour",
    ),
    ({"behaviour": Path("x")}, "is made by the waypoint controller; leave out --behaviour"),
    ({"dataset": "d4rl:hopper-medium-v2"}, "must read like"),
    ({"transitions": 0}, "transitions must be at least 1, got 0"),
    ({"transitions": -1}, "transitions must be at least 1, got -1"),
    ({"seed": -1}, "seed must not be negative, got -1"),
    ({"action_noise": -0.1}, "action_noise must be a finite standard deviation"),
    ({"action_noise": float("nan")}, "action_noise must be a finite standard deviation"),
    ({"action_noise": float("inf")}, "action_noise must be a finite standard deviation"),
    ({"save_as": "pointmaze/medium-mine-v0"}, "names another task than pointmaze/umaze-v0"),
    ({"save_as": "mine-v0"}, "belongs to no task"),
    ({"save_as": "pointmaze/umaze-noisy"}, "must end in a version"),
    ({"save_as": "pointmaze/umaze-a b-v0"}, "must read like"),
    ({"save_as": "/pointmaze/umaze-v0"}, "belongs to no task"),
]


@pytest.mark.parametrize(("options", "message"), BAD_MAKE)
def test_make_refuses_what_it_cannot_do_in_one_sentence_and_writes_nothing(options, message, datasets):
    with pytest.raises(UsageError, match=message) as refusal:
        make(**options)
    assert "\n" not in str(refusal.value)
    assert not datasets.exists()
    assert os.listdir() == []


def test_make_refuses_a_taken_id_before_it_collects_anything(datasets, monkeypatch):
    make()
    before = contents(datasets)
    monkeypatch.setattr(
        "langevin.commands.data.make_dataset", lambda *_: pytest.fail("collected for nothing")
    )
    with pytest.raises(UsageError, match="already on disk; pass --overwrite"):
        make(transitions=5)
    assert contents(datasets) == before


BAD_NAMES = [
    (ID, r"pointmaze/umaze-v0 is not on disk .* `langevin data list` shows what can be made"),
    ("pointmaze/umaze", "must read like pointmaze/umaze-v0"),
    ("somewhere.hdf5", "there is no file somewhere.hdf5"),
    ("d4rl:hoper-medium-v2", "'hoper-medium-v2' is not known; did you mean hopper-medium-v2"),
    ("d4rl:", "D4RL dataset '' is not known"),
    ("minari:nothing", "must read like pointmaze/umaze-v0"),
    ("log.csv", "does not say which columns .* `langevin data import log.csv"),
    ("../secrets", "must read like pointmaze/umaze-v0"),
    ("", "must read like pointmaze/umaze-v0|is not on disk"),
    (".", "is not on disk"),
]


@pytest.mark.parametrize("command", [Info, Check])
@pytest.mark.parametrize(("name", "message"), BAD_NAMES)
def test_info_and_check_refuse_what_is_not_a_dataset(command, name, message, datasets):
    with pytest.raises(UsageError, match=message) as refusal:
        command(name).run()
    assert "\n" not in str(refusal.value)
    assert not datasets.exists()
    assert os.listdir() == []


def test_check_refuses_data_that_claim_a_task_they_cannot_be_of():
    blank = Trajectories.blank(5, 2, np.full(2, -1.0), np.full(2, 1.0), 4)
    blank.metadata["task"] = "pointmaze/umaze"
    save_dataset(blank, "mine/other-v0")
    with pytest.raises(DatasetError, match="observation_size is 5, but task pointmaze/umaze has 4"):
        Check("mine/other-v0").run()


def test_keys_of_observations_that_have_none_are_refused():
    make()
    with pytest.raises(DatasetError, match="plain vectors, but the keys goal were asked for"):
        Info(ID, observation_keys=("goal",)).run()


def test_check_writes_a_page_only_when_asked(capsys):
    make()
    Check(ID).run()
    assert os.listdir() == []
    assert "--page check.html" in capsys.readouterr().out
    assert Check(ID, page=Path("check.html"), json=True).run()["page"] == "check.html"
    assert os.listdir() == ["check.html"]
    assert ID in Path("check.html").read_text()


@pytest.mark.parametrize(
    ("page", "words"), [(".", "is a folder"), ("no/check.html", "the folder no does not exist")]
)
def test_a_page_that_cannot_be_written_is_refused_before_the_work(page, words, datasets):
    with pytest.raises(UsageError, match=words):
        Check(ID, page=Path(page)).run()
    assert os.listdir() == []


def test_the_command_line_reads_every_option():
    arguments = [ID, "--transitions", "5", "--seed", "2", "--action-noise", "0.5"]
    parsed = tyro.cli(Make, args=[*arguments, "--as", "pointmaze/umaze-noisy-v0", "--overwrite", "--json"])
    assert parsed == Make(ID, 5, 2, 0.5, "pointmaze/umaze-noisy-v0", overwrite=True, json=True)
    assert tyro.cli(Info, args=[ID]) == Info(ID)
    assert tyro.cli(Check, args=[ID, "--observation-keys", "a", "b", "--page", "p.html"]) == Check(
        ID, ("a", "b"), Path("p.html")
    )
    assert tyro.cli(ListDatasets, args=["--json"]) == ListDatasets(json=True)
