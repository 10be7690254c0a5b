"""The only place that reads a clock or sleeps.

Decisions about deliveries use the database's `now()`; these functions serve time-outs, waiting and display.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime


def monotonic() -> float:
    """Seconds on a clock that never goes backwards."""
    return time.monotonic()


def utc_now() -> datetime:
    """The wall clock, aware, for display only."""
    return datetime.now(UTC)


def unix_time() -> float:
    """Seconds since 1970, for protocols that demand a timestamp."""
    return time.time()


def unix_nanoseconds() -> int:
    """Nanoseconds since 1970, for the beginning of a span."""
    return time.time_ns()


def sleep(seconds: float) -> None:
    """Wait; use `threading.Event.wait` instead where the wait must end early."""
    time.sleep(seconds)


def random_fraction() -> float:
    """A number in [0, 1), for jitter."""
    return random.random()  # noqa: S311 (jitter is no secret)


@dataclass(frozen=True, slots=True)
class Deadline:
    """An instant by which a call must have ended."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """The deadline that lies `seconds` from now."""
        return cls(time.monotonic() + seconds)

    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at - time.monotonic())

    @property
    def has_passed(self) -> bool:
        """Whether no time is left."""
        return time.monotonic() >= self.at


class Backoff:
    """Waiting times that double from `first` to `most` seconds, with jitter; `reset` after a success."""

    def __init__(self, *, first: float = 0.2, most: float = 5.0) -> None:
        self._first = first
        self._most = most
        self._next = first

    def reset(self) -> None:
        """Start again from the first waiting time."""
        self._next = self._first

    def next_seconds(self) -> float:
        """The next waiting time, ±20 %."""
        wait, self._next = self._next, min(self._most, self._next * 2)
        return wait * (0.8 + 0.4 * random_fraction())

    def wait(self, stop: threading.Event) -> bool:
        """Wait for the next time, or until `stop`; true when stopped."""
        return stop.wait(self.next_seconds())
