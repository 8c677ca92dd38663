"""Trajectories on disk as Minari datasets, where every tool of the ecosystem finds them.

The folder is Minari's: `MINARI_DATASETS_PATH`, or its default. A dataset is written beside its place and
renamed into it, so a run that dies leaves what was there.
"""

import json
import os
import re
import shutil
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from jaxtyping import Float32

from langevin.data.trajectories import Trajectories
from langevin.errors import DatasetError, LangevinError, UsageError

ID_PATTERN = re.compile(r"([A-Za-z0-9][-\w]*/)*[A-Za-z0-9][-\w]*-v\d+")
REMOTE_NAMESPACES = ("D4RL/", "atari/", "minigrid/", "mujoco/")
"""Beginnings of the ids that Minari's server holds: see `langevin.data.sources.minari_remote`."""
METADATA_KEY = "langevin"
"""Where the trajectories' own metadata stands inside Minari's."""
ROW_FIELDS = ("actions", "rewards", "terminations", "truncations")


def datasets_folder() -> Path:
    """The folder Minari keeps datasets in; not created here."""
    chosen = os.environ.get("MINARI_DATASETS_PATH")
    return Path(chosen).expanduser() if chosen else Path.home() / ".minari" / "datasets"


def dataset_path(dataset_id: str) -> Path:
    """Folder of the dataset.

    **Raises:** `UsageError` when the id is not of the form `name/space-v0`.
    """
    if not ID_PATTERN.fullmatch(dataset_id):
        raise UsageError(f"dataset id {dataset_id!r} must read like pointmaze/umaze-v0")
    return datasets_folder() / dataset_id


def require_free(dataset_id: str, overwrite: bool = False) -> Path:
    """The folder a new dataset of that id may take: ask before hours of work, not after.

    **Raises:** `UsageError` when the id is malformed, or taken and `overwrite` is false.
    """
    path = dataset_path(dataset_id)
    _recover(path)
    if path.exists() and not overwrite:
        raise UsageError(f"dataset {dataset_id} is already on disk; pass --overwrite to make it again")
    return path


def save_dataset(trajectories: Trajectories, dataset_id: str, overwrite: bool = False) -> Path:
    """Write the trajectories as a Minari dataset and give its folder.

    Minari keeps T + 1 observations an episode, so the true successor of every row is kept.

    **Raises:** `UsageError` when the id is malformed, or taken and `overwrite` is false; `LangevinError` when
    the disk refuses. What was there stays whole in every case.
    """
    path = require_free(dataset_id, overwrite)
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _reserve(partial / "reserved", _file_size(trajectories))
        _write(trajectories, dataset_id, partial / "data")
        _replace(path, partial)
    except (OSError, RuntimeError) as error:
        raise LangevinError(f"could not write dataset {dataset_id} to {path.parent}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return path


def load_dataset(dataset: str | Path, observation_keys: Sequence[str] = ()) -> Trajectories:
    """Read a dataset, by id or by folder, into flat arrays.

    `observation_keys` names the entries of a dictionary observation, in the order in which they are laid side
    by side; observations that are plain vectors take none.

    **Raises:** `DatasetError` when it is not there, not readable, of an unsupported kind, or malformed.
    """
    folder = _find_folder(dataset)
    data_folder = folder / "data" if (folder / "data").is_dir() else folder
    metadata = _read_metadata(data_folder, str(dataset))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from minari.dataset.minari_storage import MinariStorage

            storage = MinariStorage.read(data_folder)
            episodes = list(storage.get_episodes(range(metadata["total_episodes"])))
    except (OSError, RuntimeError, KeyError, ValueError, AssertionError, TypeError) as error:
        raise DatasetError(f"dataset {dataset} cannot be read ({error}); make or fetch it again") from error
    return _flatten(episodes, storage.action_space, metadata, observation_keys)


def list_datasets() -> dict[str, dict[str, Any]]:
    """Metadata of every dataset on disk, by id; folders that hold no readable metadata are left out."""
    found = {}
    for file in sorted(datasets_folder().glob("**/data/metadata.json")):
        dataset_id = file.parent.parent.relative_to(datasets_folder()).as_posix()
        if ID_PATTERN.fullmatch(dataset_id):
            try:
                found[dataset_id] = _read_metadata(file.parent, dataset_id)
            except DatasetError:
                continue
    return found


def _write(trajectories: Trajectories, dataset_id: str, folder: Path) -> None:
    from minari import __version__ as minari_version
    from minari.dataset.minari_storage import MinariStorage

    size = trajectories.observation_size
    folder.mkdir()
    storage = MinariStorage.new(
        folder,
        observation_space=spaces.Box(-np.inf, np.inf, (size,), np.float32),
        action_space=spaces.Box(trajectories.action_low, trajectories.action_high, dtype=np.float32),
        data_format="hdf5",
    )
    references = trajectories.metadata.get("reference_scores")
    storage.update_metadata(
        {
            "dataset_id": dataset_id,
            "minari_version": minari_version,
            "algorithm_name": str(trajectories.metadata.get("recipe", {}).get("controller", "unknown")),
            **({"ref_min_score": references[0], "ref_max_score": references[1]} if references else {}),
            # With it Minari builds the environment again: `recover_environment()`.
            **({"env_spec": environment} if (environment := trajectories.metadata.get("env_spec")) else {}),
            METADATA_KEY: {**trajectories.metadata, "id": dataset_id},
        }
    )
    storage.update_episodes(_episodes(trajectories))


def _file_size(trajectories: Trajectories) -> int:
    """Bytes the HDF5 file takes at most: the arrays, its chunks' slack and its book-keeping, as measured."""
    row = trajectories.observations[0].nbytes + trajectories.actions[0].nbytes + 6
    arrays = row * (trajectories.transitions + trajectories.episodes)
    return arrays * 5 // 4 + 20_000 * trajectories.episodes + 65_536


def _reserve(file: Path, size: int) -> None:
    """Raise `OSError` now if the disk cannot take that many bytes: HDF5 crashes Python when it runs out."""
    block = bytes(1 << 20)
    with file.open("wb") as writer:
        for start in range(0, size, len(block)):
            writer.write(block[: size - start])
        writer.flush()
        os.fsync(writer.fileno())
    file.unlink()


def _episodes(trajectories: Trajectories) -> Iterator[Any]:
    from minari.data_collector import EpisodeBuffer

    for start, end in zip(trajectories.episode_starts, trajectories.episode_ends, strict=True):
        rows = slice(start, end)
        last = trajectories.next_observations[end - 1 : end]
        arrays: dict[str, Any] = {field: getattr(trajectories, field)[rows] for field in ROW_FIELDS}
        arrays["observations"] = np.concatenate([trajectories.observations[rows], last])
        yield EpisodeBuffer(**arrays)


def _replace(path: Path, partial: Path) -> None:
    previous = _previous(path)
    if path.exists():
        shutil.rmtree(previous, ignore_errors=True)
        path.rename(previous)
    try:
        partial.rename(path)
    except OSError:
        _recover(path)
        raise
    shutil.rmtree(previous, ignore_errors=True)


def _previous(path: Path) -> Path:
    return path.with_name(f".{path.name}.previous")


def _recover(path: Path) -> None:
    """Put back the dataset that a run killed between two renames had moved aside."""
    if _previous(path).exists() and not path.exists():
        _previous(path).rename(path)


def _find_folder(dataset: str | Path) -> Path:
    name = str(dataset)
    if ID_PATTERN.fullmatch(name):
        _recover(dataset_path(name))
        if dataset_path(name).exists() or not Path(name).is_dir():
            return dataset_path(name)
    return Path(name) if Path(name).is_dir() else dataset_path(name)


def _read_metadata(data_folder: Path, name: str) -> dict[str, Any]:
    file = data_folder / "metadata.json"
    if not file.is_file():
        remote = f", `minari:{name}` fetches it" if name.startswith(REMOTE_NAMESPACES) else ""
        raise DatasetError(
            f"dataset {name} is not on disk (looked for {file}); `langevin data list` shows what can be made{remote}"
        )
    try:
        metadata = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"{file} is not readable JSON ({error}); make or fetch the dataset again"
        ) from error
    # Without its spaces Minari would import whatever entry point the file names.
    for key in ("observation_space", "action_space", "total_episodes", "total_steps", "data_format"):
        if not isinstance(metadata, dict) or key not in metadata:
            raise DatasetError(f"{file} has no {key!r}; it is not a Minari dataset or is incomplete")
    return metadata


