"""When a channel is left alone because its provider is in trouble, and how it comes back. Pure: instants are arguments.

Each process counts what it sees in a `CircuitBreaker`. What all consumers of a channel agree on is a `SharedBreaker`:
the first process that has seen enough opens it for everybody, and one process at a time may probe.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from enum import StrEnum

from assistance.domain.outcome import NO_TIME, CannotTell, Lookup, Outcome, RetryLater, Unknown

WINDOW_SECONDS = 10.0
#: Fewer calls than this in the window say nothing about a share.
LEAST_CALLS = 10
SHARE_OF_FAILURES = 0.5
#: A channel with a pace never makes ten calls in ten seconds; that nobody answers is clear much sooner.
MOST_SILENT_IN_A_ROW = 3


class BreakerState(StrEnum):
    """`closed → open → half_open → closed | open`."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Sign(StrEnum):
    """What a call says about the provider."""

    ALIVE = "alive"  # it answered as a working provider does, with a refusal or a request to wait at worst
    TROUBLE = "trouble"  # it answered, and the answer was trouble
    SILENT = "silent"  # nobody answered


def sign_of(answer: Outcome | Lookup) -> Sign | None:
    """What an answer says about the provider; none when it says nothing.

    A rejected message never counts against the provider, and neither does its wish to wait.
    """
    if isinstance(answer, RetryLater | CannotTell) and answer.code == NO_TIME:
        return None
    match answer:
        case RetryLater(retry_after_seconds=None, answered=answered) | Unknown(answered=answered):
            return Sign.TROUBLE if answered else Sign.SILENT
        case CannotTell(look_again=False):
            return None  # perhaps nobody was asked
        case CannotTell(retry_after_seconds=None, answered=answered):
            return Sign.TROUBLE if answered else Sign.SILENT
    return Sign.ALIVE


class CircuitBreaker:
    """What one process sees of a channel. Not thread-safe.

    Half-open ends with the first sign, good or bad. One answer is enough to close: an opening takes silence or a
    lasting share of failures, so that a sick provider opens it again after a handful of calls, while a demand for
    more answers would keep a channel with little traffic half-open for hours after it has recovered.
    """

    def __init__(self) -> None:
        self.state = BreakerState.CLOSED
        self.reason = ""  # of the last opening
        self._calls: deque[tuple[float, bool]] = deque()  # when each call of the window ended, and whether it failed
        self._failures = 0
        self._silent_in_a_row = 0

    def record(self, sign: Sign, problem: str, at: float) -> bool:
        """Count a call that ended at the instant `at` (seconds, never going back); true when the state changed.

        While open nothing is counted: such a call began before.
        """
        if self.state is BreakerState.HALF_OPEN:
            self.follow(BreakerState.CLOSED if sign is Sign.ALIVE else BreakerState.OPEN)
            self.reason = "" if sign is Sign.ALIVE else f"The probe failed: {problem}"
            return True
        if self.state is BreakerState.OPEN:
            return False
        self._count(sign, at)
        if self._silent_in_a_row >= MOST_SILENT_IN_A_ROW:
            what = f"{self._silent_in_a_row} calls in a row were not answered"
        elif len(self._calls) >= LEAST_CALLS and self._failures >= SHARE_OF_FAILURES * len(self._calls):
            what = f"{self._failures} of {len(self._calls)} calls in {WINDOW_SECONDS:g} s failed"
        else:
            return False
        self.follow(BreakerState.OPEN)
        self.reason = f"{what}, the last one: {problem}"
        return True

    def follow(self, state: BreakerState) -> None:
        """Take over what all agreed on. A change of state starts the counting anew."""
        if state is not self.state:
            self.state = state
            self._calls.clear()
            self._failures = self._silent_in_a_row = 0

    def _count(self, sign: Sign, at: float) -> None:
        self._calls.append((at, sign is not Sign.ALIVE))
        self._failures += sign is not Sign.ALIVE
        self._silent_in_a_row = self._silent_in_a_row + 1 if sign is Sign.SILENT else 0
        while self._calls[0][0] <= at - WINDOW_SECONDS:
            self._failures -= self._calls.popleft()[1]


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedBreaker:
    """What all consumers of a channel agree on; instants are seconds on the one clock that all of them use.

    `probe_at` is when the next probe may begin. It also tells probes apart: a process is the one that probes as long
    as the state is half-open and `probe_at` is the one that it got.
    """

    state: BreakerState = BreakerState.CLOSED
    probe_at: float | None = None

    def opened(self, now: float, probe_after: float) -> SharedBreaker:
        """After a process has seen enough; what is open already stays as it is."""
        if self.state is not BreakerState.CLOSED:
            return self
        return SharedBreaker(state=BreakerState.OPEN, probe_at=now + probe_after)

    def probed(self, now: float, lasts: float) -> SharedBreaker:
        """For a process that would probe, for `lasts` seconds: unchanged when it is not yet time, or no longer.

        Whoever began the probe before may be dead, and may have had no message to probe with.
        """
        if self.probe_at is None or now < self.probe_at:
            return self
        return SharedBreaker(state=BreakerState.HALF_OPEN, probe_at=now + lasts)

    def probe_failed(self, now: float, probe_after: float) -> SharedBreaker:
        """After a failed probe. One that is open already waits no longer because of it."""
        if self.state is not BreakerState.HALF_OPEN:
            return self
        return replace(self, state=BreakerState.OPEN, probe_at=now + probe_after)

    def probe_answered(self) -> SharedBreaker:
        """After a probe that was answered; a later probe that failed counts for more."""
        return SharedBreaker() if self.state is BreakerState.HALF_OPEN else self
