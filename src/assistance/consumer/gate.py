"""The gate in front of a channel: asked before every claim, so that a channel that is out costs no attempt."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from enum import StrEnum

from assistance.domain.outcome import Delivered, Found, Lookup, NotFound, Outcome
from assistance.resilience.circuit_breaker import BreakerState, CircuitBreaker, Sign, sign_of
from assistance.runtime.clock import monotonic


class Mode(StrEnum):
    """How much a channel may get."""

    FLOWING = "flowing"
    TRICKLING = "trickling"  # this process probes
    OUT = "out"


@dataclass(frozen=True, slots=True)
class News:
    """What this process found out and the others do not know yet; `state` is none after a pause, which they can see."""

    state: BreakerState | None
    was: BreakerState | None = None
    reason: str = ""


class Gate:
    """One channel's gate within this process. Thread-safe.

    It closes by itself, at once, when this process has seen enough; it opens when the watch says so. `alarm` is set
    when there is something to do for the watch.
    """

    def __init__(self, channel: str, alarm: threading.Event) -> None:
        self.channel = channel
        self._alarm = alarm
        self._lock = threading.Lock()
        self._breaker = CircuitBreaker()
        self._mode = Mode.FLOWING
        self._until = 0.0
        self._news: News | None = None

    @property
    def mode(self) -> Mode:
        """How much may pass now. A probe whose time is over may be another process's by now."""
        with self._lock:
            is_over = self._mode is Mode.TRICKLING and monotonic() >= self._until
            return Mode.OUT if is_over else self._mode

    @property
    def news(self) -> News | None:
        """What the others have yet to be told."""
        return self._news

    def record(self, answer: Outcome | Lookup) -> None:
        """Count how a call to the provider ended."""
        sign = sign_of(answer)
        if sign is not None:
            self._record(sign, _problem_of(answer))

    def close(self) -> None:
        """Let nothing through: the channel was paused, as the watch will see."""
        with self._lock:
            self._tell(News(None))

    def apply(self, mode: Mode, state: BreakerState, *, until: float, told: News | None) -> bool:
        """What the watch found, after it had told `told`; false when there is other news since, and nothing changed.

        `until` is when a probe of this process is over, on the monotonic clock.
        """
        with self._lock:
            if self._news is not told:
                return False
            self._news = None
            self._breaker.follow(state)
            self._mode, self._until = mode, until
            return True

    def _record(self, sign: Sign, problem: str) -> None:
        with self._lock:
            before = self._breaker.state
            if self._breaker.record(sign, problem, monotonic()):
                self._tell(News(self._breaker.state, before, self._breaker.reason))

    def _tell(self, news: News) -> None:
        self._news = news
        if news.state is not BreakerState.CLOSED:
            self._mode = Mode.OUT
        self._alarm.set()


def _problem_of(answer: Outcome | Lookup) -> str:
    return "" if isinstance(answer, Delivered | Found | NotFound) else f"{answer.code}: {answer.detail}"
