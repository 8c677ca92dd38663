"""Work side by side: order, errors, and that what is still running is told to stop."""

import os
import signal
import threading
import time
from contextlib import contextmanager

import pytest

from langevin.experiments.side_by_side import StoppedError, side_by_side
from langevin.progress import AbstractProgress, SilentProgress

WAIT_SECONDS = 30


def report_until_stopped(progress, ended):
    """For a while at most, so that what is never stopped fails and does not hang."""
    with progress.track(1, "work") as advance:
        for _ in range(WAIT_SECONDS * 100):
            try:
                advance(0)
            except StoppedError:
                ended.append("stopped")
                raise
            time.sleep(0.01)


def test_results_come_by_name_whichever_is_done_first():
    begun = threading.Event()

    def first(progress):
        assert begun.wait(WAIT_SECONDS), "the second piece was not begun beside the first"
        return 1

    def second(progress):
        begun.set()
        return 2

    assert side_by_side({"first": first, "second": second}, SilentProgress()) == {"first": 1, "second": 2}


def test_no_more_than_the_workers_at_a_time():
    running, most = [], []

    def piece(progress):
        running.append(1)
        time.sleep(0.01)
        most.append(len(running))
        running.pop()

    side_by_side({str(number): piece for number in range(20)}, SilentProgress(), workers=1)
    assert max(most) == 1


def test_an_error_is_raised_and_ends_the_others_at_their_next_report():
    ended, begun = [], threading.Event()

    def endless(progress):
        begun.set()
        report_until_stopped(progress, ended)

    def failing(progress):
        assert begun.wait(WAIT_SECONDS)
        raise ValueError("disk full")

    def never(progress):
        ended.append("never")

    with pytest.raises(ValueError, match="disk full"):
        side_by_side({"endless": endless, "failing": failing, "never": never}, SilentProgress())
    assert ended == ["stopped"]


@pytest.fixture
def heeds_ctrl_c():
    """A test run's own workers may ignore the signal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_ends_what_is_running_and_begins_nothing_more(heeds_ctrl_c):
    ended = []

    def interrupted(progress):
        time.sleep(0.3)  # until the main thread waits
        os.kill(os.getpid(), signal.SIGINT)
        report_until_stopped(progress, ended)

    def never(progress):
        ended.append("never")

    with pytest.raises(KeyboardInterrupt):
        side_by_side(
            {"interrupted": interrupted, "never": never}, SilentProgress(), workers=1,
            stopping=lambda: ended.append("told"),
        )  # fmt: skip
    assert sorted(ended) == ["stopped", "told"]


class Labels(AbstractProgress):
    """Remembers what was tracked."""

    def __init__(self):
        self.labels = []

    @contextmanager
    def track(self, total, label):
        self.labels.append(label)
        yield lambda amount=1, note="": None


def test_each_piece_reports_under_its_name():
    shown = Labels()

    def piece(progress):
        with progress.track(3, "policy") as advance:
            advance(3)

    side_by_side({"bc": piece, "td3bc": piece}, shown, workers=1)
    assert shown.labels == ["bc: policy", "td3bc: policy"]
