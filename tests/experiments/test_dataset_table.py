"""The table of datasets: only whole episodes count, and a dataset's row is measured."""

import dataclasses

import numpy as np

from langevin.data.sources.minari import save_dataset
from langevin.envs.tasks import get_task
from langevin.evaluation.workloads import noise
from langevin.experiments.dataset_table import complete, measured, table
from langevin.experiments.datasets import make_dataset
from langevin.progress import SilentProgress


def test_episodes_that_the_log_cut_short_do_not_count():
    data = noise(4, 2, rows=1_500)  # three episodes of 500 rows; the maze's clock stops at 300
    assert complete(data, get_task("pointmaze/umaze")).all()
    assert complete(data, get_task("pointmaze/large")).tolist() == [True] * 3, "none is whole: all count"
    ended = np.array(data.terminations)
    truncated = np.array(data.truncations)
    ended[499], truncated[499] = True, False
    fallen = dataclasses.replace(data, terminations=ended, truncations=truncated)
    assert complete(fallen, get_task("pointmaze/large")).tolist() == [True, False, False]


def test_a_row_says_what_is_on_the_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    save_dataset(make_dataset("hopper/random-v0", 2_000, seed=0), "hopper/random-v0")
    row = measured("hopper/random-v0", SilentProgress())
    assert row["transitions"] == 2_000
    assert row["seconds"] is None, "it was there already"
    assert row["bytes"] > 2_000 * 4 * 15
    low, high = row["return"]
    assert low < high
    scores = get_task("hopper").normalized_score(np.array(row["return"]))
    np.testing.assert_allclose(row["normalized_score"], scores)
    assert table({"hopper/random-v0": row}).splitlines()[2].startswith("| hopper/random-v0 | 2,000 |")


def test_a_clone_is_held_against_the_data():
    row = {
        "transitions": 1, "episodes": 1, "complete_episodes": 1, "return": [100.0, 120.0],
        "normalized_score": [1.0, 2.0], "seconds": 3.2, "bytes": 5_000_000,
        "clone": {"mean": 97.0, "ci95": [90.0, 99.0]}, "clone_mode": {"mean": 110.0},
    }  # fmt: skip
    assert table({"x": row}).splitlines()[2].endswith("| 3 | 5 | 97 [90, 99] | 0.97 | 110 |")
