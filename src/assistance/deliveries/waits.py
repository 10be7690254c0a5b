"""What a claim does with a hint that came too early: it comes back where and when something may be done."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from assistance.deliveries.callbacks import wait_behind
from assistance.deliveries.pace import Slot, wait_for_slot
from assistance.domain.delivery import FOR_PEOPLE, DeliveryState, Purpose
from assistance.domain.hint import Hint
from assistance.outbox.append import append
from assistance.storage.expressions import duration, from_now, seconds
from assistance.storage.tables import deliveries

#: How soon and how late a follow-up asks again whether its turn has come.
_SHORTEST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 60.0


def reason_to_wait(connection: Connection, hint: Hint, row: Row[Any], state: DeliveryState, channel: str) -> str | None:
    """Why nothing is to be done now; the hint comes back where and when something may be."""
    if state.is_finished:
        return "finished"
    if row.held_at is not None:
        return "held"
    if row.channel != channel:
        append(connection, [replace(hint, attempt=row.attempt + 1)], delay_seconds=max(0.0, row.due_in))
        return "misrouted"
    if row.leased:
        append(connection, [replace(hint, attempt=row.attempt)], delay_seconds=row.lease_remaining)
        return "busy"
    if row.due_in > 0 and state is not DeliveryState.SENDING:
        number = row.attempt + 1 if state is DeliveryState.PENDING else row.attempt
        append(connection, [replace(hint, attempt=number)], delay_seconds=row.due_in)
        return "not_due"
    if row.purpose == Purpose.FOLLOW_UP and state is DeliveryState.PENDING and _is_behind(connection, hint, row):
        return "behind"
    if row.purpose == Purpose.CALLBACK and state is DeliveryState.PENDING and wait_behind(connection, row):
        return "behind"
    return None


def _is_behind(connection: Connection, hint: Hint, row: Row[Any]) -> bool:
    """Let a follow-up wait while people have yet to be told what it follows."""
    ahead = connection.scalar(
        select(seconds(deliveries.c.next_attempt_at - func.now()))
        .where(
            deliveries.c.request_id == row.request_id,
            deliveries.c.channel == row.channel,
            deliveries.c.purpose.in_(FOR_PEOPLE),
            deliveries.c.event_version < row.event_version,
            deliveries.c.check_at.is_not(None),
        )
        .order_by(deliveries.c.event_version.desc())
        .limit(1)
    )
    if ahead is None:
        return False
    delay = min(max(_SHORTEST_WAIT_SECONDS, ahead), _LONGEST_WAIT_SECONDS)
    connection.execute(
        update(deliveries)
        .where(deliveries.c.id == row.id)
        .values(next_attempt_at=from_now(delay), check_at=deliveries.c.check_at + duration(delay))
    )
    append(connection, [replace(hint, attempt=row.attempt + 1)], delay_seconds=delay)
    return True


def put_off(connection: Connection, hint: Hint, row: Row[Any], slot: Slot | None) -> str:
    """Let the hint of a try that may not begin yet come back at its slot; the word for it."""
    hint = replace(hint, attempt=row.attempt + 1)
    if slot is None:  # it was not due a moment ago, when its slot was asked for
        append(connection, [hint])
        return "not_due"
    wait_for_slot(connection, hint, row, slot)
    return "paced"
