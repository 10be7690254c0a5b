"""How fast one destination is written to: every message gets a slot, and slots lie an interval apart.

Pure arithmetic. It works on numbers, and on the database's own expressions, so that PostgreSQL decides with it and
tests prove it without one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

Instant = TypeVar("Instant")

#: A slot that is this near counts as now: sending the hint round the broker again would take longer.
_NEAR_SECONDS = 0.02
#: Hints travel: a slot is still good for this long and a few intervals more.
_TRAVEL_SECONDS = 2.0
_TRAVEL_INTERVALS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """How many messages a second one destination may get."""

    per_second: float

    @property
    def interval_seconds(self) -> float:
        """From one slot to the next."""
        return 1.0 / self.per_second

    @property
    def patience_seconds(self) -> float:
        """How late a slot may be used; one that was missed by more could come in a crowd with others."""
        return _TRAVEL_SECONDS + _TRAVEL_INTERVALS * self.interval_seconds


def slot_after(next_free: Instant, now: Instant, later: Callable[[Instant, Instant], Any] = max) -> Any:
    """My slot: the destination's next free one, or now when it has been free for a while.

    The next free one after it lies an interval later. `later` picks the later of two instants.
    """
    return later(next_free, now)


def is_near(wait_seconds: float) -> bool:
    """Whether a slot that is this many seconds away may be used at once."""
    return wait_seconds <= _NEAR_SECONDS
