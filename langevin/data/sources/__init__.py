"""Where trajectories come from: one function for every kind of id and path."""

from collections.abc import Sequence
from pathlib import Path

from langevin.data.sources.minari import load_dataset
from langevin.data.trajectories import Trajectories


def open_dataset(id_or_path: str | Path, observation_keys: Sequence[str] = ()) -> Trajectories:
    """The dataset of that id in Minari's folder, or in the folder given.

    `observation_keys` chooses entries of dictionary observations, in order.

    **Raises:** `DatasetError` when it is not there or malformed.
    """
    return load_dataset(id_or_path, observation_keys)
