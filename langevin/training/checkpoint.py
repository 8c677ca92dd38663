"""Checkpoints on disk: a folder each, written whole or not at all, read back without pickle.

``checkpoints/00-model/`` is the finished state of stage 0, saved once; ``checkpoints/01-policy-000012000/``
is stage 1 after 12,000 updates, of which the last two are kept until the stage is finished. Each holds
`state.eqx` (every array: parameters, targets, averages, optimiser, normalisers, buffers) and `progress.json`.
"""

import json
import re
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from langevin.errors import LangevinError
from langevin.training.files import atomic_folder, sweep_unfinished, sync

_KEPT = 2
_NAME = re.compile(r"(\d\d)-([a-z][a-z0-9_]*?)(?:-(\d{9}))?")


@dataclass(frozen=True)
class Progress:
    """Where a run stands, beside the state itself."""

    stage: str
    stage_index: int
    step: int
    finished: bool
    """Whether this is the stage's finished state."""
    plan: dict[str, Any]
    """What a resumed run must share with this one: seeds, stages, chunk lengths."""
    stopped: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Seeds that diverged: seed -> {"stage", "step", "reason"}."""
    seconds: float = 0.0
    """Wall time of the run so far."""
    updates_per_second: float = 0.0
    metrics_bytes: int = 0
    """Length of metrics.jsonl when this was saved."""

    @property
    def over(self) -> bool:
        """Whether nothing is left to do."""
        return self.finished and self.stage_index == len(self.plan["stages"]) - 1


class Checkpoints:
    """The checkpoints of one run folder."""

    def __init__(self, run_folder: str | Path):
        self.folder = Path(run_folder) / "checkpoints"

    def save(self, progress: Progress, state: PyTree) -> None:
        """Save a state, then remove what it makes superfluous. A death on the way leaves the earlier ones."""

        def fill(folder: Path) -> None:
            leaves = {"leaves": _describe(state)}
            with open(folder / "progress.json", "w") as file:
                json.dump(asdict(progress) | leaves, file, indent=1)
                sync(file)
            with open(folder / "state.eqx", "wb") as file:
                eqx.tree_serialise_leaves(file, state)
                sync(file)

        name = f"{progress.stage_index:02d}-{progress.stage}"
        if not progress.finished:
            name += f"-{progress.step:09d}"
        if (self.folder / name).exists():
            return
        atomic_folder(self.folder / name, fill)
        partial = [path for path in self._ordered() if path.name.count("-") == 2]
        for path in partial if progress.finished else partial[:-_KEPT]:
            shutil.rmtree(path)

    def newest(self) -> Path | None:
        """The checkpoint to go on from, or None."""
        sweep_unfinished(self.folder)
        ordered = self._ordered()
        return ordered[-1] if ordered else None

    def finished(self, index: int, name: str) -> Path:
        """Where the finished state of a stage lies."""
        return self.folder / f"{index:02d}-{name}"

    def _ordered(self) -> list[Path]:
        found = []
        for path in self.folder.glob("*"):
            if match := _NAME.fullmatch(path.name):
                step = float("inf") if match[3] is None else int(match[3])
                found.append((int(match[1]), step, path))
        return [path for *_, path in sorted(found)]


def read_progress(checkpoint: Path) -> Progress:
    """The progress of a checkpoint; LangevinError when it cannot be read."""
    return Progress(**{name: value for name, value in _read_json(checkpoint).items() if name != "leaves"})


def load_state(checkpoint: Path, like: PyTree) -> PyTree:
    """The state of a checkpoint, in the structure of `like` (arrays or `jax.ShapeDtypeStruct`s).

    Raises LangevinError naming the first leaf whose name, shape or dtype differs, or that is cut short.
    """
    saved: dict[str, str] = dict(_read_json(checkpoint)["leaves"])
    expected = dict(_describe(like))
    for name in saved | expected:
        if saved.get(name) != expected.get(name):
            raise LangevinError(
                f"{checkpoint} does not fit this run: {name} is {saved.get(name, 'missing')} in the "
                f"checkpoint, {expected.get(name, 'missing')} in the run; use the configuration and version "
                "that saved it"
            )
    try:
        with open(checkpoint / "state.eqx", "rb") as file:
            state = eqx.tree_deserialise_leaves(file, like, filter_spec=_read_leaf)
            surplus = file.read(1)
    except OSError as error:
        raise _damaged(checkpoint, f"state.eqx cannot be read ({error.strerror or error})") from error
    except RuntimeError as error:  # the class in which Equinox wraps whatever a leaf raised, with its path
        leaf = jax.tree_util.keystr(path) if (path := getattr(error, "path", None)) else str(error)
        raise _damaged(checkpoint, f"state.eqx is cut short or foreign at {leaf}") from error
    if surplus:
        raise _damaged(checkpoint, "state.eqx is longer than the state it should hold")
    return state


def _read_leaf(file, like: Any) -> Any:
    if isinstance(like, jax.Array | jax.ShapeDtypeStruct):
        return jnp.asarray(jnp.load(file, allow_pickle=False))
    return eqx.default_deserialise_filter_spec(file, like)


def _describe(tree: PyTree) -> list[tuple[str, str]]:
    """Name, dtype and shape of every leaf that is saved."""
    described = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if isinstance(leaf, jax.Array | np.ndarray | jax.ShapeDtypeStruct):
            described.append((jax.tree_util.keystr(path), f"{leaf.dtype}{list(leaf.shape)}"))
        elif isinstance(leaf, bool | int | float | complex):
            described.append((jax.tree_util.keystr(path), type(leaf).__name__))
    return described


def _read_json(checkpoint: Path) -> dict[str, Any]:
    try:
        content = json.loads((checkpoint / "progress.json").read_bytes())
        Progress(**{name: value for name, value in content.items() if name != "leaves"})
        dict(content["leaves"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(checkpoint, f"progress.json cannot be read ({error})") from error
    return content


def _damaged(checkpoint: Path, what: str) -> LangevinError:
    return LangevinError(
        f"checkpoint {checkpoint} is damaged: {what}; delete that folder to go on from the one before it"
    )
