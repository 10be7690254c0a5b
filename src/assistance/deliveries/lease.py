"""What a claim gives: the right to try or to look up a delivery, or why there is nothing to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from assistance.deliveries.follow_ups import Told
from assistance.domain.hint import Hint
from assistance.domain.request import AssistanceRequest
from assistance.runtime.clock import monotonic


@dataclass(frozen=True, kw_only=True, slots=True)
class Lease:
    """The right to end one try or one look-up of a delivery."""

    token: UUID
    hint: Hint
    attempt: int
    refunded: int
    looks: int
    elapsed_seconds: float  # from the first attempt of the series to the claim, without waiting for slots and outages
    claimed_at: float  # on the monotonic clock of this process, read before the lease began
    in_steps: bool = False  # the request has a fallback: how this ends may concern its other deliveries
    notifies: bool = True  # it tells the request itself
    calls_back: bool = False
    traceparent: str | None = None  # the trace of its request
    replays_attempt: int | None = None  # of the series before, as far as a trace shows it

    @property
    def spent(self) -> int:
        """How many attempts of the series count, the current one included."""
        return self.attempt - self.refunded

    @property
    def attempt_before(self) -> tuple[int, int] | None:
        """The series and the number of the attempt that this one repeats."""
        if self.attempt > 1:
            return self.hint.series, self.attempt - 1
        return None if self.replays_attempt is None else (self.hint.series - 1, self.replays_attempt)

    @property
    def elapsed_now(self) -> float:
        """Seconds since the first attempt of the series."""
        return self.elapsed_seconds + monotonic() - self.claimed_at


@dataclass(frozen=True, kw_only=True, slots=True)
class Telling:
    """What a delivery tells."""

    request: AssistanceRequest
    event_version: int
    late_seconds: float
    may_repeat: bool  # an earlier try ended without a clear answer, and readers are told
    unconfirmed: tuple[str, ...] = ()  # the channels of earlier steps that this one steps in for
    told: Told | None = None  # what a follow-up tells, and under which message
    payload: Mapping[str, Any] | None = None  # the words of a callback


@dataclass(frozen=True, kw_only=True, slots=True)
class ToSend(Telling):
    """Send it, then settle."""

    lease: Lease
    destination: Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ToLookUp:
    """Nobody knows whether it arrived: look it up, then settle.

    `late_receipt` is what an earlier holder still wrote down after its lease had been taken: it answers the question.
    `looker_died` says that the last worker that looked it up did not come back.
    """

    lease: Lease
    destination: Mapping[str, Any] | None
    since: datetime
    late_receipt: Mapping[str, Any] | None
    looker_died: bool
    thread: Mapping[str, Any] | None = None  # the receipt of the message that it was to be sent under


@dataclass(frozen=True, kw_only=True, slots=True)
class NothingToDo:
    """The hint was early, late or doubled, or its delivery has to wait.

    `finished`, `stale`, `busy`, `not_due`, `misrouted`, `held` (for an operator), `paced` (for its slot), `behind`
    (what it follows is not told yet) or `not_wanted` (a callback whose webhook is gone).
    """

    reason: str


class AlreadyDead:
    """The delivery is dead: the hint belongs into the dead letter queue."""


class NoSuchDelivery:
    """The database does not know the delivery, as after a restore of an older backup."""


Claim = ToSend | ToLookUp | NothingToDo | AlreadyDead | NoSuchDelivery