def _flatten(
    episodes: list[dict[str, Any]], action_space: spaces.Space, metadata: dict[str, Any], keys: Sequence[str]
) -> Trajectories:
    if not isinstance(action_space, spaces.Box) or len(action_space.shape) != 1:
        raise DatasetError(f"actions must be vectors of numbers, got the space {action_space}")
    if not episodes:
        raise DatasetError("the dataset holds no episodes")
    lengths = np.array([len(episode["rewards"]) for episode in episodes])
    rows = {field: [episode[field] for episode in episodes] for field in ROW_FIELDS}
    states = [_observation_rows(episode["observations"], keys) for episode in episodes]
    _check_parts("observations", states, lengths + 1)
    for field, parts in rows.items():
        _check_parts(field, parts, lengths)
    own = metadata.get(METADATA_KEY, {})
    references = [metadata[key] for key in ("ref_min_score", "ref_max_score") if key in metadata]
    return Trajectories(
        observations=np.concatenate([state[:-1] for state in states]),
        next_observations=np.concatenate([state[1:] for state in states]),
        **{field: np.concatenate(parts) for field, parts in rows.items()},
        episode_ends=np.cumsum(lengths),
        action_low=action_space.low,
        action_high=action_space.high,
        metadata={
            "id": metadata.get("dataset_id"),
            "task": None,
            "reference_scores": references if len(references) == 2 else None,
            **own,
        },
    )


def _check_parts(field: str, parts: list[np.ndarray], lengths: np.ndarray) -> None:
    """Refuse episodes whose arrays do not go with their rewards, or with the first episode's width."""
    for episode, (part, length) in enumerate(zip(parts, lengths, strict=True)):
        if part.shape != (length, *parts[0].shape[1:]):
            raise DatasetError(
                f"{field} of episode {episode} must have shape {(int(length), *parts[0].shape[1:])}, "
                f"got {part.shape}"
            )


def _observation_rows(observations: Any, keys: Sequence[str]) -> Float32[np.ndarray, "rows observation"]:
    if isinstance(observations, dict):
        known = ", ".join(sorted(observations))
        if not keys:
            raise DatasetError(f"observations are a dictionary of {known}; say which of them to use")
        for key in keys:
            if key not in observations:
                raise DatasetError(f"observations have no key {key!r}; they hold {known}")
        parts = [np.asarray(observations[key], np.float32) for key in keys]
        return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)
    if keys:
        raise DatasetError(f"observations are plain vectors, but the keys {', '.join(keys)} were asked for")
    rows = np.asarray(observations, np.float32)
    return rows.reshape(len(rows), -1)
