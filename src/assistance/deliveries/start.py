"""Start deliveries, for the first time or anew, in the transaction that decides so."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Interval, bindparam, func
from sqlalchemy.dialects.postgresql import insert

from assistance.domain.delivery import DeliveryState, Purpose
from assistance.domain.event import FIRST_EVENT
from assistance.domain.hint import Hint
from assistance.outbox.append import append
from assistance.runtime import ids
from assistance.storage.expressions import from_now
from assistance.storage.tables import deliveries

_START = insert(deliveries).values(check_at=func.now() + bindparam("check_in", type_=Interval))


def start_deliveries(
    connection: Connection,
    request_id: UUID,
    channels: Iterable[str],
    *,
    step: int,
    check_after: float,
    purpose: Purpose = Purpose.NOTIFY,
    event_version: int = FIRST_EVENT,
) -> None:
    """One delivery for each channel with its hint, due now; conciliation may look after `check_after` seconds."""
    hints = [
        Hint(delivery_id=ids.uuid7(), request_id=request_id, channel=channel, series=1, attempt=1)
        for channel in channels
    ]
    check_in = timedelta(seconds=check_after)
    connection.execute(
        _START,
        [
            {
                "id": hint.delivery_id,
                "request_id": request_id,
                "channel": hint.channel,
                "step": step,
                "purpose": purpose,
                "event_version": event_version,
                "check_in": check_in,
            }
            for hint in hints
        ],
    )
    append(connection, hints)


def new_series(*, delay_seconds: float, check_after: float) -> dict[str, Any]:
    """The columns of a finished delivery that starts over `delay_seconds` from now, as if it had never been tried."""
    return {
        "state": DeliveryState.PENDING,
        "series": deliveries.c.series + 1,
        "attempt": 0,
        "refunded": 0,
        "looks": 0,
        "first_attempt_at": None,
        "paced_seconds": 0.0,
        "next_attempt_at": from_now(delay_seconds),
        "check_at": from_now(delay_seconds + check_after),
        "reconciled": 0,
        "updated_at": func.now(),
    }
