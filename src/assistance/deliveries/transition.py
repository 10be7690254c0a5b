"""The transition function: writes down how a try or a look-up ended, and what follows for the request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, assert_never

from sqlalchemy import ColumnElement, Connection, Row, case, func, select, update

from assistance.deliveries.attempts import close_attempt
from assistance.deliveries.bury import bury
from assistance.deliveries.callbacks import after_callback, unless_gone
from assistance.deliveries.called_off import PROBLEMS, cancel_follow_ups
from assistance.deliveries.channel_states import PauseCause, pause
from assistance.deliveries.claim import LOOKER_DIED, mark_attempt_unknown
from assistance.deliveries.fallback import unless_handled_elsewhere
from assistance.deliveries.late_receipts import end_held, late_receipt
from assistance.deliveries.lease import Lease
from assistance.deliveries.request_state import lock_request, refresh_request
from assistance.deliveries.settle import Bury, Cancel, Deliver, Hold, LookUp, Settlement, TryAgain
from assistance.domain.delivery import DeliveryState
from assistance.domain.hint import Hint
from assistance.domain.outcome import Delivered, Outcome
from assistance.domain.request import RequestStatus
from assistance.outbox.append import append
from assistance.runtime.faults import fault_point
from assistance.storage.expressions import from_now
from assistance.storage.plain import plain_json, plain_text
from assistance.storage.tables import deliveries


@dataclass(frozen=True, kw_only=True, slots=True)
class Concluded:
    """What the transition did; `kept` is false when the lease had been taken over, and nothing was changed.

    `cancelled` says that it wrote `cancelled` instead of the settlement: it is not wanted any more.
    """

    kept: bool
    request_status: RequestStatus | None = None
    cancelled: bool = False


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

    `check_after` is how many seconds after its next due time conciliation may look at an unfinished delivery. A receipt
    that comes after its lease ended still ends a delivery that is held for want of one.
    """
    stops_channel = settlement.problem if isinstance(settlement, TryAgain) and settlement.pause_channel else None
    settlement = _under_lock(connection, lease, settlement)
    if lease.calls_back:
        settlement = unless_gone(settlement)
    ends = isinstance(settlement, Deliver | Bury | Cancel)
    kept = _write_delivery(connection, lease, settlement, check_after)
    if outcome is not None:
        close_attempt(connection, lease, outcome)
    if not kept:
        end_if_held(connection, lease.hint, outcome, actor=actor, check_after=check_after)
        return Concluded(kept=False)
    _go_on(connection, lease, settlement)
    status = _after_end(connection, lease, settlement, actor, check_after) if ends else None
    if stops_channel is not None:
        why = f"{stops_channel.code}: {stops_channel.detail}"
        pause(connection, lease.hint.channel, cause=PauseCause.CONFIGURATION, reason=why, by=actor)
    before_commit()
    return Concluded(kept=True, request_status=status, cancelled=isinstance(settlement, Cancel))


def before_retry() -> None:
    """A try that is to be repeated is about to be written down with the hint of the next one."""
    fault_point("consumer.before_retry")


def before_commit() -> None:
    """Everything that follows from a settlement is written; the caller commits."""
    fault_point("consumer.before_settled")


def _go_on(connection: Connection, lease: Lease, settlement: Settlement) -> None:
    """What the settlement asks for beside the delivery's own row."""
    match settlement:
        case Cancel(problem=problem):
            cancel_follow_ups(connection, lease.hint, problem)
        case TryAgain(delay_seconds=delay):
            before_retry()
            append(connection, [replace(lease.hint, attempt=lease.attempt + 1)], delay_seconds=delay)
        case LookUp(delay_seconds=delay):
            append(connection, [replace(lease.hint, attempt=lease.attempt)], delay_seconds=delay)
        case Bury(reason=reason, problem=problem):
            fault_point("consumer.before_burial")
            bury(connection, lease.hint, source="consumer", reason=reason, error=f"{problem.code}: {problem.detail}")


def _after_end(
    connection: Connection, lease: Lease, settlement: Settlement, actor: str, check_after: float
) -> RequestStatus | None:
    """What the end of a delivery means for the others, and for the request, which callbacks never change."""
    if lease.calls_back:
        after_callback(connection, lease.hint, settlement, check_after=check_after)
        return None
    return refresh_request(connection, lease.hint.request_id, actor, check_after=check_after)


def end_if_held(connection: Connection, hint: Hint, outcome: Outcome | None, *, actor: str, check_after: float) -> None:
    """A receipt that comes after its lease ended still ends a delivery that is held for want of one."""
    if isinstance(outcome, Delivered) and end_held(connection, hint, outcome.receipt):
        refresh_request(connection, hint.request_id, actor, check_after=check_after)


def _under_lock(connection: Connection, lease: Lease, settlement: Settlement) -> Settlement:
    """Lock the request where its other deliveries are concerned; the settlement in the light of what happened since."""
    if not (lease.in_steps or isinstance(settlement, Deliver | Bury | Hold | TryAgain)):
        return settlement
    before = lock_request(connection, lease.hint.request_id)
    if isinstance(settlement, Hold) and (receipt := late_receipt(connection, lease.hint)) is not None:
        return Deliver(receipt=receipt)
    if before is None:
        return settlement
    if before.called_off is not None and lease.notifies and isinstance(settlement, TryAgain | Hold):
        return Cancel(problem=PROBLEMS[RequestStatus(before.called_off)])
    if lease.in_steps and before.status == RequestStatus.DELIVERED:
        return unless_handled_elsewhere(connection, lease.hint, settlement)
    return settlement


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


#: What a delivery that arrived has, beside its receipt.
ARRIVED: Mapping[str, Any] = MappingProxyType(
    {
        "state": DeliveryState.DELIVERED,
        "check_at": None,
        "last_error_class": None,
        "last_error_code": None,
        "last_error_detail": None,
    }
)


def _columns_for(settlement: Settlement, lease: Lease, check_after: float) -> dict[str, Any]:
    match settlement:
        case Deliver(receipt=receipt):
            return {"receipt": plain_json(receipt), **ARRIVED}
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
        case Cancel(problem=problem):
            return {
                "state": DeliveryState.CANCELLED,
                "check_at": None,
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


def expire_leases(connection: Connection, overdue: ColumnElement[bool]) -> int:
    """Turn deliveries whose holder went away into unknown ones that are due for a look-up; how many there were.

    `overdue` says which leases count as over: those past their time, or all when the caller knows that nobody else
    is alive. The hint is left to conciliation.
    """
    was_looked_up = deliveries.c.state == DeliveryState.UNKNOWN
    died_looking = _error("unknown", LOOKER_DIED, "The worker that looked it up did not come back.")
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
            # A worker that died while looking leaves no other trace, and the time for such looks is bounded.
            **{name: case((was_looked_up, value), else_=deliveries.c[name]) for name, value in died_looking.items()},
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
