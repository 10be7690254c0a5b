"""Write hints into the outbox, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import insert

from assistance.domain.hint import Hint
from assistance.storage.expressions import from_now
from assistance.storage.tables import outbox


def append(connection: Connection, hints: Iterable[Hint], *, delay_seconds: float = 0.0) -> None:
    """Make hints due `delay_seconds` from now; a hint that is there already gets the new time.

    Unique over (delivery, series, attempt it is for), so that the hint of a retry never waits for the relay's open
    transaction over the row of the try before.
    """
    due = from_now(delay_seconds)
    rows = [
        {
            "delivery_id": hint.delivery_id,
            "series": hint.series,
            "attempt": hint.attempt,
            "request_id": hint.request_id,
            "channel": hint.channel,
            "available_at": due,
        }
        for hint in hints
    ]
    if not rows:
        return
    statement = insert(outbox).values(rows)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["delivery_id", "series", "attempt"],
            set_={"available_at": statement.excluded.available_at},
        )
    )
