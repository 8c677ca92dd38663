"""Hand-made episodes whose rows can be told apart."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from langevin.data.trajectories import Trajectories


def numbered_fields(lengths: Sequence[int]) -> dict:
    """Fields of episodes of these lengths: observation column 0 is 100 times the episode plus the step."""
    steps = [100.0 * episode + np.arange(length + 1) for episode, length in enumerate(lengths)]
    states = [np.stack([step, -step, np.sqrt(step)], axis=1).astype(np.float32) for step in steps]
    rows = sum(lengths)
    ends = np.cumsum(lengths)
    truncations = np.zeros(rows, bool)
    truncations[ends - 1] = True
    return {
        "observations": np.concatenate([state[:-1] for state in states]),
        "next_observations": np.concatenate([state[1:] for state in states]),
        "actions": np.linspace(-1, 1, 2 * rows, dtype=np.float32).reshape(rows, 2),
        "rewards": np.arange(rows, dtype=np.float32),
        "terminations": np.zeros(rows, bool),
        "truncations": truncations,
        "episode_ends": ends,
        "action_low": np.full(2, -1, np.float32),
        "action_high": np.full(2, 1, np.float32),
    }


@pytest.fixture
def numbered() -> Callable[[Sequence[int]], Trajectories]:
    return lambda lengths: Trajectories(**numbered_fields(lengths))


@pytest.fixture
def fields() -> dict:
    """Fields of a valid dataset with episodes of 3, 1 and 4 rows, for a test to spoil."""
    return numbered_fields([3, 1, 4])


@pytest.fixture
def datasets(tmp_path, monkeypatch):
    """An empty folder of datasets."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    return tmp_path / "datasets"
