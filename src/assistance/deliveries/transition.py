"""The transition function: writes down how a try or a look-up ended, and what follows for the request.

It first locks the request row in a statement of its own and reads the deliveries afterwards. With the lock inside the
reading statement, two deliveries of one request that settle together would each see the other unfinished, and the
request would stay `accepted` for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, assert_never
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, func, select, update
from sqlalchemy.dialects.postgresql import insert

from assistance.deliveries.bury import bury
from assistance.deliveries.claim import Lease, mark_attempt_unknown
from assistance.deliveries.settle import Bury, Deliver, Hold, LookUp, Settlement, TryAgain
from assistance.domain.delivery import AttemptOutcome, DeliveryState, Purpose
from assistance.domain.event import EventType
from assistance.domain.hint import Hint
from assistance.domain.outcome import Delivered, Outcome, Rejected, RetryLater, Unknown
from assistance.domain.request import RequestStatus
from assistance.outbox.append import append
from assistance.storage.expressions import from_now
from assistance.storage.plain import plain_json, plain_text
from assistance.storage.tables import attempts, deliveries, events, requests

_EVENT_OF = {
    RequestStatus.ACCEPTED: EventType.REPLAYED,
    RequestStatus.DELIVERED: EventType.DELIVERED,
    RequestStatus.UNDELIVERABLE: EventType.UNDELIVERABLE,
    RequestStatus.CANCELLED: EventType.CANCELLED,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Concluded:
    """What the transition did; `kept` is false when the lease had been taken over, and nothing was changed."""

    kept: bool
    request_status: RequestStatus | None = None


def conclude(
    connection: Connection,
    lease: Lease,
    settlement: Settlement,
    outcome: Outcome | None,
    *,
    actor: str,
    check_after: float,
) -> Concluded:
    """Write the settlement of a lease; `outcome` is the answer to a send, none after a look-up.

    `check_after` is how many seconds after its next due time conciliation may look at an unfinished delivery.
    """
    ends = isinstance(settlement, Deliver | Bury)
    if ends:
        lock_request(connection, lease.hint.request_id)
    kept = _write_delivery(connection, lease, settlement, check_after)
    if outcome is not None:
        _write_attempt(connection, lease, outcome)
    if not kept:
        return Concluded(kept=False)
    match settlement:
        case TryAgain(delay_seconds=delay):
            append(connection, [replace(lease.hint, attempt=lease.attempt + 1)], delay_seconds=delay)
        case LookUp(delay_seconds=delay):
            append(connection, [replace(lease.hint, attempt=lease.attempt)], delay_seconds=delay)
        case Bury(reason=reason, problem=problem):
            bury(connection, lease.hint, source="consumer", reason=reason, error=f"{problem.code}: {problem.detail}")
    status = refresh_request(connection, lease.hint.request_id, actor) if ends else None
    return Concluded(kept=True, request_status=status)


def lock_request(connection: Connection, request_id: UUID) -> None:
    """Take the lock that orders everything that happens to a request."""
    connection.execute(select(requests.c.id).where(requests.c.id == request_id).with_for_update(key_share=True))


def refresh_request(connection: Connection, request_id: UUID, actor: str) -> RequestStatus:
    """Bring the request's status in line with its deliveries; the caller holds its lock.

    A changed status raises `state_version` by one and writes the event, in the same transaction.
    """
    rows = connection.execute(
        select(deliveries.c.purpose, deliveries.c.required, deliveries.c.state).where(
            deliveries.c.request_id == request_id
        )
    ).all()
    found = status_of(rows)
    finished = found is not RequestStatus.ACCEPTED and all(DeliveryState(row.state).is_finished for row in rows)
    ended_at = func.coalesce(requests.c.ended_at, func.now()) if finished else None
    before = connection.execute(select(requests.c.status, requests.c.ended_at).where(requests.c.id == request_id)).one()
    if before.status != found:
        version = connection.scalar(
            update(requests)
            .where(requests.c.id == request_id)
            .values(status=found, state_version=requests.c.state_version + 1, ended_at=ended_at, updated_at=func.now())
            .returning(requests.c.state_version)
        )
        connection.execute(
            insert(events).values(request_id=request_id, version=version, type=_EVENT_OF[found], actor=actor)
        )
    elif finished != (before.ended_at is not None):
        connection.execute(update(requests).where(requests.c.id == request_id).values(ended_at=ended_at))
    return found


def status_of(rows: Iterable[Any]) -> RequestStatus:
    """Where the telling stands, given the deliveries (`purpose`, `required`, `state`) of a request.

    Callbacks and follow-ups never change it.
    """
    states = {DeliveryState(row.state) for row in rows if row.purpose == Purpose.NOTIFY and row.required}
    if DeliveryState.DEAD in states:
        return RequestStatus.UNDELIVERABLE
    if states == {DeliveryState.DELIVERED}:
        return RequestStatus.DELIVERED
    if states == {DeliveryState.CANCELLED}:
        return RequestStatus.CANCELLED
    if states <= {DeliveryState.DELIVERED, DeliveryState.CANCELLED}:
        return RequestStatus.DELIVERED
    return RequestStatus.ACCEPTED


def _write_delivery(connection: Connection, lease: Lease, settlement: Settlement, check_after: float) -> bool:
    changed = connection.execute(
        update(deliveries)
        .where(deliveries.c.id == lease.hint.delivery_id, deliveries.c.lease_token == lease.token)
        .values(
            lease_token=None,
            lease_until=None,
            reconciled=0,
            updated_at=func.now(),
            **_columns_for(settlement, lease, check_after),
        )
    )
    return changed.rowcount == 1


def _columns_for(settlement: Settlement, lease: Lease, check_after: float) -> dict[str, Any]:
    match settlement:
        case Deliver(receipt=receipt):
            return {
                "state": DeliveryState.DELIVERED,
                "receipt": plain_json(receipt),
                "check_at": None,
                "last_error_class": None,
                "last_error_code": None,
                "last_error_detail": None,
            }
        case TryAgain(delay_seconds=delay, refund=refund, problem=problem, may_repeat=may_repeat):
            return {
                "state": DeliveryState.PENDING,
                "refunded": lease.refunded + refund,
                "may_repeat": deliveries.c.may_repeat | may_repeat,
                "looks": 0,
                "next_attempt_at": from_now(delay),
                "check_at": from_now(delay + check_after),
                **_error(problem.kind, problem.code, problem.detail),
            }
        case LookUp(delay_seconds=delay, looks=looks, problem=problem):
            return {
                "state": DeliveryState.UNKNOWN,
                "looks": looks,
                "next_attempt_at": from_now(delay),
                "check_at": from_now(delay + check_after),
                **_error(problem.kind, problem.code, problem.detail),
            }
        case Hold(problem=problem):
            return {
                "state": DeliveryState.UNKNOWN,
                "held_at": func.now(),
                "check_at": from_now(check_after),
                **_error(problem.kind, problem.code, problem.detail),
            }
        case Bury(problem=problem):
            return {
                "state": DeliveryState.DEAD,
                "check_at": None,
                **_error(problem.kind, problem.code, problem.detail),
            }
    assert_never(settlement)


def _error(kind: str, code: str, detail: str) -> dict[str, str]:
    return {"last_error_class": kind, "last_error_code": plain_text(code), "last_error_detail": plain_text(detail)}


def _write_attempt(connection: Connection, lease: Lease, outcome: Outcome) -> None:
    """Close the attempt. A result that comes late is written all the same: a look-up reads it before asking."""
    connection.execute(
        update(attempts)
        .where(
            attempts.c.delivery_id == lease.hint.delivery_id,
            attempts.c.series == lease.hint.series,
            attempts.c.number == lease.attempt,
            attempts.c.outcome.in_((AttemptOutcome.SENDING, AttemptOutcome.UNKNOWN)),
        )
        .values(finished_at=func.now(), **_attempt_columns(outcome))
    )


def _attempt_columns(outcome: Outcome) -> Mapping[str, Any]:
    match outcome:
        case Delivered(receipt=receipt):
            return {"outcome": AttemptOutcome.DELIVERED, "receipt": plain_json(receipt), "code": None, "detail": None}
        case RetryLater(code=code, detail=detail):
            return {"outcome": AttemptOutcome.RETRY_LATER, **_answer(code, detail)}
        case Rejected(code=code, detail=detail):
            return {"outcome": AttemptOutcome.REJECTED, **_answer(code, detail)}
        case Unknown(code=code, detail=detail):
            return {"outcome": AttemptOutcome.UNKNOWN, **_answer(code, detail)}
    assert_never(outcome)


def _answer(code: str, detail: str) -> dict[str, str]:
    return {"code": plain_text(code), "detail": plain_text(detail)}


def expire_leases(connection: Connection, overdue: ColumnElement[bool]) -> int:
    """Turn deliveries whose holder went away into unknown ones that are due for a look-up; how many there were.

    `overdue` says which leases count as over: those past their time, or all when the caller knows that nobody else
    is alive. The hint is left to conciliation.
    """
    held = (
        select(deliveries.c.id)
        .where(deliveries.c.lease_token.is_not(None), overdue)
        .order_by(deliveries.c.check_at)
        .limit(500)
        .with_for_update(skip_locked=True)
    )
    rows = connection.execute(
        update(deliveries)
        .where(deliveries.c.id.in_(held))
        .values(
            state=DeliveryState.UNKNOWN,
            lease_token=None,
            lease_until=None,
            next_attempt_at=func.now(),
            check_at=func.now(),
            updated_at=func.now(),
        )
        .returning(deliveries.c.id, deliveries.c.series, deliveries.c.attempt)
    ).all()
    for row in rows:
        mark_attempt_unknown(connection, row.id, row.series, row.attempt)
    return len(rows)


def hint_for(row: Row[Any]) -> Hint:
    """The hint that makes a consumer look at this delivery row now."""
    return Hint(
        delivery_id=row.id,
        request_id=row.request_id,
        channel=row.channel,
        series=row.series,
        attempt=max(1, row.attempt + (row.state == DeliveryState.PENDING)),
    )
