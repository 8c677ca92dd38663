"""Progress with time left, as an object that library code is handed and that does nothing by default."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Advance(Protocol):
    """Reports work done since the last call, with a short note to stand beside the bar."""

    def __call__(self, amount: int = 1, note: str = "") -> None: ...


class AbstractProgress(ABC):
    """Where work reports how far it is."""

    @abstractmethod
    @contextmanager
    def track(self, total: int, label: str) -> Iterator[Advance]:
        """Follow `total` units of work; the value of the `with` block reports them."""
        ...


class SilentProgress(AbstractProgress):
    """Says nothing: the default of library code."""

    @contextmanager
    def track(self, total: int, label: str) -> Iterator[Advance]:
        yield lambda amount=1, note="": None


class BarProgress(AbstractProgress):
    """Bars with time left on standard error, so that standard output stays the result alone.

    One below the other where work is done side by side, for a terminal shows only one display at a time.
    """

    def __init__(self, console: Console | None = None):
        self._console = console or Console(stderr=True)
        self._lock = Lock()
        self._bars: Progress | None = None

    @contextmanager
    def track(self, total: int, label: str) -> Iterator[Advance]:
        with self._lock:
            bars = self._bars = self._bars or self._shown()
            bar = bars.add_task(label, total=total, note="")

        def advance(amount: int = 1, note: str = "") -> None:
            bars.advance(bar, amount)
            if note:
                bars.update(bar, note=note)

        try:
            yield advance
        finally:
            with self._lock:
                if len(bars.tasks) > 1:
                    bars.remove_task(bar)
                else:
                    bars.stop()
                    self._bars = None

    def _shown(self) -> Progress:
        """A display of bars, on the screen."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        bars = Progress(*columns, console=self._console, transient=True)
        bars.start()
        return bars
