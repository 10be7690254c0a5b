"""Fallback: begin the next step of a request, and call the others off once a step has told people.

Everything here happens under the request's lock, in the transaction of what caused it. The plan is the one that the
request was accepted with.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from assistance.deliveries.called_off import cancel_waiting
from assistance.deliveries.follow_ups import tell_follow_ups
from assistance.deliveries.settle import Cancel, Deliver, Problem, Settlement
from assistance.deliveries.start import start_deliveries
from assistance.deliveries.steps import StepState, next_step, step_states
from assistance.deliveries.timeline import write_event
from assistance.domain.delivery import DeliveryState, Purpose
from assistance.domain.event import EventType
from assistance.domain.hint import Hint
from assistance.domain.request import RequestStatus
from assistance.domain.route import Step, thaw_steps
from assistance.storage.expressions import duration, from_now
from assistance.storage.tables import deliveries, requests, timers

#: The `kind` of the timers that begin the next step of a request.
FALLBACK_TIMER = "fallback"


class Cause(StrEnum):
    """Why a step began."""

    TIME = "time"
    DEAD = "dead"


def set_timer(connection: Connection, request_id: UUID, steps: Sequence[Step]) -> None:
    """Set the timer of a request whose first step begins, if its second step has a time."""
    if len(steps) > 1 and steps[1].after_seconds is not None:
        due_at = from_now(steps[1].after_seconds)
        connection.execute(
            insert(timers).values(kind=FALLBACK_TIMER, subject=request_id, due_at=due_at, data={"step": 1})
        )


def begin_due_step(connection: Connection, request_id: UUID, *, actor: str, check_after: float) -> bool:
    """Begin the step whose time has come; false when the request moved on before its lock was taken."""
    row = connection.execute(
        select(timers.c.data, requests.c.route["steps"].label("steps"))
        .join_from(timers, requests, requests.c.id == timers.c.subject)
        .where(timers.c.kind == FALLBACK_TIMER, timers.c.subject == request_id, timers.c.due_at <= func.now())
        .where(requests.c.status == RequestStatus.ACCEPTED)
    ).one_or_none()
    if row is None:
        return False
    number = row.data["step"]
    _begin(connection, request_id, thaw_steps(row.steps), number, Cause.TIME, actor=actor, check_after=check_after)
    return True


def follow_plan(
    connection: Connection,
    request_id: UUID,
    steps: Sequence[Step],
    rows: Sequence[Any],
    *,
    actor: str,
    check_after: float,
) -> bool:
    """Do what the deliveries (`rows`) of the request ask for; true when that changed them.

    A step that told people ends the others. Without one, the step after a dead one begins.
    """
    told = _told_by(rows)
    if told:
        return _cancel_losers(connection, request_id, rows, told)
    number = next_step(step_states(rows), steps)
    if number is not None:
        _begin(connection, request_id, steps, number, Cause.DEAD, actor=actor, check_after=check_after)
    return number is not None


def unless_handled_elsewhere(connection: Connection, hint: Hint, settlement: Settlement) -> Settlement:
    """The settlement of a try or look-up whose request is `delivered`: a loser that did not arrive is not tried again.

    What an operator replayed (a later series) goes on.
    """
    if isinstance(settlement, Deliver) or hint.series > 1:
        return settlement
    rows = connection.execute(
        select(deliveries).where(deliveries.c.request_id == hint.request_id).order_by(deliveries.c.id)
    ).all()
    told = _told_by(rows)
    mine = next(row for row in rows if row.id == hint.delivery_id)
    has_lost = mine.purpose == Purpose.NOTIFY and step_states(rows).get(mine.step) is not StepState.DELIVERED
    if not (told and has_lost):
        return settlement
    return Cancel(problem=_handled_elsewhere(told))


def unconfirmed(connection: Connection, delivery: Row[Any]) -> tuple[str, ...]:
    """The channels of earlier steps than that of a delivery that were to take the request and have not."""
    earlier = select(deliveries.c.channel).where(
        deliveries.c.request_id == delivery.request_id,
        deliveries.c.purpose == delivery.purpose,
        deliveries.c.step < delivery.step,
        deliveries.c.state.not_in((DeliveryState.DELIVERED, DeliveryState.CANCELLED)),
    )
    return tuple(connection.scalars(earlier.order_by(deliveries.c.id)))


def drop_timer(connection: Connection, request_id: UUID) -> None:
    """No step of this request begins by time any more."""
    connection.execute(delete(timers).where(timers.c.kind == FALLBACK_TIMER, timers.c.subject == request_id))


def _begin(
    connection: Connection,
    request_id: UUID,
    steps: Sequence[Step],
    number: int,
    cause: Cause,
    *,
    actor: str,
    check_after: float,
) -> None:
    channels = steps[number].to
    start_deliveries(connection, request_id, channels, step=number, check_after=check_after)
    tell_follow_ups(connection, request_id, channels, step=number, check_after=check_after)
    data = {"step": number, "channels": list(channels), "cause": cause}
    write_event(connection, request_id, EventType.FALLBACK_STARTED, actor, data=data)
    after = steps[number + 1].after_seconds if number + 1 < len(steps) else None
    if after is None:
        drop_timer(connection, request_id)
        return
    begun_at = func.greatest(requests.c.created_at, requests.c.not_before)
    accepted_at = select(begun_at).where(requests.c.id == request_id).scalar_subquery()
    connection.execute(
        update(timers)
        .where(timers.c.kind == FALLBACK_TIMER, timers.c.subject == request_id)
        .values(due_at=accepted_at + duration(after), data={"step": number + 1})
    )


def _told_by(rows: Sequence[Any]) -> tuple[str, ...]:
    """The channels that people read it on, of the steps that succeeded."""
    won = {step for step, state in step_states(rows).items() if state is StepState.DELIVERED}
    read = [row for row in rows if row.purpose == Purpose.NOTIFY and row.state == DeliveryState.DELIVERED]
    return tuple(row.channel for row in read if row.step in won)


def _handled_elsewhere(told: Sequence[str]) -> Problem:
    detail = f"Handled elsewhere: delivered to {', '.join(told)}."
    return Problem(kind="cancelled", code="handled_elsewhere", detail=detail)


def _cancel_losers(connection: Connection, request_id: UUID, rows: Sequence[Any], told: Sequence[str]) -> bool:
    """End what waits in the other steps; what somebody is sending or looking up right now ends in `conclude`."""
    lost = [step for step, state in step_states(rows).items() if state is not StepState.DELIVERED]
    first_series = deliveries.c.series == 1  # what an operator replayed goes on
    return cancel_waiting(connection, request_id, _handled_elsewhere(told), deliveries.c.step.in_(lost), first_series)
