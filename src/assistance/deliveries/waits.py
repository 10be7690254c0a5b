"""What a claim does with a hint that came too early: it comes back where and when something may be done."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row

from assistance.deliveries.pace import Slot, wait_for_slot
from assistance.domain.delivery import DeliveryState
from assistance.domain.hint import Hint
from assistance.outbox.append import append


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
    return None


def put_off(connection: Connection, hint: Hint, row: Row[Any], slot: Slot | None) -> str:
    """Let the hint of a try that may not begin yet come back at its slot; the word for it."""
    hint = replace(hint, attempt=row.attempt + 1)
    if slot is None:  # it was not due a moment ago, when its slot was asked for
        append(connection, [hint])
        return "not_due"
    wait_for_slot(connection, hint, row, slot)
    return "paced"
