"""The third parties: they act and lose the answer, act too late, refuse, ask to wait, and take a moment to show it."""

from __future__ import annotations

from collections.abc import Container

from assistance.domain.outcome import (
    NO_TIME,
    CannotTell,
    Delivered,
    Found,
    Lookup,
    NotFound,
    Outcome,
    Rejected,
    RejectionReason,
    RetryLater,
    Unknown,
)
from tests.simulation.design import TIMEOUT, Design
from tests.simulation.scheduler import STEP, Scheduler, Steps
from tests.simulation.statements import Lease
from tests.simulation.store import Violation

_DELIVERED = Delivered(receipt={"id": "1"})
_FOUND, _NOT_FOUND = Found(receipt={"id": "1"}), NotFound()
_REFUSED = RetryLater(code="refused", detail="Nobody listens.", answered=False)
_BUSY = RetryLater(code="busy", detail="Busy.")
_LIMITED = RetryLater(code="limited", detail="Slow down.", retry_after_seconds=3.0)
_BAD_CONTENT = Rejected(code="content", detail="Too strange.", reason=RejectionReason.CONTENT)
_BAD_TOKEN = Rejected(code="token", detail="Revoked.", reason=RejectionReason.CONFIGURATION)
_NO_TIME = RetryLater(code=NO_TIME, detail="The deadline is over.", answered=False)
_LOST = Unknown(code="lost", detail="No answer.", answered=False)
_NO_LOOKUP = CannotTell(code="no_lookup", detail="Cannot be looked up.")
_DOWN = CannotTell(code="down", detail="Down.", look_again=True)
_SILENT = CannotTell(code="silent", detail="Nobody listens.", look_again=True, answered=False)
_WAIT = CannotTell(code="limited", detail="Slow down.", look_again=True, retry_after_seconds=3.0)
#: A call may still be acted on after it was given up, and a look-up shows it a moment later still: together less than
#: two settling times, which is what `settle` and `looks` are chosen for.
_GIVES_UP, _ACTS, _HIDDEN = 3.5, 4.0, 1.5


class Providers:
    """One provider for each channel. `shown` is the truth: what people saw, by delivery and series."""

    __slots__ = ("_accepted", "_calls", "_design", "_scheduler", "_seed", "shown", "silent_until", "stale", "trouble")

    def __init__(self, scheduler: Scheduler, design: Design, seed: int, accepted: Container[int]) -> None:
        self._scheduler = scheduler
        self._design = design
        self._seed = seed
        self._accepted = accepted  # the deliveries on disk
        self._calls: dict[tuple[int, int], int] = {}
        self.shown: dict[tuple[int, int], list[float]] = {}
        self.stale: set[tuple[int, int]] = set()  # sent by a process that stood still until its lease was over
        self.trouble = 0.0
        self.silent_until = 0.0  # nobody answers on any channel

    def send(self, lease: Lease, *, says_repeat: bool, lookup: bool) -> Steps[Outcome]:
        """One call; a crash before its second step sends nothing, one after it loses the answer."""
        key = (lease.hint.delivery, lease.hint.series)
        yield STEP
        if self._scheduler.now > lease.claimed_at + TIMEOUT:
            # The process stood still. It notices before it connects, unless it stood still right after it had looked.
            if self._scheduler.random() < 0.8:
                return _NO_TIME
            self.stale.add(key)
        elif key in self.shown and not says_repeat and not lookup and key not in self.stale:
            raise Violation(f"I5: delivery {key[0]} is sent again and does not say so")
        self._calls[key] = number = self._calls.get(key, 0) + 1
        dice = self._dice(key, number)
        if self._scheduler.now < self.silent_until:
            return _REFUSED
        if dice >= self.trouble:
            self._show(key)
            yield STEP
            return _DELIVERED
        outcome = yield from self._misbehave(dice / self.trouble, key)
        if self._design.library_retries and outcome is _LOST:
            self._show(key)
            yield STEP
            return _DELIVERED
        return outcome

    def _misbehave(self, dice: float, key: tuple[int, int]) -> Steps[Outcome]:
        if dice < 0.40:
            return (yield from self._answer_badly(dice / 0.40))
        self._scheduler.counts["lost or slow answers"] += 1
        if dice < 0.55:  # acts, and the answer is lost at once
            self._show(key)
            yield STEP
        elif dice < 0.70:  # the call never arrives
            yield TIMEOUT / 2
        elif dice < 0.80:  # acts after the caller has given up
            self._scheduler.spawn_once(self._act_later(key), _ACTS)
            yield _GIVES_UP
        else:  # slow, up to the time-out and beyond
            self._show(key)
            yield TIMEOUT * dice / 1.5
            return _DELIVERED
        return _LOST

    def _answer_badly(self, dice: float) -> Steps[Outcome]:
        yield STEP
        if dice < 0.30:
            return _REFUSED
        if dice < 0.50:
            return _BUSY
        if dice < 0.65:
            return _LIMITED
        return _BAD_CONTENT if dice < 0.90 else _BAD_TOKEN

    def _act_later(self, key: tuple[int, int]) -> Steps[None]:
        self._show(key)
        return
        yield

    def _show(self, key: tuple[int, int]) -> None:
        scheduler = self._scheduler
        if key[0] not in self._accepted:
            raise Violation(f"I3: delivery {key[0]} was sent and never accepted")
        self.shown.setdefault(key, []).append(scheduler.now)
        scheduler.trace.append(("shown", key))

    def lookup(self, lease: Lease, *, possible: bool) -> Steps[Lookup]:
        """Ask what became of a delivery's series."""
        yield STEP
        if not possible:
            return _NO_LOOKUP
        if self._scheduler.now < self.silent_until:
            return _SILENT
        if self.trouble and self._scheduler.random() < self.trouble / 2:
            return _DOWN if self._scheduler.random() < 0.5 else _WAIT
        shown = self.shown.get((lease.hint.delivery, lease.hint.series), ())
        hidden = _HIDDEN * self._scheduler.random()
        yield STEP
        return _FOUND if any(at + hidden <= self._scheduler.now for at in shown) else _NOT_FOUND

    def _dice(self, key: tuple[int, int], number: int) -> float:
        """The same for the same call of the same run, in whatever order the calls come."""
        mixed = (self._seed * 0x9E3779B97F4A7C15 + key[0] * 0xBF58476D1CE4E5B9 + key[1] * 7919 + number * 104729) & (
            2**64 - 1
        )
        mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 & (2**64 - 1)
        mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB & (2**64 - 1)
        return ((mixed ^ (mixed >> 31)) >> 11) / 2**53
