"""Files in D4RL's layout, made of episodes whose rows can be told apart."""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

HOPPER = "hopper_medium-v2.hdf5"


def episodes(lengths: Sequence[int], terminal: Sequence[int] = (), width: int = 11, actions: int = 3) -> dict:
    """Arrays of D4RL's v2 layout: observation column 0 is 100 times the episode plus the step.

    Episodes whose number is in `terminal` end in a terminal state, the others in a timeout.
    """
    states = [
        np.repeat((100.0 * episode + np.arange(length + 1))[:, None], width, axis=1).astype(np.float32)
        for episode, length in enumerate(lengths)
    ]
    rows = sum(lengths)
    ends = np.cumsum(lengths) - 1
    closing = {"terminals": np.zeros(rows, bool), "timeouts": np.zeros(rows, bool)}
    for episode, end in enumerate(ends):
        closing["terminals" if episode in terminal else "timeouts"][end] = True
    return {
        "observations": np.concatenate([state[:-1] for state in states]),
        "next_observations": np.concatenate([state[1:] for state in states]),
        "actions": np.linspace(-1, 1, rows * actions, dtype=np.float32).reshape(rows, actions),
        "rewards": np.arange(rows, dtype=np.float32),
        **closing,
    }


def write(path: Path, arrays: dict, without: Sequence[str] = ()) -> Path:
    """Write the arrays, and the kind of further entries that D4RL's files hold."""
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            if name not in without:
                file[name] = values
        file["infos/qpos"] = np.zeros((3, 6))
        file["metadata/algorithm"] = "SAC"
    return path
