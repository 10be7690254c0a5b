"""Deadlines and growing pauses."""

from __future__ import annotations

import threading
import time

from assistance.runtime.clock import Backoff, Deadline


def test_a_deadline_counts_down_and_never_below_zero() -> None:
    deadline = Deadline.after(60)
    assert 59 < deadline.remaining() <= 60
    assert not deadline.has_passed
    passed = Deadline.after(-1)
    assert passed.remaining() == 0.0
    assert passed.has_passed


def test_pauses_double_up_to_the_most_and_begin_again_after_a_success() -> None:
    backoff = Backoff(first=1.0, most=4.0)
    pauses = [backoff.next_seconds() for _ in range(5)]
    for pause, middle in zip(pauses, (1, 2, 4, 4, 4), strict=True):
        assert 0.8 * middle <= pause <= 1.2 * middle
    backoff.reset()
    assert backoff.next_seconds() <= 1.2


def test_a_pause_ends_early_when_asked_to_stop() -> None:
    stop = threading.Event()
    stop.set()
    started = time.monotonic()
    assert Backoff(first=30.0, most=30.0).wait(stop)
    assert time.monotonic() - started < 5
