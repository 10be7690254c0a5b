"""Move what waits for a channel to another one: its deliveries are cancelled, and new ones begin at the same step.

Only what waits is moved. What somebody is sending, or what may have arrived, stays: moving it could tell people twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Row,
    Select,
    and_,
    case,
    exists,
    func,
    insert,
    literal,
    select,
    update,
)

from assistance.deliveries.called_off import cancel_waiting, forget_hints
from assistance.deliveries.follow_ups import tell_follow_ups
from assistance.deliveries.request_state import refresh_request
from assistance.deliveries.settle import Problem
from assistance.deliveries.start import new_series
from assistance.deliveries.timeline import write_event
from assistance.deliveries.transition import hint_for
from assistance.domain.delivery import DeliveryState, Purpose
from assistance.domain.event import EventType
from assistance.outbox.append import append
from assistance.runtime import ids
from assistance.storage.database import Database
from assistance.storage.expressions import from_now
from assistance.storage.tables import attempts, deliveries, requests

_BATCH = 100  # requests whose locks are held at once
_IN_ANOTHER_STEP = "in another step"
_target = deliveries.alias("target")
_any_step = deliveries.alias("any_step")


@dataclass(frozen=True, kw_only=True, slots=True)
class Reroute:
    """What an operator asks for: everything that waits for `source`, of one topic if one is named."""

    source: str
    target: str
    actor: str
    check_after: float  # seconds after which conciliation may look at a new delivery
    topic: str | None = None


@dataclass(kw_only=True, slots=True)
class Rerouted:
    """How many deliveries were moved, cancelled because the target has the request already, and left, by reason."""

    moved: int = 0
    there_already: int = 0
    left: Counter[str] = field(default_factory=Counter)
    requests: list[UUID] = field(default_factory=list, compare=False)  # of which something was moved or cancelled

    def add(self, other: Rerouted) -> None:
        """Count what another batch did as well."""
        self.moved += other.moved
        self.there_already += other.there_already
        self.left += other.left
        self.requests += other.requests


#: What is to be written in the transaction that moved a batch.
Also = Callable[[Connection, Rerouted], None]


def reroute(
    database: Database, order: Reroute, *, limit: int | None = None, also: Also = lambda _connection, _batch: None
) -> Rerouted:
    """Move what waits, in transactions of at most 100 requests each, of `limit` requests at most.

    It may be killed and run again at any time: what was moved is not moved a second time.
    """

    def move_batch(connection: Connection, after: UUID | None, size: int) -> tuple[Rerouted, UUID | None]:
        batch, last = _move_batch(connection, order, after, size)
        also(connection, batch)
        return batch, last

    done = Rerouted()
    seen = 0
    after: UUID | None = None
    while limit is None or seen < limit:
        size = _BATCH if limit is None else min(_BATCH, limit - seen)
        batch, after = database.run(
            lambda connection, size=size, after=after: move_batch(connection, after, size)  # type: ignore[misc]  # mypy cannot infer a lambda with defaults
        )
        done.add(batch)
        if after is None:
            break
        seen += size
    with database.transaction() as connection:
        done.left += _in_other_hands(connection, order)
    return done


def reroute_request(connection: Connection, order: Reroute, request_id: UUID) -> Rerouted:
    """Move what waits of one request, in the caller's transaction, which holds the request's lock."""
    return _move(connection, order, [request_id])


def survey(database: Database, order: Reroute) -> Rerouted:
    """What `reroute` would do now; changes nothing."""
    with database.transaction() as connection:
        waiting = _waiting(order).subquery()
        state = waiting.c.target_state
        by_state = {row[0]: row[1] for row in connection.execute(select(state, func.count()).group_by(state))}
        found = Rerouted(left=_in_other_hands(connection, order))
    for state, count in by_state.items():
        _count(found, state, count)
    return found


def _count(into: Rerouted, target_state: str | None, count: int) -> None:
    match target_state:
        case None | DeliveryState.CANCELLED:
            into.moved += count
        case DeliveryState.DEAD:
            into.left["dead on the target"] += count
        case _:
            into.there_already += count


def _of_order(order: Reroute) -> Select[Any]:
    statement = select().select_from(deliveries).where(deliveries.c.channel == order.source)
    statement = statement.where(deliveries.c.purpose == Purpose.NOTIFY)
    if order.topic is not None:
        statement = statement.join(requests, requests.c.id == deliveries.c.request_id)
        statement = statement.where(requests.c.topic == order.topic)
    return statement


def _waiting(order: Reroute) -> Select[Any]:
    """Deliveries that wait, with what the target has of the same step; a later or earlier step may have told it too."""

    def same_as(other: FromClause) -> ColumnElement[bool]:
        keys = ("request_id", "event_version", "purpose")
        return and_(other.c.channel == order.target, *(other.c[key] == deliveries.c[key] for key in keys))

    over = (DeliveryState.DEAD, DeliveryState.CANCELLED)
    there = exists().where(same_as(_any_step), _any_step.c.step != deliveries.c.step, _any_step.c.state.not_in(over))
    return (
        _of_order(order)
        .outerjoin(_target, same_as(_target) & (_target.c.step == deliveries.c.step))
        .add_columns(
            deliveries,
            _target.c.id.label("target_id"),
            case((there, literal(_IN_ANOTHER_STEP)), else_=_target.c.state).label("target_state"),
        )
        .where(deliveries.c.state == DeliveryState.PENDING, ~_arrived_late())
    )


def _arrived_late() -> Any:
    """Whether a receipt came after its lease was over: it waits only to be written down as delivered."""
    return exists().where(
        attempts.c.delivery_id == deliveries.c.id,
        attempts.c.series == deliveries.c.series,
        attempts.c.receipt.is_not(None),
    )


def _in_other_hands(connection: Connection, order: Reroute) -> Counter[str]:
    """What is not moved because it is being sent or may have arrived."""
    unclear = (deliveries.c.state == DeliveryState.PENDING) & _arrived_late()
    for_certain = deliveries.c.state.in_((DeliveryState.SENDING, DeliveryState.UNKNOWN))
    statement = _of_order(order).add_columns(deliveries.c.state, func.count()).where(unclear | for_certain)
    counted: Counter[str] = Counter()
    for state, count in connection.execute(statement.group_by(deliveries.c.state)):
        counted["being sent" if state == DeliveryState.SENDING else "outcome unknown"] += count
    return counted


def _move_batch(connection: Connection, order: Reroute, after: UUID | None, size: int) -> tuple[Rerouted, UUID | None]:
    """Move what waits of the next requests; also the last of these, none when there was none."""
    next_ids = _of_order(order).add_columns(deliveries.c.request_id).where(deliveries.c.state == DeliveryState.PENDING)
    if after is not None:
        next_ids = next_ids.where(deliveries.c.request_id > after)
    chosen = connection.scalars(next_ids.distinct().order_by(deliveries.c.request_id).limit(size)).all()
    if not chosen:
        return Rerouted(), None
    # In a statement of its own and in one order, as everything that changes requests does.
    locks = select(requests.c.id).where(requests.c.id.in_(chosen)).order_by(requests.c.id)
    connection.execute(locks.with_for_update(key_share=True))
    return _move(connection, order, chosen), chosen[-1]


def _move(connection: Connection, order: Reroute, chosen: Sequence[UUID]) -> Rerouted:
    """Move what waits of these requests, whose locks the caller holds."""
    rows = connection.execute(
        _waiting(order)
        .where(deliveries.c.request_id.in_(chosen))
        .order_by(deliveries.c.id)
        .with_for_update(of=deliveries)
    ).all()
    batch = Rerouted()
    for row in rows:
        _count(batch, row.target_state, 1)
    leaving = [row for row in rows if row.target_state != DeliveryState.DEAD]
    _cancel(connection, order, leaving)
    _begin(connection, order, [row for row in leaving if row.target_state is None])
    _begin_again(connection, order, [row for row in leaving if row.target_state == DeliveryState.CANCELLED])
    for row in leaving:
        _take_along(connection, order, row)
    batch.requests = list(dict.fromkeys(row.request_id for row in leaving))
    for request_id in batch.requests:
        data = {"from": order.source, "to": order.target}
        write_event(connection, request_id, EventType.REROUTED, order.actor, data=data)
        refresh_request(connection, request_id, order.actor, check_after=order.check_after)
    return batch


def _cancel(connection: Connection, order: Reroute, rows: Sequence[Row[Any]]) -> None:
    moved, problem = [row.id for row in rows], _rerouted(order)
    connection.execute(
        update(deliveries)
        .where(deliveries.c.id.in_(moved))
        .values(
            state=DeliveryState.CANCELLED,
            check_at=None,
            last_error_class=problem.kind,
            last_error_code=problem.code,
            last_error_detail=problem.detail,
            updated_at=func.now(),
        )
    )
    forget_hints(connection, moved)


def _take_along(connection: Connection, order: Reroute, row: Row[Any]) -> None:
    """What was added to the request follows it to where it is told now."""
    here = (deliveries.c.channel == order.source, deliveries.c.step == row.step)
    cancel_waiting(connection, row.request_id, _rerouted(order), deliveries.c.purpose == Purpose.FOLLOW_UP, *here)
    if row.target_state in (None, DeliveryState.CANCELLED):
        tell_follow_ups(connection, row.request_id, [order.target], step=row.step, check_after=order.check_after)


def _rerouted(order: Reroute) -> Problem:
    detail = f"Rerouted to {order.target} by {order.actor}."
    return Problem(kind="rerouted", code="rerouted", detail=detail)


def _begin(connection: Connection, order: Reroute, rows: Sequence[Row[Any]]) -> None:
    if not rows:
        return
    kept = ("request_id", "event_version", "purpose", "step", "required", "payload", "may_repeat")
    new = [
        {
            **{name: getattr(row, name) for name in kept},
            "id": ids.uuid7(),
            "channel": order.target,
            "check_at": from_now(order.check_after),
        }
        for row in rows
    ]
    begun = connection.execute(insert(deliveries).values(new).returning(deliveries)).all()
    append(connection, [hint_for(row) for row in begun])


def _begin_again(connection: Connection, order: Reroute, rows: Sequence[Row[Any]]) -> None:
    """The target was rerouted or called off before: its delivery starts a new series, as a replay does."""
    if not rows:
        return
    repeats = [row.target_id for row in rows if row.may_repeat]
    begun = connection.execute(
        update(deliveries)
        .where(deliveries.c.id.in_([row.target_id for row in rows]))
        .values(
            slot_at=None,
            may_repeat=deliveries.c.may_repeat | deliveries.c.id.in_(repeats),
            last_error_class=None,
            last_error_code=None,
            last_error_detail=None,
            **new_series(delay_seconds=0.0, check_after=order.check_after),
        )
        .returning(deliveries)
    ).all()
    append(connection, [hint_for(row) for row in begun])
