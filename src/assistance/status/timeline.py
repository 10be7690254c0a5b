"""What happened to a request, in its order. The request's own row is the first event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, select, true

from assistance.domain.event import FIRST_EVENT, EventType
from assistance.runtime.clock import Deadline
from assistance.storage.database import Database
from assistance.storage.tables import events, requests

#: The most events that are read at once.
PAGE = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One entry of the timeline; `actor` is who did it, with the names of processes and people as we know them."""

    version: int
    type: str
    at: datetime
    actor: str
    data: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeline:
    """Events that follow one another without a gap; `has_more` when there were too many to read at once."""

    events: Sequence[Event]
    has_more: bool
    has_ended: bool  # the request, when it was read


def timeline_of(
    database: Database, request_id: UUID, after: int, deadline: Deadline, *, client: str | None
) -> Timeline | None:
    """The events of a request of `client` (none: of anybody) that came after the one with number `after`.

    None when there is no such request. Raises `DatabaseUnavailable`.
    """
    with database.transaction(deadline) as connection:
        # The request is read first: whatever ended it is then among the events.
        request = connection.execute(
            select(requests.c.created_at, requests.c.ended_at).where(
                requests.c.id == request_id, true() if client is None else requests.c.client == client
            )
        ).one_or_none()
        if request is None:
            return None
        later = _events_after(connection, request_id, after)
    first = Event(version=FIRST_EVENT, type=EventType.ACCEPTED, at=request.created_at, actor="bot", data={})
    found = [first, *later] if after < FIRST_EVENT else later
    return Timeline(events=found[:PAGE], has_more=len(found) > PAGE, has_ended=request.ended_at is not None)


def _events_after(connection: Connection, request_id: UUID, after: int) -> list[Event]:
    rows = connection.execute(
        select(events.c.version, events.c.type, events.c.at, events.c.actor, events.c.data)
        .where(events.c.request_id == request_id, events.c.version > after)
        .order_by(events.c.version)
        .limit(PAGE + 1)
    )
    return [Event(version=row.version, type=row.type, at=row.at, actor=row.actor, data=row.data) for row in rows]
