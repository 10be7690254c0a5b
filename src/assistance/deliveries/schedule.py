"""What happens to a request at a time: it begins, expires, or is joined by nobody any more. Timers, one per kind.

Everything here happens under the request's lock. Fallback has its own timer (`deliveries.fallback`).
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, delete, exists, func, select, update
from sqlalchemy.dialects.postgresql import insert

from assistance.deliveries.called_off import expire
from assistance.deliveries.fallback import set_timer
from assistance.deliveries.follow_ups import tell_follow_ups
from assistance.deliveries.start import start_deliveries
from assistance.deliveries.timeline import write_event
from assistance.domain.delivery import FOR_PEOPLE
from assistance.domain.event import EventType
from assistance.domain.request import RequestStatus
from assistance.domain.route import thaw_steps
from assistance.storage.expressions import from_now
from assistance.storage.tables import deliveries, requests, timers

#: How long a request that people were told stays open for calls with its `dedup_key`: somebody who asks again soon
#: after is still waiting for an answer to the first question.
JOINABLE_SECONDS = 3600.0


class Timer(StrEnum):
    """The `kind` of a request's timers that this module fires."""

    BEGIN = "begin"
    EXPIRE = "expire"
    END = "end"


def set_due(connection: Connection, request_id: UUID, kind: Timer, due_at: datetime | ColumnElement[datetime]) -> None:
    """Set the timer, or move it."""
    new = insert(timers).values(kind=kind, subject=request_id, due_at=due_at)
    connection.execute(
        new.on_conflict_do_update(index_elements=["kind", "subject"], set_={"due_at": new.excluded.due_at})
    )


def keep_joinable(connection: Connection, request_id: UUID) -> None:
    """Let calls join the request for a while from now on, then end it."""
    set_due(connection, request_id, Timer.END, from_now(JOINABLE_SECONDS))


def drop_timers(connection: Connection, request_id: UUID) -> None:
    """Nothing begins or ends by time any more, until the request is open for calls that join it."""
    no_end = timers.c.kind != Timer.END
    connection.execute(delete(timers).where(timers.c.subject == request_id, no_end))


def fire(connection: Connection, request_id: UUID, kind: Timer, *, actor: str, check_after: float) -> bool:
    """Do what is due; false when the request moved on or the timer was moved before the lock was taken."""
    fired = connection.execute(
        delete(timers)
        .where(timers.c.kind == kind, timers.c.subject == request_id, timers.c.due_at <= func.now())
        .returning(timers.c.id)
    ).one_or_none()
    if fired is None:
        return False
    match kind:
        case Timer.BEGIN:
            return _begin(connection, request_id, actor=actor, check_after=check_after)
        case Timer.EXPIRE:
            return expire(connection, request_id, actor=actor)
        case Timer.END:
            return _end(connection, request_id)


def _begin(connection: Connection, request_id: UUID, *, actor: str, check_after: float) -> bool:
    frozen = connection.scalar(
        select(requests.c.route["steps"]).where(
            requests.c.id == request_id, requests.c.status == RequestStatus.SCHEDULED
        )
    )
    if frozen is None:
        return False
    steps = thaw_steps(frozen)
    start_deliveries(connection, request_id, steps[0].to, step=0, check_after=check_after)
    set_timer(connection, request_id, steps)
    tell_follow_ups(connection, request_id, steps[0].to, step=0, check_after=check_after)
    write_event(connection, request_id, EventType.STARTED, actor, status=RequestStatus.ACCEPTED)
    return True


def _end(connection: Connection, request_id: UUID) -> bool:
    unfinished = exists().where(
        deliveries.c.request_id == request_id,
        deliveries.c.purpose.in_(FOR_PEOPLE),
        deliveries.c.check_at.is_not(None),
    )
    ended = connection.execute(
        update(requests)
        .where(requests.c.id == request_id, requests.c.status == RequestStatus.DELIVERED, ~unfinished)
        .values(ended_at=func.now(), open_dedup_key=None)
        .returning(requests.c.id)
    )
    return ended.one_or_none() is not None
