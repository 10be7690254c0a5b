"""Operations: acts on everything that matches a filter, as rows that `carry_out` works off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, func, insert, select, update

from assistance.deliveries.resolve import Resolution
from assistance.domain.errors import CountMoved, OperationOver, UnknownOperation
from assistance.domain.operator import Actor
from assistance.operating.audit import record
from assistance.operating.targets import Kind, bound_now, targets_of
from assistance.runtime import ids
from assistance.search.mistakes import FilterMistake
from assistance.storage.plain import plain_text
from assistance.storage.tables import operations

#: More than so many a second is faster than any provider, and would hold up the rest of the flow.
FASTEST_PER_SECOND = 1_000.0
MOST_MOVED = 0.1
_LONGEST_REASON = 500


class OperationState(StrEnum):
    """Where an operation stands. A cancelled or failed one may be resumed."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"


def begin(
    connection: Connection,
    kind: Kind | str,
    filter_query: Mapping[str, str],
    *,
    shown: int,
    per_second: float,
    actor: Actor,
    parameters: Mapping[str, str] | None = None,
    reason: str | None = None,
) -> UUID:
    """Order one act on everything that matches, at most `per_second`; the id of the operation.

    `shown` is the count that the operator saw. What comes after this moment is left alone. `parameters` are
    `{"to": CHANNEL}` for reroute and `{"resolution": delivered | resend | dead}` for resolve. Raises `CountMoved` when
    nothing matches or the count differs from `shown` by more than a tenth, and `FilterMistake` for a wrong kind, value
    or parameter.
    """
    kind = _kind(kind)
    _check(kind, parameters or {}, per_second)
    targets = targets_of(kind, filter_query)
    found = targets.count(connection).number
    if found == 0:
        raise CountMoved("Nothing matches any more.", shown=shown, found=found)
    if abs(found - shown) > MOST_MOVED * shown:
        raise CountMoved(
            f"{found:,} match now and {shown:,} were shown: look again before you begin.", shown=shown, found=found
        )
    operation_id = ids.uuid7()
    connection.execute(
        insert(operations).values(
            id=operation_id,
            kind=kind,
            filter=targets.query,
            parameters=dict(parameters or {}),
            reason=plain_text(reason)[:_LONGEST_REASON] if reason else None,
            actor=plain_text(actor.name),
            via=actor.via,
            request_id=actor.request_id,
            per_second=per_second,
            expected=found,
            upper_bound=bound_now(connection),
        )
    )
    after = {"kind": kind, "filter": targets.query, "expected": found, "per_second": per_second, **(parameters or {})}
    record(connection, actor, "begin", "operation", operation_id, after=after, reason=reason, operation_id=operation_id)
    return operation_id


def cancel(connection: Connection, operation_id: UUID, actor: Actor) -> None:
    """End an operation where it is; what was done stays done.

    Waits for the batch in hand. Raises `UnknownOperation`, and `OperationOver` when it has ended already.
    """
    row = _lock(connection, operation_id)
    if row.ended_at is not None:
        raise OperationOver(f"The operation is {row.state} already.")
    connection.execute(
        update(operations)
        .where(operations.c.id == operation_id)
        .values(
            state=OperationState.CANCELLED,
            cancelled_by=plain_text(actor.name),
            ended_at=func.now(),
            updated_at=func.now(),
        )
    )
    _record_change(connection, actor, "cancel", row, OperationState.CANCELLED)


def resume(connection: Connection, operation_id: UUID, actor: Actor) -> None:
    """Let a cancelled or failed operation go on where it stopped.

    Raises `UnknownOperation`, and `OperationOver` when it is done, or not ended at all.
    """
    row = _lock(connection, operation_id)
    if row.state not in (OperationState.CANCELLED, OperationState.FAILED):
        raise OperationOver(f"The operation is {row.state}: only a cancelled or failed one can be resumed.")
    connection.execute(
        update(operations)
        .where(operations.c.id == operation_id)
        .values(state=OperationState.WAITING, cancelled_by=None, ended_at=None, updated_at=func.now())
    )
    _record_change(connection, actor, "resume", row, OperationState.WAITING)


def show(connection: Connection, operation_id: UUID) -> Row[Any, Any] | None:
    """One operation; `now` is the database's time."""
    found = select(operations, func.now().label("now")).where(operations.c.id == operation_id)
    return connection.execute(found).one_or_none()


def find(
    connection: Connection, *, limit: int, before: Row[Any, Any] | None = None, only_open: bool = False
) -> Sequence[Row[Any, Any]]:
    """The newest operations; `before` is the last one of the page before."""
    newest = operations.c.created_at.desc(), operations.c.id.desc()
    statement = select(operations, func.now().label("now")).order_by(*newest).limit(limit)
    if only_open:
        statement = statement.where(operations.c.ended_at.is_(None))
    if before is not None:
        place = func.row(operations.c.created_at, operations.c.id)
        statement = statement.where(place < func.row(before.created_at, before.id))
    return connection.execute(statement).all()


def _kind(kind: str) -> Kind:
    try:
        return Kind(kind)
    except ValueError:
        raise FilterMistake("kind", kind, f"is none of {', '.join(Kind)}") from None


def _check(kind: Kind, parameters: Mapping[str, str], per_second: float) -> None:
    if not 0 < per_second <= FASTEST_PER_SECOND:
        raise FilterMistake("per_second", str(per_second), f"is above 0 and at most {FASTEST_PER_SECOND:g}")
    needed = {Kind.REROUTE: "to", Kind.RESOLVE: "resolution"}.get(kind)
    unknown = sorted(set(parameters) - {needed})
    if unknown:
        raise FilterMistake(unknown[0], parameters[unknown[0]], f"is no parameter of {kind}")
    if needed is not None and not parameters.get(needed):
        raise FilterMistake(needed, "", f"is needed to {kind}")
    if kind is Kind.RESOLVE and parameters["resolution"] not in set(Resolution):
        raise FilterMistake("resolution", parameters["resolution"], f"is none of {', '.join(Resolution)}")


def _lock(connection: Connection, operation_id: UUID) -> Row[Any, Any]:
    locked = select(operations).where(operations.c.id == operation_id).with_for_update()
    row = connection.execute(locked).one_or_none()
    if row is None:
        raise UnknownOperation(f"There is no operation {operation_id}.")
    return row


def _record_change(
    connection: Connection, actor: Actor, action: str, row: Row[Any, Any], state: OperationState
) -> None:
    before, after = {"state": row.state, "done": row.done}, {"state": state}
    record(connection, actor, action, "operation", row.id, before=before, after=after, operation_id=row.id)
