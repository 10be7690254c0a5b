"""Write an event: what happened to a request, numbered by its `state_version`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, bindparam, func, update
from sqlalchemy.dialects.postgresql import insert

from assistance.deliveries.callbacks import AFTER, start_callbacks
from assistance.domain.event import EventType
from assistance.storage.tables import events, requests

_NEXT_VERSION = (
    update(requests)
    .where(requests.c.id == bindparam("request"))
    .values(state_version=requests.c.state_version + 1, updated_at=func.now())
    .returning(requests.c.state_version, *AFTER)
)
_EVENT = insert(events)


def write_event(
    connection: Connection,
    request_id: UUID,
    event: EventType,
    actor: str,
    *,
    data: Mapping[str, Any] | None = None,
    **changes: Any,
) -> int:
    """Raise the request's `state_version` by one, change its columns with it, and write the event of that version.

    Whoever wants to be called back is told of it in the same transaction.
    The caller holds the request's lock.
    """
    after = connection.execute(_NEXT_VERSION.values(**changes), {"request": request_id}).one()
    version: int = after.state_version
    connection.execute(
        _EVENT, {"request_id": request_id, "version": version, "type": event, "actor": actor, "data": dict(data or {})}
    )
    start_callbacks(connection, request_id, event, version, after)
    return version
