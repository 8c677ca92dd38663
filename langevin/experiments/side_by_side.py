"""Pieces of work side by side: while one of them compiles, or waits for the simulator, another trains."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event
from typing import TypeVar

from langevin.progress import AbstractProgress, Advance

Result = TypeVar("Result")


class StoppedError(Exception):
    """A piece was told to stop because another failed, or because of Ctrl-C."""


@dataclass(frozen=True)
class PieceProgress(AbstractProgress):
    """One piece's progress, under its name; once `stop` is set, what reports to it ends by `StoppedError`."""

    progress: AbstractProgress
    name: str
    stop: Event

    @contextmanager
    def track(self, total: int, label: str) -> Iterator[Advance]:
        with self.progress.track(total, f"{self.name}: {label}") as advance:

            def heed(amount: int = 1, note: str = "") -> None:
                if self.stop.is_set():
                    raise StoppedError(self.name)
                advance(amount, note)

            yield heed


def side_by_side(
    pieces: Mapping[str, Callable[[AbstractProgress], Result]],
    progress: AbstractProgress,
    workers: int = 2,
    stopping: Callable[[], None] = lambda: None,
) -> dict[str, Result]:
    """The pieces' results by name; begun in order, `workers` at a time, each in a thread of this process.

    The first error, or Ctrl-C, is raised here, after a call of `stopping`; pieces that are running end at their next
    report of progress and are waited for, those not begun are not.
    """
    stop = Event()
    with ThreadPoolExecutor(workers) as pool:
        try:
            futures = {
                name: pool.submit(piece, PieceProgress(progress, name, stop))
                for name, piece in pieces.items()
            }
            for future in as_completed(futures.values()):
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # first, or a free worker would begin the next
            stop.set()
            stopping()
            raise
        return {name: future.result() for name, future in futures.items()}
