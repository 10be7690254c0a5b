"""Say how a try or a look-up ended: one metric and one log line each."""

from __future__ import annotations

from typing import assert_never

import structlog

from assistance.deliveries.lease import Lease
from assistance.deliveries.settle import Deliver, Settlement
from assistance.deliveries.transition import Concluded
from assistance.domain.outcome import (
    CannotTell,
    Delivered,
    Found,
    Lookup,
    NotFound,
    Outcome,
    Rejected,
    RetryLater,
    Unknown,
)
from assistance.runtime import metrics

log = structlog.get_logger()


def report(
    channel: str,
    answer: Outcome | Lookup,
    lease: Lease,
    settlement: Settlement,
    concluded: Concluded,
    *,
    seconds: float,
) -> None:
    """Count and log what the channel type answered, `seconds` after it was asked, and what became of it."""
    word = name_of(answer)
    metrics.delivery.labels(channel, word).inc()
    if not concluded.kept:
        metrics.delivery_lease_lost.inc()
        log.error("consumer.lease_lost", attempt=lease.attempt, answer=word)
        return
    log.info(
        "consumer.settled",
        attempt=lease.attempt,
        series=lease.hint.series,
        answer=word,
        settlement="Cancel" if concluded.cancelled else type(settlement).__name__,
        ms=round(seconds * 1000, 1),
        **({} if isinstance(settlement, Deliver) else {"code": settlement.problem.code}),
    )


def name_of(answer: Outcome | Lookup) -> str:
    """The word for an answer in metrics and logs."""
    match answer:
        case Delivered():
            return "delivered"
        case RetryLater():
            return "retry_later"
        case Rejected():
            return "rejected"
        case Unknown():
            return "unknown"
        case Found():
            return "found"
        case NotFound():
            return "not_found"
        case CannotTell():
            return "cannot_tell"
    assert_never(answer)
