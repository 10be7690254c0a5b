"""Take due rows out of the outbox: claim, then delete or refuse, in one short transaction of the relay.

A row lock and not a lease: half the writes, nothing to fence, and PostgreSQL drops it with the socket of a relay that
died. It is safe only because the wait for the broker is bounded; see docs/decisions/.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, func, select, text, update

from assistance.domain.hint import Hint
from assistance.storage.expressions import from_now, seconds
from assistance.storage.tables import outbox


@dataclass(frozen=True, kw_only=True, slots=True)
class OutboxRow:
    """A hint that waits to be published."""

    id: int
    hint: Hint
    created_at: datetime


def claim(connection: Connection, channels: Collection[str], limit: int) -> list[OutboxRow]:
    """Lock up to `limit` due rows of these channels, oldest first; rows that another relay holds are passed over."""
    rows = connection.execute(
        select(outbox)
        .where(outbox.c.available_at <= func.now(), outbox.c.channel.in_(channels))
        .order_by(outbox.c.available_at, outbox.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return [
        OutboxRow(
            id=row.id,
            hint=Hint(
                delivery_id=row.delivery_id,
                request_id=row.request_id,
                channel=row.channel,
                series=row.series,
                attempt=row.attempt,
            ),
            created_at=row.created_at,
        )
        for row in rows
    ]


def seconds_to_next(connection: Connection, channels: Collection[str]) -> float | None:
    """How soon a row of these channels becomes due that is not due yet; none when there is no such row."""
    later = select(seconds(func.min(outbox.c.available_at) - func.now())).where(
        outbox.c.available_at > func.now(), outbox.c.channel.in_(channels)
    )
    return connection.scalar(later)


def delete_rows(connection: Connection, ids: Sequence[int]) -> None:
    """Delete rows that the broker confirmed."""
    connection.execute(delete(outbox).where(outbox.c.id.in_(ids)))


def postpone_rows(connection: Connection, ids: Sequence[int], pause_seconds: float) -> None:
    """Let rows that got no answer make way for others for a moment; nobody refused them."""
    connection.execute(update(outbox).where(outbox.c.id.in_(ids)).values(available_at=from_now(pause_seconds)))


def refuse_rows(connection: Connection, ids: Sequence[int], error: str) -> None:
    """Put rows off that the broker refused: 2 s, 4 s, … up to 5 minutes, ±20 %."""
    pause = text("least(300, power(2, least(refusals + 1, 10))) * (0.8 + 0.4 * random()) * interval '1 second'")
    connection.execute(
        update(outbox)
        .where(outbox.c.id.in_(ids))
        .values(refusals=outbox.c.refusals + 1, last_error=error, available_at=func.now() + pause)
    )
