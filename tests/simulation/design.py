"""The design as it is, and what happens to it when one of its ideas is left out."""

from __future__ import annotations

from dataclasses import dataclass

from assistance.deliveries.settle import Policy
from assistance.domain.delivery import OnUnknown
from assistance.resilience.retry_schedule import RetrySchedule

LEASE = 10.0
#: A call ends by itself well before its lease does.
TIMEOUT = 8.0
CHECK_AFTER = 15.0
CONCILIATION_INTERVAL = 4.0
RELAY_POLL = 1.0
RETRY = RetrySchedule(delays=(1.0, 2.0, 4.0, 8.0), give_up_after=20.0)
PROBE_AFTER = 6.0
PROBE_LASTS = 12.0
SETTLE = 2.0
LOOKS = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Design:
    """Each switch leaves one idea out."""

    marks_before_sending: bool = False
    relay_keeps_a_cursor: bool = False
    no_lease: bool = False
    acks_before_recording: bool = False
    library_retries: bool = False
    no_look_up: bool = False
    looks_at_once: bool = False
    idempotency_apart: bool = False
    outbox_apart: bool = False
    letter_apart: bool = False
    check_at_forgotten: bool = False
    series_ignored: bool = False
    lock_within_reading: bool = False
    no_fencing: bool = False
    confirm_not_awaited: bool = False
    hold_ignored: bool = False
    losers_not_cancelled: bool = False
    breaker_not_shared: bool = False


REAL = Design()

#: What each weakened design does instead; every one of them must be caught.
MUTANTS = {
    "marks_before_sending": "writes delivered, then sends",
    "relay_keeps_a_cursor": "the relay publishes ids above the last one that it saw",
    "no_lease": "a claim does not look whether somebody is at work",
    "acks_before_recording": "the message is acknowledged when it arrives",
    "library_retries": "the channel's library repeats a call whose answer was lost",
    "no_look_up": "an unknown outcome is sent again at once",
    "looks_at_once": "one look-up, without a settling time",
    "idempotency_apart": "the key is stored after the request's commit",
    "outbox_apart": "outbox rows are written after the commit of what they announce",
    "letter_apart": "the dead letter is written after the commit of the death",
    "check_at_forgotten": "a retry sets no check_at",
    "series_ignored": "a stale hint is taken for a fresh one",
    "lock_within_reading": "the request is locked by the statement that reads its deliveries",
    "no_fencing": "a holder whose lease was taken over still writes its result",
    "confirm_not_awaited": "the relay deletes a row once it was published",
    "hold_ignored": "a channel that holds unknown deliveries sends them again",
    "losers_not_cancelled": "a step that told people does not end the others",
    "breaker_not_shared": "each process asks its own circuit breaker alone",
}


def mutant(name: str) -> Design:
    """The design without one of its ideas."""
    return Design(**{name: True})


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A channel of the model: whether its provider can be asked, and what follows when nobody can tell."""

    lookup: bool
    policy: Policy


def lines(design: Design) -> dict[str, Line]:
    """The channels: one with a look-up, one without, one that holds what nobody knows."""
    settle, looks = (0.0, 1) if design.looks_at_once else (SETTLE, LOOKS)
    resend = Policy(retry=RETRY, settle_seconds=settle, looks=looks)
    on_unknown = OnUnknown.RESEND if design.hold_ignored else OnUnknown.HOLD
    hold = Policy(retry=RETRY, settle_seconds=settle, looks=looks, on_unknown=on_unknown)
    return {
        "lookup": Line(lookup=True, policy=resend),
        "blind": Line(lookup=False, policy=resend),
        "hold": Line(lookup=False, policy=hold),
    }
