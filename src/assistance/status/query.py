"""Where requests are: for the bot's GET, and for the person on call."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, RowMapping, func, select, true

from assistance.domain.delivery import Purpose
from assistance.runtime.clock import Deadline
from assistance.storage.database import Database
from assistance.storage.tables import attempts, dead_letters, deliveries, events, requests

#: Callbacks are for the bot that asks; how they fare is the operator's affair.
_TOLD_TO_PEOPLE = (deliveries.c.request_id == requests.c.id) & (deliveries.c.purpose != Purpose.CALLBACK)
_REF = re.compile(r"A-[0-9A-Z]{6}", re.IGNORECASE)

#: What the API shows of a request itself.
SHOWN_COLUMNS = (
    requests.c.id,
    requests.c.ref,
    requests.c.topic,
    requests.c.title,
    requests.c.priority,
    requests.c.customer_id,
    requests.c.dedup_key,
    requests.c.metadata,
    requests.c.not_before,
    requests.c.expires_at,
    requests.c.status,
    requests.c.handling,
    requests.c.state_version,
    requests.c.created_at,
    requests.c.updated_at,
    requests.c.ended_at,
)


def find_request(
    database: Database, request_id: UUID, deadline: Deadline, *, client: str | None
) -> Mapping[str, Any] | None:
    """A request of `client` (none: of anybody) with its deliveries, as the API shows it; none when there is none.

    Raises `DatabaseUnavailable`.
    """
    with database.transaction(deadline) as connection:
        rows = (
            connection.execute(
                select(
                    *SHOWN_COLUMNS,
                    deliveries.c.purpose,
                    deliveries.c.event_version,
                    deliveries.c.channel,
                    deliveries.c.step,
                    deliveries.c.state,
                    deliveries.c.attempt,
                    deliveries.c.next_attempt_at,
                    deliveries.c.check_at,
                    deliveries.c.held_at,
                    deliveries.c.receipt,
                    deliveries.c.last_error_class,
                    deliveries.c.last_error_code,
                    deliveries.c.last_error_detail,
                )
                # A request that is scheduled has no deliveries yet.
                .outerjoin_from(requests, deliveries, _TOLD_TO_PEOPLE)
                .where(requests.c.id == request_id, true() if client is None else requests.c.client == client)
                .order_by(deliveries.c.id)
            )
            .mappings()
            .all()
        )
    if not rows:
        return None
    return {**rows[0], "deliveries": [_delivery(row) for row in rows if row["channel"] is not None]}


def _delivery(row: RowMapping) -> Mapping[str, Any]:
    is_held = row["held_at"] is not None
    error = {part: row[f"last_error_{part}"] for part in ("class", "code", "detail")}
    return {
        "purpose": row["purpose"],
        "event_version": row["event_version"],
        "channel": row["channel"],
        "step": row["step"],
        "state": row["state"],
        "attempts": row["attempt"],
        "next_attempt_at": row["next_attempt_at"] if row["check_at"] is not None and not is_held else None,
        "held": is_held,
        "receipt": row["receipt"],
        "last_error": error if error["class"] is not None else None,
    }


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


def list_requests(
    connection: Connection,
    *,
    status: str | None,
    topic: str | None,
    channel: str | None,
    since: timedelta | None,
    limit: int,
) -> list[Row[Any]]:
    """Requests that match, newest first, with a summary of their deliveries."""
    summary = func.string_agg(deliveries.c.channel + ": " + deliveries.c.state, ", ")
    shown = func.coalesce(summary, "").label("deliveries")
    statement = (
        select(requests.c.id, requests.c.ref, requests.c.topic, requests.c.status, requests.c.created_at, shown)
        .outerjoin_from(requests, deliveries, _TOLD_TO_PEOPLE)
        .group_by(requests.c.id)
        .order_by(requests.c.created_at.desc())
        .limit(limit)
    )
    if status is not None:
        statement = statement.where(requests.c.status == status)
    if topic is not None:
        statement = statement.where(requests.c.topic == topic)
    if channel is not None:
        told = select(deliveries.c.request_id).where(deliveries.c.channel == channel)
        statement = statement.where(requests.c.id.in_(told))
    if since is not None:
        statement = statement.where(requests.c.created_at > func.now() - since)
    return list(connection.execute(statement))


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
