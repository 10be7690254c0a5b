"""Where requests are, for the person on call."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, func, select

from assistance.storage.tables import attempts, dead_letters, deliveries, events, requests

_REF = re.compile(r"A-[0-9A-Z]{6}", re.IGNORECASE)


def identify(connection: Connection, ref_or_id: str) -> UUID | None:
    """The request that a short code or an id names."""
    if _REF.fullmatch(ref_or_id):
        return connection.scalar(select(requests.c.id).where(requests.c.ref == ref_or_id.upper()))
    try:
        return connection.scalar(select(requests.c.id).where(requests.c.id == UUID(ref_or_id)))
    except ValueError:
        return None


def story_of(connection: Connection, request_id: UUID) -> dict[str, list[Row[Any]]]:
    """Everything about one request: the row, its deliveries, attempts, events and dead letters, in time order."""
    of_request = deliveries.c.request_id == request_id
    return {
        "request": list(connection.execute(select(requests).where(requests.c.id == request_id))),
        "deliveries": list(connection.execute(select(deliveries).where(of_request).order_by(deliveries.c.id))),
        "attempts": list(
            connection.execute(
                select(attempts, deliveries.c.channel)
                .join_from(attempts, deliveries)
                .where(of_request)
                .order_by(attempts.c.started_at)
            )
        ),
        "events": list(
            connection.execute(select(events).where(events.c.request_id == request_id).order_by(events.c.version))
        ),
        "dead_letters": list(
            connection.execute(
                select(dead_letters)
                .join(deliveries, deliveries.c.id == dead_letters.c.delivery_id)
                .where(of_request)
                .order_by(dead_letters.c.id)
            )
        ),
    }


def held_deliveries(
    connection: Connection, *, channel: str | None = None, request_id: UUID | None = None
) -> list[Row[Any]]:
    """The deliveries whose outcome an operator has to say, the oldest first."""
    statement = (
        select(
            deliveries.c.id,
            requests.c.ref,
            requests.c.topic,
            deliveries.c.channel,
            deliveries.c.held_at,
            deliveries.c.attempt,
            deliveries.c.last_error_code,
            deliveries.c.last_error_detail,
        )
        .join_from(deliveries, requests)
        .where(deliveries.c.held_at.is_not(None))
        .order_by(deliveries.c.held_at)
    )
    if channel is not None:
        statement = statement.where(deliveries.c.channel == channel)
    if request_id is not None:
        statement = statement.where(deliveries.c.request_id == request_id)
    return list(connection.execute(statement))


def orphaned_channels(connection: Connection, configured: Collection[str]) -> dict[str, int]:
    """Channels that left the configuration while deliveries to them are open, with how many."""
    rows = connection.execute(
        select(deliveries.c.channel, func.count().label("open"))
        .where(deliveries.c.check_at.is_not(None), deliveries.c.channel.not_in(configured))
        .group_by(deliveries.c.channel)
    )
    return {row.channel: row.open for row in rows}
