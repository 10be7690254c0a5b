"""Write an event: what happened to a request, numbered by its `state_version`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import UUID as UUID_TYPE
from sqlalchemy import Boolean, Connection, Select, Text, bindparam, case, func, select, update
from sqlalchemy.dialects.postgresql import insert

from assistance.deliveries.callbacks import AFTER, start_callbacks
from assistance.domain.event import EventType
from assistance.domain.request import RequestStatus
from assistance.storage.expressions import as_arrays, given
from assistance.storage.tables import events, requests

_NEXT_VERSION = (
    update(requests)
    .where(requests.c.id == bindparam("request"))
    .values(state_version=requests.c.state_version + 1, updated_at=func.now())
    .returning(requests.c.state_version, *AFTER)
)
_EVENT = insert(events)


class Ended(NamedTuple):
    """A request whose status changes; `is_over` when nothing is left to tell, so that it has ended."""

    request_id: UUID
    event: EventType
    status: RequestStatus
    is_over: bool


def _ends() -> Select[Any]:
    new = given("new", id=UUID_TYPE, type=Text, status=Text, is_over=Boolean)
    changed = (
        update(requests)
        .where(requests.c.id == new.c.id)
        .values(
            state_version=requests.c.state_version + 1,
            updated_at=func.now(),
            status=new.c.status,
            ended_at=case((new.c.is_over, func.coalesce(requests.c.ended_at, func.now()))),
        )
        .returning(requests.c.id, requests.c.state_version, new.c.type, *AFTER)
        .cte("changed")
    )
    written = (
        insert(events)
        .from_select(
            ["request_id", "version", "type", "actor"],
            select(changed.c.id, changed.c.state_version, changed.c.type, bindparam("by", type_=Text)),
        )
        .returning(events.c.version)
        .cte("written")
    )
    return select(changed).add_cte(written)


_ENDS = _ends()


def write_ends(connection: Connection, ended: Sequence[Ended], actor: str) -> None:
    """The same as `write_event` for requests of which nothing but the status changes; the caller holds their locks."""
    if not ended:
        return
    new = [
        {"id": each.request_id, "type": each.event, "status": each.status, "is_over": each.is_over} for each in ended
    ]
    rows = connection.execute(_ENDS, as_arrays("new", new) | {"by": actor}).all()
    for after in rows:
        start_callbacks(connection, after.id, EventType(after.type), after.state_version, after)


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
