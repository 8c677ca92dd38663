"""Writing files so that nothing on disk is ever half written: beside the old one first, then a rename."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from langevin.errors import LangevinError

_UNFINISHED = ".unfinished-"


def atomic_write(path: str | os.PathLike, content: bytes | str) -> None:
    """Write a whole file, or leave what was there. Text is written as UTF-8.

    Raises LangevinError, naming the file and the cause, when the disk refuses (full, read only, …).
    """
    path = Path(path)
    beside = path.with_name(f"{_UNFINISHED}{os.getpid()}-{path.name}")
    with explained(path):
        try:
            with open(beside, "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                sync(file)
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)
        _sync_folder(path.parent)


def atomic_folder(path: str | os.PathLike, fill: Callable[[Path], None]) -> None:
    """Make a new folder that holds everything `fill(folder)` writes, or does not exist at all.

    `fill` must `sync` the files it writes. Raises LangevinError as `atomic_write` does.
    """
    path = Path(path)
    beside = path.with_name(f"{_UNFINISHED}{os.getpid()}-{path.name}")
    with explained(path):
        try:
            beside.mkdir(parents=True)
            fill(beside)
            _sync_folder(beside)
            os.rename(beside, path)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        _sync_folder(path.parent)


def sweep_unfinished(folder: Path) -> None:
    """Remove what killed writers left in a folder."""
    for leftover in folder.glob(f"{_UNFINISHED}*"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def sync(file) -> None:
    """Wait until an open file's content is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Wait until a rename inside the folder is on the disk (not every system lets a folder be opened)."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the system's refusal to write into a sentence."""
    try:
        yield
    except OSError as error:
        raise LangevinError(
            f"could not write {path}: {error.strerror or error}; what was there before is untouched"
        ) from error
