"""Close an attempt: what the channel answered, kept apart from what became of the delivery."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, assert_never
from uuid import UUID

from sqlalchemy import Connection, bindparam, func, select, update

from assistance.deliveries.lease import Lease
from assistance.domain.delivery import AttemptOutcome
from assistance.domain.outcome import Delivered, Outcome, Rejected, RetryLater, Unknown
from assistance.storage.plain import plain_json, plain_text
from assistance.storage.tables import attempts

#: A result that comes late is written all the same: a look-up reads it before asking.
MAY_BE_CLOSED = attempts.c.outcome.in_((AttemptOutcome.SENDING, AttemptOutcome.UNKNOWN))
_CLOSE = (
    update(attempts)
    .where(
        attempts.c.delivery_id == bindparam("delivery"),
        attempts.c.series == bindparam("in_series"),
        attempts.c.number == bindparam("attempt"),
        MAY_BE_CLOSED,
    )
    .values(finished_at=func.now())
)


def close_attempt(connection: Connection, lease: Lease, outcome: Outcome) -> None:
    """Close the attempt."""
    this = {"delivery": lease.hint.delivery_id, "in_series": lease.hint.series, "attempt": lease.attempt}
    connection.execute(_CLOSE, {**this, **_attempt_columns(outcome)})


def last_attempt(connection: Connection, delivery_id: UUID, series: int) -> int | None:
    """The number of the last attempt of a series; none when its rows are not kept any more."""
    this = (attempts.c.delivery_id == delivery_id, attempts.c.series == series)
    number: int | None = connection.scalar(select(func.max(attempts.c.number)).where(*this))
    return number


def _attempt_columns(outcome: Outcome) -> Mapping[str, Any]:
    match outcome:
        case Delivered(receipt=receipt):
            return {"outcome": AttemptOutcome.DELIVERED, "receipt": plain_json(receipt), "code": None, "detail": None}
        case RetryLater(code=code, detail=detail):
            return {"outcome": AttemptOutcome.RETRY_LATER, **_answer(code, detail)}
        case Rejected(code=code, detail=detail):
            return {"outcome": AttemptOutcome.REJECTED, **_answer(code, detail)}
        case Unknown(code=code, detail=detail):
            return {"outcome": AttemptOutcome.UNKNOWN, **_answer(code, detail)}
    assert_never(outcome)


def _answer(code: str, detail: str) -> dict[str, str]:
    return {"code": plain_text(code), "detail": plain_text(detail)}
