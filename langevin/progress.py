"""Progress with time left, as an object that library code is handed and that does nothing by default."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
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
    """A bar with time left on standard error, so that standard output stays the result alone."""

    def __init__(self, console: Console | None = None):
        self._console = console or Console(stderr=True)

    @contextmanager
    def track(self, total: int, label: str) -> Iterator[Advance]:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=self._console, transient=True) as bars:
            bar = bars.add_task(label, total=total, note="")

            def advance(amount: int = 1, note: str = "") -> None:
                bars.advance(bar, amount)
                if note:
                    bars.update(bar, note=note)

            yield advance
