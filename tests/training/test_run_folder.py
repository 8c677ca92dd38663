"""A run folder says what it holds, refuses another run, and loses nothing."""

import json
from dataclasses import replace

import numpy as np
import pytest

from langevin.errors import UsageError
from langevin.training.run_folder import (
    RunConfig,
    create_run_folder,
    read_run_config,
    read_summary,
    write_summary,
)

RUN = RunConfig(
    algorithm="td3bc",
    preset="cpu",
    dataset="pointmaze/umaze-v0",
    task="pointmaze/umaze",
    seeds=(0, 1),
    settings={"alpha": 2.5, "base": {"widths": (32, 32), "horizon": None}},
    observation_size=4,
    action_size=2,
    action_low=(-1.0, -1.0),
    action_high=(1.0, 1.0),
    dataset_metadata={"reference_scores": [np.float32(23.85), 161.86], "recipe": {"noise": None}},
)


def test_the_configuration_is_read_back(tmp_path):
    create_run_folder(tmp_path / "deep" / "run", RUN)
    read = read_run_config(tmp_path / "deep" / "run")
    assert (read.algorithm, read.seeds, read.action_low) == ("td3bc", (0, 1), (-1.0, -1.0))
    assert read.settings == {"alpha": 2.5, "base": {"widths": [32, 32], "horizon": "none"}}
    assert read.dataset_metadata["reference_scores"] == pytest.approx([23.85, 161.86])
    assert read.versions["jax"].count(".") == 2
    assert read.commit == RUN.commit


def test_a_policy_for_a_second_system_is_judged_by_that_systems_data():
    assert RUN.policy_dataset == "pointmaze/umaze-v0"
    assert replace(RUN, target_dataset="tank/slow-v0", transfer="dara").policy_dataset == "tank/slow-v0"


def test_a_taken_folder_is_refused_and_untouched(tmp_path):
    folder = tmp_path / "run"
    create_run_folder(folder, RUN)
    before = (folder / "config.toml").read_bytes()
    with pytest.raises(UsageError, match="already holds a run"):
        create_run_folder(folder, replace(RUN, algorithm="bc"))
    assert (folder / "config.toml").read_bytes() == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("x")
    with pytest.raises(UsageError, match="not empty"):
        create_run_folder(tmp_path / "other", RUN)
    with pytest.raises(UsageError, match="is a file"):
        create_run_folder(tmp_path / "other" / "thesis.tex", RUN)


def test_resuming_demands_the_same_run_and_names_what_differs(tmp_path):
    create_run_folder(tmp_path / "run", RUN)
    create_run_folder(tmp_path / "run", replace(RUN, command="langevin train --resume"), resume=True)
    other = replace(RUN, settings={"alpha": 3.0, "base": RUN.settings["base"]})
    with pytest.raises(UsageError, match=r"settings\.alpha = 2\.5, not 3\.0"):
        create_run_folder(tmp_path / "run", other, resume=True)
    with pytest.raises(UsageError, match=r"seeds = \[0, 1\], not \[0, 1, 2\]"):
        create_run_folder(tmp_path / "run", replace(RUN, seeds=(0, 1, 2)), resume=True)
    with pytest.warns(UserWarning, match=r"versions\.jax"):
        create_run_folder(tmp_path / "run", replace(RUN, versions=RUN.versions | {"jax": "9"}), resume=True)


def test_what_is_not_a_run_folder_is_said_to_be_none(tmp_path):
    with pytest.raises(UsageError, match=r"no config\.toml"):
        read_run_config(tmp_path)
    (tmp_path / "config.toml").write_text("algorithm = 3\n")
    with pytest.raises(UsageError, match="algorithm must be str, got 3"):
        read_run_config(tmp_path)


def test_a_summary_is_replaced_whole_or_not_at_all(tmp_path):
    with pytest.raises(UsageError, match=r"no summary\.json"):
        read_summary(tmp_path)
    write_summary(tmp_path, {"algorithm": "bc"})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_summary(tmp_path, {"return": float("nan")})
    assert read_summary(tmp_path) == {"algorithm": "bc"}
    assert json.loads((tmp_path / "summary.json").read_text()) == {"algorithm": "bc"}
