"""Call a request off: whoever was not told yet is not told any more, because of its bot or because it came too late.

What somebody is sending at that moment ends as it ends (`deliveries.transition`): if people read it all the same, the
request says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, delete, exists, func, select, update

from assistance.deliveries.follow_ups import tell_where_delivered
from assistance.deliveries.settle import Problem
from assistance.deliveries.timeline import write_event
from assistance.domain.delivery import FINISHED, FOR_PEOPLE, DeliveryState, Purpose
from assistance.domain.errors import NotCancellable
from assistance.domain.event import EventType
from assistance.domain.hint import Hint
from assistance.domain.request import RequestStatus
from assistance.storage.tables import deliveries, outbox, requests, timers

_NOT_TOLD = (RequestStatus.SCHEDULED, RequestStatus.ACCEPTED)
PROBLEMS = {
    RequestStatus.CANCELLED: Problem(kind="cancelled", code="cancelled", detail="The request was cancelled."),
    RequestStatus.EXPIRED: Problem(kind="cancelled", code="expired", detail="The request expired before it was told."),
}


def cancel(
    connection: Connection,
    request_id: UUID,
    *,
    actor: str,
    reason: str | None,
    check_after: float,
    by_operator: bool = False,
) -> None:
    """Call the request off for its bot, or for an operator; those who read it already are told, and by whom it was.

    The caller holds the request's lock. A request that is cancelled stays so. Raises `NotCancellable` when it is over.
    """
    status = connection.scalar(select(requests.c.status).where(requests.c.id == request_id))
    if status == RequestStatus.CANCELLED:
        return
    if status not in _NOT_TOLD:
        raise NotCancellable(f"The request is {status} already.")
    data = {"reason": reason} if reason else {}
    if by_operator:
        data["by"] = "operator"
    version = _call_off(connection, request_id, RequestStatus.CANCELLED, actor=actor, data=data)
    tell_where_delivered(connection, request_id, version, check_after=check_after)
    _end(connection, request_id)


def expire(connection: Connection, request_id: UUID, *, actor: str) -> bool:
    """Call off a request whose time is over; false when it was told in time. The caller holds the request's lock."""
    status = connection.scalar(select(requests.c.status).where(requests.c.id == request_id))
    if status not in _NOT_TOLD:
        return False
    _call_off(connection, request_id, RequestStatus.EXPIRED, actor=actor, data={})
    _end(connection, request_id)
    return True


def cancel_waiting(connection: Connection, request_id: UUID, problem: Problem, *which: ColumnElement[bool]) -> bool:
    """End the request's deliveries to people (those that `which` names) that nobody is sending or looking up now."""
    cancelled = connection.scalars(
        update(deliveries)
        .where(
            deliveries.c.request_id == request_id,
            deliveries.c.purpose.in_(FOR_PEOPLE),
            deliveries.c.state.in_((DeliveryState.PENDING, DeliveryState.UNKNOWN)),
            deliveries.c.lease_token.is_(None),
            *which,
        )
        .values(
            state=DeliveryState.CANCELLED,
            check_at=None,
            held_at=None,
            last_error_class=problem.kind,
            last_error_code=problem.code,
            last_error_detail=problem.detail,
            updated_at=func.now(),
        )
        .returning(deliveries.c.id)
    ).all()
    forget_hints(connection, cancelled)
    return bool(cancelled)


def cancel_follow_ups(connection: Connection, hint: Hint, problem: Problem) -> None:
    """End what was to follow, on the same channel, a delivery that was called off itself."""
    step = select(deliveries.c.step).where(deliveries.c.id == hint.delivery_id).scalar_subquery()
    here = (deliveries.c.channel == hint.channel, deliveries.c.step == step)
    cancel_waiting(connection, hint.request_id, problem, deliveries.c.purpose == Purpose.FOLLOW_UP, *here)


def forget_hints(connection: Connection, delivery_ids: Sequence[UUID]) -> None:
    """Remove the hints of deliveries that were called off, as far as nobody holds them.

    What the relay holds is being published this moment: waiting for it would hold up the caller, and the hint of a
    finished delivery does nothing.
    """
    hints = select(outbox.c.id).where(outbox.c.delivery_id.in_(delivery_ids)).with_for_update(skip_locked=True)
    connection.execute(delete(outbox).where(outbox.c.id.in_(hints)))


def _call_off(
    connection: Connection, request_id: UUID, status: RequestStatus, *, actor: str, data: dict[str, str]
) -> int:
    cancel_waiting(connection, request_id, PROBLEMS[status])
    connection.execute(delete(timers).where(timers.c.subject == request_id))
    event = EventType.CANCELLED if status is RequestStatus.CANCELLED else EventType.EXPIRED
    changes = {"status": status, "called_off": status, "open_dedup_key": None}
    return write_event(connection, request_id, event, actor, data=data, **changes)


def _end(connection: Connection, request_id: UUID) -> None:
    """The request has ended if nobody is telling anything of it any more."""
    unfinished = exists().where(
        deliveries.c.request_id == request_id,
        deliveries.c.purpose.in_(FOR_PEOPLE),
        deliveries.c.state.not_in(FINISHED),
    )
    connection.execute(update(requests).where(requests.c.id == request_id, ~unfinished).values(ended_at=func.now()))
