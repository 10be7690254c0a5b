"""Write hints into the outbox, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from sqlalchemy import UUID, ColumnElement, Connection, Interval, bindparam, func, select, text
from sqlalchemy.dialects.postgresql import JSONB, Insert, insert

from assistance.domain.hint import Hint
from assistance.storage.tables import outbox, requests
from assistance.tracing.context import TRACEPARENT


def _append() -> Insert:
    new = insert(outbox).values(available_at=func.now() + bindparam("due_in", type_=Interval), headers=_trace())
    return new.on_conflict_do_update(
        index_elements=["delivery_id", "series", "attempt"], set_={"available_at": new.excluded.available_at}
    )


def _trace() -> ColumnElement[Any]:
    """The trace of the request, if it has one; looked up here, because most who append know nothing of it."""
    kept = requests.c.route[TRACEPARENT]
    headers = select(func.jsonb_build_object(TRACEPARENT, kept))
    this = headers.where(requests.c.id == bindparam("traced", type_=UUID), requests.c.route.has_key(TRACEPARENT))
    return func.coalesce(this.scalar_subquery(), text("'{}'::jsonb"), type_=JSONB)


_APPEND = _append()


def append(connection: Connection, hints: Iterable[Hint], *, delay_seconds: float = 0.0) -> None:
    """Make hints due `delay_seconds` from now; a hint that is there already gets the new time.

    Unique over (delivery, series, attempt it is for), so that the hint of a retry never waits for the relay's open
    transaction over the row of the try before.
    """
    append_each(connection, ((hint, delay_seconds) for hint in hints))


def append_each(connection: Connection, delayed: Iterable[tuple[Hint, float]]) -> None:
    """The same for hints with a delay of their own, in seconds."""
    rows = [
        {
            "delivery_id": hint.delivery_id,
            "series": hint.series,
            "attempt": hint.attempt,
            "request_id": hint.request_id,
            "channel": hint.channel,
            "due_in": timedelta(seconds=delay_seconds),
            "traced": hint.request_id,
        }
        for hint, delay_seconds in delayed
    ]
    if rows:
        connection.execute(_APPEND, rows)
