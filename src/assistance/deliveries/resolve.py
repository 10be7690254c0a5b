"""Say what became of a held delivery: an operator looked, because nobody else could tell whether it arrived."""

from __future__ import annotations

from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, func, select, update

from assistance.deliveries.bury import bury
from assistance.deliveries.request_state import lock_request, refresh_request
from assistance.deliveries.settle import Reason
from assistance.deliveries.transition import hint_for
from assistance.domain.delivery import DeliveryState
from assistance.domain.errors import NotHeld
from assistance.outbox.append import append
from assistance.storage.expressions import from_now
from assistance.storage.tables import deliveries


class Resolution(StrEnum):
    """What an operator decides."""

    DELIVERED = "delivered"  # it arrived
    RESEND = "resend"  # send it again; the message says that it may be a repeat
    DEAD = "dead"  # it did not arrive, and is not to be sent again


def resolve(
    connection: Connection, delivery_id: UUID, resolution: Resolution, *, actor: str, check_after: float
) -> None:
    """End the wait of one held delivery.

    Raises `NotHeld` when there is no such delivery, or when it does not wait for an operator (any more).
    """
    request_id = connection.scalar(select(deliveries.c.request_id).where(deliveries.c.id == delivery_id))
    if request_id is None:
        raise NotHeld(f"There is no delivery {delivery_id}.")
    lock_request(connection, request_id)
    row = connection.execute(
        update(deliveries)
        .where(deliveries.c.id == delivery_id, deliveries.c.held_at.is_not(None))
        .values(held_at=None, updated_at=func.now(), **_columns_for(resolution, actor, check_after))
        .returning(deliveries)
    ).one_or_none()
    if row is None:
        state = connection.scalar(select(deliveries.c.state).where(deliveries.c.id == delivery_id))
        raise NotHeld(f"Delivery {delivery_id} is not held: it is {state}.")
    if resolution is Resolution.RESEND:
        append(connection, [hint_for(row)])
    if resolution is Resolution.DEAD:
        error = f"{row.last_error_code}: {row.last_error_detail} ({actor} gave it up.)"
        bury(connection, hint_for(row), source="consumer", reason=Reason.OUTCOME_UNKNOWN, error=error)
    refresh_request(connection, request_id, actor, check_after=check_after)


def _columns_for(resolution: Resolution, actor: str, check_after: float) -> dict[str, Any]:
    if resolution is Resolution.DELIVERED:
        return {
            "state": DeliveryState.DELIVERED,
            "receipt": {"confirmed_by": actor},
            "check_at": None,
            "last_error_class": None,
            "last_error_code": None,
            "last_error_detail": None,
        }
    if resolution is Resolution.DEAD:
        return {"state": DeliveryState.DEAD, "check_at": None}
    # The series stays: its key is what lets a receiver drop the repeat, and a receipt that still comes is found.
    return {
        "state": DeliveryState.PENDING,
        "may_repeat": True,
        "refunded": deliveries.c.attempt,
        "looks": 0,
        "first_attempt_at": None,
        "paced_seconds": 0.0,
        "next_attempt_at": func.now(),
        "check_at": from_now(check_after),
        "reconciled": 0,
        "last_error_class": "unknown",
        "last_error_code": "sent_again",
        "last_error_detail": f"Nobody could tell whether it arrived; {actor} had it sent again.",
    }
