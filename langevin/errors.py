"""The errors a person can cause, and can mend."""


class LangevinError(Exception):
    """Work failed for a reason the message explains in one sentence (exit code 1)."""


class UsageError(LangevinError):
    """The command's arguments, or the data it was handed, cannot be used (exit code 2).

    The message says what was wrong, where (file, field, row) and what to do.
    """


class DatasetError(UsageError):
    """A dataset is malformed; the message names the field and the row."""
