"""Where trajectories come from: one function for every kind of id and path."""

from collections.abc import Sequence
from pathlib import Path

from langevin.data.sources.d4rl import open_d4rl, read_d4rl
from langevin.data.sources.minari import load_dataset
from langevin.data.sources.minari_remote import fetch_dataset
from langevin.data.trajectories import Trajectories
from langevin.errors import DatasetError, UsageError
from langevin.progress import AbstractProgress

HDF5_SUFFIXES = (".hdf5", ".h5")
TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".parquet", ".npz")


def open_dataset(
    id_or_path: str | Path,
    observation_keys: Sequence[str] = (),
    progress: AbstractProgress | None = None,
) -> Trajectories:
    """The dataset of that id or path.

    | written as | is |
    | --- | --- |
    | `pointmaze/umaze-v0` | the dataset of that id in Minari's folder |
    | `a/folder` | a Minari dataset's folder |
    | `d4rl:hopper-medium-v2` | a dataset of D4RL's, downloaded if it is not there |
    | `a/file.hdf5` | a file in D4RL's layout |
    | `minari:mujoco/hopper/medium-v0` | a dataset of Minari's server, downloaded if it is not there |

    `observation_keys` chooses entries of dictionary observations, in order. Downloads are reported to `progress`.

    **Raises:** `UsageError` for an unknown name, `DatasetError` when the data are not there or malformed,
    `LangevinError` when they cannot be downloaded.
    """
    name = str(id_or_path)
    scheme, _, rest = name.partition(":")
    if scheme == "minari" and rest:
        return load_dataset(fetch_dataset(rest), observation_keys)
    suffix = Path(name).suffix.lower()
    if scheme == "d4rl" or suffix in HDF5_SUFFIXES:
        if observation_keys:
            keys = ", ".join(observation_keys)
            raise DatasetError(f"observations are plain vectors, but the keys {keys} were asked for")
        imported = open_d4rl(rest, progress) if scheme == "d4rl" else read_d4rl(Path(name))
        return imported.trajectories
    if suffix in TABLE_SUFFIXES:
        raise UsageError(
            f"{name} does not say which columns are observations and actions; import it first: "
            f"`langevin data import {name} --as my/log-v0 --observations … --actions …`"
        )
    return load_dataset(id_or_path, observation_keys)
