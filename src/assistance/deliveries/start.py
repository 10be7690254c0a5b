"""Start the deliveries of one step, in the transaction that decides that they exist."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import insert

from assistance.domain.hint import Hint
from assistance.outbox.append import append
from assistance.runtime import ids
from assistance.storage.expressions import from_now
from assistance.storage.tables import deliveries


def start_deliveries(
    connection: Connection, request_id: UUID, channels: Iterable[str], *, step: int, check_after: float
) -> None:
    """One delivery for each channel with its hint, due now; conciliation may look after `check_after` seconds."""
    hints = [
        Hint(delivery_id=ids.uuid7(), request_id=request_id, channel=channel, series=1, attempt=1)
        for channel in channels
    ]
    check_at = from_now(check_after)
    connection.execute(
        insert(deliveries).values(
            [
                {
                    "id": hint.delivery_id,
                    "request_id": request_id,
                    "channel": hint.channel,
                    "step": step,
                    "check_at": check_at,
                }
                for hint in hints
            ]
        )
    )
    append(connection, hints)
