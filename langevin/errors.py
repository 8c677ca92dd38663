"""The errors a person can cause, and can mend."""

import difflib
from collections.abc import Iterable


class LangevinError(Exception):
    """Work failed for a reason the message explains in one sentence (exit code 1)."""


class UsageError(LangevinError):
    """The command's arguments, or the data it was handed, cannot be used (exit code 2).

    The message says what was wrong, where (file, field, row) and what to do.
    """


class DatasetError(UsageError):
    """A dataset is malformed; the message names the field and the row."""


class DivergedError(LangevinError):
    """No seed of a training is left: every one came to numbers that are not finite."""


class NoDensityError(LangevinError):
    """A deterministic policy was asked for the density of an action."""


def require_at_least(least: int | float, **settings: int | float) -> None:
    """Raises UsageError naming the first of the settings that is smaller."""
    for name, value in settings.items():
        if not value >= least:
            raise UsageError(f"{name} must be at least {least}, got {value}")


def require_between(least: int | float, most: int | float, **settings: int | float) -> None:
    """Raises UsageError naming the first of the settings that lies outside."""
    for name, value in settings.items():
        if not least <= value <= most:
            raise UsageError(f"{name} must lie between {least} and {most}, got {value}")


def nearest(name: str, known: Iterable[str], shown: Iterable[str] = ()) -> str:
    """Words to end an error with: what the person may have meant, else what there is (`shown`, or all)."""
    known, shown = list(known), list(shown)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.75)
    close = close or [known_name for known_name in known if name and name in known_name]
    choices = ", ".join(sorted(shown or known))
    return f"did you mean {' or '.join(close)}?" if close else f"choose one of {choices}"
