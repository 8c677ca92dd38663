"""Where numbers go while training: JSON lines in the run folder, and trackers for those who use one."""

import json
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from langevin.errors import UsageError
from langevin.training.files import atomic_write, explained, sync


class MetricsWriter(ABC):
    """Takes records such as ``{"stage": "policy", "step": 1000, "seed": 0, "seconds": 12.3, "critic/loss":
    0.5}``."""

    @abstractmethod
    def write(self, record: Mapping[str, Any]) -> None:
        """Add one record."""
        ...

    @abstractmethod
    def flush(self) -> None:
        """Make all records so far durable."""
        ...

    @abstractmethod
    def close(self) -> None:
        """Flush and let go of files and connections."""
        ...


class NoMetrics(MetricsWriter):
    """Forgets every record: the default of library code."""

    def write(self, record: Mapping[str, Any]) -> None:
        """Do nothing."""

    def flush(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class JsonLines(MetricsWriter):
    """Appends one JSON object a line.

    `keep_bytes` says how much of an existing file belongs to the run: the rest, written after the checkpoint
    a run resumes from, is dropped (a shortened copy is written beside the file, then renamed over it).
    """

    def __init__(self, path: str | os.PathLike, keep_bytes: int | None = None):
        self._path = Path(path)
        if keep_bytes is not None and self._path.exists() and self._path.stat().st_size != keep_bytes:
            kept = self._path.read_bytes()[:keep_bytes]
            atomic_write(self._path, kept[: kept.rfind(b"\n") + 1])
        with explained(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self._path, "ab")  # noqa: SIM115

    @property
    def size(self) -> int:
        """Bytes written so far, earlier runs included."""
        return self._file.tell()

    def write(self, record: Mapping[str, Any]) -> None:
        """Add one line; a number that is not finite becomes null, as JSON has no word for it."""
        finite = {name: None if _not_finite(value) else value for name, value in record.items()}
        self._file.write(json.dumps(finite, allow_nan=False).encode() + b"\n")

    def flush(self) -> None:
        """Wait until every line is on the disk; LangevinError when the disk refuses."""
        with explained(self._path):
            sync(self._file)

    def close(self) -> None:
        """Flush and close the file."""
        self.flush()
        self._file.close()


class FirstWarning(MetricsWriter):
    """Says the first sentence that `warning` has about any record, while there is time to stop the run."""

    def __init__(self, warning: Callable[[Mapping[str, Any]], str | None], say: Callable[[str], None]):
        self._warning, self._say = warning, say
        self._said = False

    def write(self, record: Mapping[str, Any]) -> None:
        """Look at one record."""
        if not self._said and (sentence := self._warning(record)):
            self._say(sentence)
            self._said = True

    def flush(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class TensorBoard(MetricsWriter):
    """Writes each seed's metrics as TensorBoard scalars (extra `track`)."""

    def __init__(self, folder: str | os.PathLike):
        try:
            from tensorboardX import SummaryWriter  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise _not_installed("TensorBoard", "tensorboardX") from error
        self._writer = SummaryWriter(str(folder))

    def write(self, record: Mapping[str, Any]) -> None:
        """Add each number of the record as the scalar ``stage/seed-0/name``."""
        for name, value in numbers(record).items():
            self._writer.add_scalar(f"{record['stage']}/seed-{record['seed']}/{name}", value, record["step"])

    def flush(self) -> None:
        """Write what is held back."""
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()


class WeightsAndBiases(MetricsWriter):
    """Logs each seed's metrics to a Weights & Biases run (extra `track`)."""

    def __init__(self, project: str, name: str | None = None, config: Mapping[str, Any] | None = None):
        try:
            import wandb  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise _not_installed("Weights & Biases", "wandb") from error
        self._run = wandb.init(project=project, name=name, config=dict(config or {}))

    def write(self, record: Mapping[str, Any]) -> None:
        """Log each number of the record as ``stage/seed-0/name`` over ``stage/step``."""
        prefix = f"{record['stage']}/seed-{record['seed']}"
        logged = {f"{prefix}/{name}": value for name, value in numbers(record).items()}
        self._run.log(logged | {f"{record['stage']}/step": record["step"]})

    def flush(self) -> None:
        """Do nothing: the service's client sends on its own."""

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


def numbers(record: Mapping[str, Any]) -> dict[str, float]:
    """The measured numbers of a record, without what says where they were measured."""
    where = {"stage", "step", "seed", "seconds"}
    return {
        name: value for name, value in record.items() if name not in where and isinstance(value, int | float)
    }


def read_metrics(path: str | os.PathLike) -> list[dict[str, Any]]:
    """All records of a metrics.jsonl, a last line cut off by a killed run left out.

    Raises UsageError naming the line when another line is not a JSON object.
    """
    path = Path(path)
    if not path.exists():
        raise UsageError(f"{path} does not exist; is its folder a run folder?")
    records: list[dict[str, Any]] = []
    lines: Sequence[bytes] = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines[:-1], start=1):
        try:
            records.append(dict(json.loads(line)))
        except (ValueError, TypeError) as error:
            raise UsageError(
                f"{path}, line {number}, is not a JSON object; mend or delete that line"
            ) from error
    return records


def _not_finite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _not_installed(tracker: str, package: str) -> UsageError:
    return UsageError(f"writing to {tracker} needs {package}; install it with: pip install 'langevin[track]'")
