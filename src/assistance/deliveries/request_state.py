"""Where a request stands: its lock, and its status in the light of its deliveries.

The lock is taken in a statement of its own before anything is read. With the lock inside the reading statement, two
deliveries of one request that settle together would each see the other unfinished, and the request would stay
`accepted` for ever.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Connection, Row, bindparam, func, select, update

from assistance.deliveries.fallback import follow_plan
from assistance.deliveries.schedule import drop_timers, keep_joinable
from assistance.deliveries.steps import StepState, step_states, was_told_whole
from assistance.deliveries.timeline import Ended, write_ends, write_event
from assistance.domain.delivery import FOR_PEOPLE, DeliveryState
from assistance.domain.event import EventType
from assistance.domain.request import RequestStatus
from assistance.domain.route import thaw_steps
from assistance.storage.tables import deliveries, requests

_EVENT_OF = {
    RequestStatus.ACCEPTED: EventType.REPLAYED,
    RequestStatus.DELIVERED: EventType.DELIVERED,
    RequestStatus.UNDELIVERABLE: EventType.UNDELIVERABLE,
    RequestStatus.CANCELLED: EventType.CANCELLED,
    RequestStatus.EXPIRED: EventType.EXPIRED,
}


_THESE = requests.c.id == func.any(bindparam("ids", type_=ARRAY(requests.c.id.type)))
_LOCK_REQUESTS = (
    select(requests.c.id, requests.c.called_off).where(_THESE).order_by(requests.c.id).with_for_update(key_share=True)
)
_THIS = bindparam("request_id", type_=requests.c.id.type)
_LOCK_REQUEST = (
    select(requests.c.status, requests.c.called_off).where(requests.c.id == _THIS).with_for_update(key_share=True)
)
_REQUEST = select(
    requests.c.id,
    requests.c.status,
    requests.c.ended_at,
    requests.c.route["steps"].label("steps"),
    requests.c.called_off,
    requests.c.expires_at,
    requests.c.open_dedup_key,
)
_DELIVERIES = select(
    deliveries.c.request_id,
    deliveries.c.purpose,
    deliveries.c.required,
    deliveries.c.state,
    deliveries.c.step,
    deliveries.c.channel,
)
_ONE = _REQUEST.where(requests.c.id == _THIS)
_DELIVERIES_OF_ONE = _DELIVERIES.where(deliveries.c.request_id == _THIS)
_MANY = (
    select(*_REQUEST.selected_columns, *_DELIVERIES.selected_columns)
    .join_from(requests, deliveries, deliveries.c.request_id == requests.c.id)
    .where(_THESE)
)


def lock_request(connection: Connection, request_id: UUID) -> Row[Any, Any] | None:
    """Take the lock that orders everything that happens to a request.

    Its `status`, and `called_off` with why nobody is to be told any more; none when it is gone.
    """
    return connection.execute(_LOCK_REQUEST, {"request_id": request_id}).one_or_none()


def lock_requests(connection: Connection, request_ids: Collection[UUID]) -> set[UUID]:
    """Take the locks of several requests, in one order for all who do so; in a statement of their own, as ever.

    Those of them that were called off.
    """
    rows = connection.execute(_LOCK_REQUESTS, {"ids": list(request_ids)}).all()
    return {row.id for row in rows if row.called_off is not None}


def refresh_request(connection: Connection, request_id: UUID, actor: str, *, check_after: float) -> RequestStatus:
    """Bring the request in line with its deliveries; the caller holds its lock.

    Where the request has a fallback, that begins the step after a dead one and cancels what another step made needless.
    A changed status raises `state_version` by one and writes the event, in the same transaction.
    """
    before = connection.execute(_ONE, {"request_id": request_id}).one()
    steps = thaw_steps(before.steps or ())
    rows = _deliveries_of(connection, request_id)
    on_plan = bool(steps) and before.called_off is None
    if on_plan and follow_plan(connection, request_id, steps, rows, actor=actor, check_after=check_after):
        rows = _deliveries_of(connection, request_id)
    found = status_of(rows, len(steps), before.called_off)
    finished = found is not RequestStatus.ACCEPTED and not any(_is_being_told(row) for row in rows)
    if finished and found is RequestStatus.DELIVERED and before.open_dedup_key is not None:
        finished = False
        keep_joinable(connection, request_id)
    ends: dict[str, Any] = {"ended_at": None}
    if finished:
        ends = {"ended_at": func.coalesce(requests.c.ended_at, func.now()), "open_dedup_key": None}
    if before.status != found:
        write_event(connection, request_id, _EVENT_OF[found], actor, status=found, **ends)
        if (steps or before.expires_at) and found is not RequestStatus.ACCEPTED:
            drop_timers(connection, request_id)
    elif finished != (before.ended_at is not None):
        connection.execute(update(requests).where(requests.c.id == request_id).values(**ends))
    return found


def refresh_requests(
    connection: Connection, request_ids: Collection[UUID], actor: str, *, check_after: float
) -> dict[UUID, RequestStatus]:
    """The same for several requests whose locks the caller holds, with the fewest statements where that is simple."""
    if not request_ids:
        return {}
    told: dict[UUID, list[Any]] = {}
    for row in connection.execute(_MANY, {"ids": list(request_ids)}).all():
        told.setdefault(row.request_id, []).append(row)
    found: dict[UUID, RequestStatus] = {}
    ended: list[Ended] = []
    for rows in told.values():
        before = rows[0]
        status = found[before.id] = status_of(rows)
        is_over = status is not RequestStatus.ACCEPTED and not any(_is_being_told(row) for row in rows)
        if not _is_simple(before) or (status == before.status) != (is_over == (before.ended_at is not None)):
            found[before.id] = refresh_request(connection, before.id, actor, check_after=check_after)
        elif status != before.status:
            ended.append(Ended(before.id, _EVENT_OF[status], status, is_over))
    write_ends(connection, ended, actor)
    return found


def _is_simple(before: Any) -> bool:
    """Nothing but its deliveries decides what becomes of it."""
    return not (before.steps or before.called_off or before.expires_at or before.open_dedup_key)


def _is_being_told(delivery: Row[Any]) -> bool:
    return delivery.purpose in FOR_PEOPLE and not DeliveryState(delivery.state).is_finished


def _deliveries_of(connection: Connection, request_id: UUID) -> Sequence[Any]:
    return connection.execute(_DELIVERIES_OF_ONE, {"request_id": request_id}).all()


def status_of(rows: Sequence[Any], planned: int = 1, called_off: str | None = None) -> RequestStatus:
    """Where the telling stands, given the deliveries (`purpose`, `required`, `state`, `step`) of a request.

    `planned` is how many steps its plan has. One step that told people is enough; callbacks and follow-ups never
    change it. Of a request that was called off nothing is expected any more; it is told if a whole step was anyway.
    """
    if called_off is not None:
        return RequestStatus.DELIVERED if was_told_whole(rows) else RequestStatus(called_off)
    states = step_states(rows)
    ended = set(states.values())
    if StepState.DELIVERED in ended or not states:
        return RequestStatus.DELIVERED
    if ended == {StepState.CANCELLED}:
        return RequestStatus.CANCELLED
    if StepState.TRYING in ended or len(states) < planned:
        return RequestStatus.ACCEPTED
    return RequestStatus.UNDELIVERABLE
