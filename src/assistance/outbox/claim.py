"""Take due rows out of the outbox: claim, then delete or refuse, in one short transaction of the relay.

A row lock and not a lease: half the writes, nothing to fence, and PostgreSQL drops it with the socket of a relay that
died. It is safe only because the wait for the broker is bounded; see docs/decisions/.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Connection,
    Select,
    Text,
    Update,
    any_,
    bindparam,
    cast,
    delete,
    func,
    select,
    text,
    update,
)

from assistance.storage.expressions import from_now, seconds
from assistance.storage.tables import outbox


class OutboxRow(NamedTuple):
    """A hint that waits to be published, with its ids as text: the way in which they travel."""

    id: int
    delivery_id: str
    request_id: str
    channel: str
    series: int
    attempt: int
    created_at: datetime
    traceparent: str | None  # the trace of its request


_IS_OURS = outbox.c.channel == any_(bindparam("channels", type_=ARRAY(Text)))
_IS_CHOSEN = outbox.c.id == any_(bindparam("ids", type_=ARRAY(BigInteger)))


def _due() -> Select[Any]:
    return (
        select(
            outbox.c.id,
            cast(outbox.c.delivery_id, Text),
            cast(outbox.c.request_id, Text),
            outbox.c.channel,
            outbox.c.series,
            outbox.c.attempt,
            outbox.c.created_at,
            outbox.c.headers["traceparent"].astext,
        )
        .where(outbox.c.available_at <= func.now(), _IS_OURS)
        .order_by(outbox.c.available_at, outbox.c.id)
        .limit(bindparam("most"))
        .with_for_update(skip_locked=True)
    )


def _refused() -> Update:
    pause = text("least(300, power(2, least(refusals + 1, 10))) * (0.8 + 0.4 * random()) * interval '1 second'")
    return (
        update(outbox)
        .where(_IS_CHOSEN)
        .values(refusals=outbox.c.refusals + 1, last_error=bindparam("error"), available_at=func.now() + pause)
    )


# Built once: a relay with a backlog runs them many times a second.
_DUE = _due()
_NEXT = select(seconds(func.min(outbox.c.available_at) - func.now())).where(_IS_OURS)
_DELETE = delete(outbox).where(_IS_CHOSEN)
_REFUSED = _refused()


def claim(connection: Connection, channels: Collection[str], limit: int) -> list[OutboxRow]:
    """Lock up to `limit` due rows of these channels, oldest first; rows that another relay holds are passed over."""
    rows = connection.execute(_DUE, {"channels": list(channels), "most": limit}).all()
    return list(map(OutboxRow._make, rows))


def seconds_to_next(connection: Connection, channels: Collection[str]) -> float | None:
    """How soon the next row of these channels becomes due, not above 0 when one is; none when there is no row."""
    return connection.scalar(_NEXT, {"channels": list(channels)})


def delete_rows(connection: Connection, ids: Sequence[int]) -> None:
    """Delete rows that the broker confirmed."""
    connection.execute(_DELETE, {"ids": list(ids)})


def postpone_rows(connection: Connection, ids: Sequence[int], pause_seconds: float) -> None:
    """Let rows that got no answer make way for others for a moment; nobody refused them."""
    connection.execute(update(outbox).where(_IS_CHOSEN).values(available_at=from_now(pause_seconds)), {"ids": ids})


def refuse_rows(connection: Connection, ids: Sequence[int], error: str) -> None:
    """Put rows off that the broker refused: 2 s, 4 s, … up to 5 minutes, ±20 %."""
    connection.execute(_REFUSED, {"ids": list(ids), "error": error})
