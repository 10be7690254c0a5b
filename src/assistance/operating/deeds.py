"""One act on one thing, with its line in the audit log, in the caller's transaction.

Single acts (`acts`) and operations on many things (`carry_out`) do the same here. Each takes the lock of the request
first, as everything that changes a request does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, select

from assistance.deliveries.called_off import cancel as call_off
from assistance.deliveries.replay import discard as close_letter
from assistance.deliveries.replay import replay as replay_delivery
from assistance.deliveries.request_state import lock_request
from assistance.deliveries.reroute import Reroute, Rerouted, reroute_request
from assistance.deliveries.resolve import Resolution
from assistance.deliveries.resolve import resolve as settle_held
from assistance.domain.delivery import DeliveryState, Purpose
from assistance.domain.errors import NotCancellable, NotHeld, NotReroutable
from assistance.domain.operator import Actor
from assistance.domain.request import RequestStatus
from assistance.operating.audit import record
from assistance.storage.tables import dead_letters, deliveries


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """Who wants it and why, and the operation that it belongs to, if it is one of many."""

    actor: Actor
    check_after: float  # seconds after which conciliation may look at what begins
    reason: str | None = None
    operation_id: UUID | None = None


def is_of_source(connection: Connection, letter_id: int) -> bool:
    """Whether a dead letter is a message of a signed source: it is mapped again, not delivered again."""
    of_source = select(dead_letters.c.id).where(dead_letters.c.id == letter_id, dead_letters.c.source == "source")
    return connection.scalar(of_source) is not None


def replay(connection: Connection, letter_id: int, order: Order, *, delay_seconds: float = 0.0) -> None:
    """Put the delivery of a dead letter back, due `delay_seconds` from now. Raises `NotReplayable`."""
    series = replay_delivery(
        connection, letter_id, actor=order.actor.name, check_after=order.check_after, delay_seconds=delay_seconds
    )
    before = {"letter": "open", "delivery": DeliveryState.DEAD, "series": series - 1}
    after = {"letter": "replayed", "delivery": DeliveryState.PENDING, "series": series}
    _record(connection, order, "replay", "dead_letter", letter_id, before, after)


def record_source_replay(connection: Connection, letter_id: int, order: Order) -> None:
    """Write down that the message of a signed source was made a request; `sources` does it in its own transaction."""
    _record(connection, order, "replay", "dead_letter", letter_id, {"letter": "open"}, {"letter": "replayed"})


def discard(connection: Connection, letter_id: int, order: Order) -> None:
    """Close a dead letter without sending anything. Raises `NotReplayable` when there is no such open letter."""
    close_letter(connection, letter_id, actor=order.actor.name)
    _record(connection, order, "discard", "dead_letter", letter_id, {"letter": "open"}, {"letter": "discarded"})


def cancel(connection: Connection, request_id: UUID, order: Order) -> bool:
    """Call a request off; false when it is cancelled already.

    Raises `NotCancellable` when it is over, or when there is no such request.
    """
    request = lock_request(connection, request_id)
    if request is None:
        raise NotCancellable(f"There is no request {request_id}.")
    if request.status == RequestStatus.CANCELLED:
        return False
    call_off(
        connection,
        request_id,
        actor=order.actor.name,
        reason=order.reason,
        check_after=order.check_after,
        by_operator=True,
    )
    record_cancel(connection, request_id, request.status, order.actor, order.reason, operation_id=order.operation_id)
    return True


def record_cancel(
    connection: Connection,
    request_id: UUID,
    status: str,
    actor: Actor,
    reason: str | None,
    *,
    operation_id: UUID | None = None,
) -> None:
    """Write down that an operator cancelled a request, which had this status before."""
    record(
        connection,
        actor,
        "cancel",
        "request",
        request_id,
        before={"status": status},
        after={"status": RequestStatus.CANCELLED},
        reason=reason,
        operation_id=operation_id,
    )


def reroute(
    connection: Connection, request_id: UUID, target: str, order: Order, *, channel: str | None = None
) -> Rerouted:
    """Move what waits of a request (for one channel, if one is named) to another channel.

    Raises `NotReroutable` when nothing of it waits there.
    """
    lock_request(connection, request_id)
    waiting = select(deliveries.c.channel).where(
        deliveries.c.request_id == request_id,
        deliveries.c.purpose == Purpose.NOTIFY,
        deliveries.c.state == DeliveryState.PENDING,
        deliveries.c.channel != target,
    )
    if channel is not None:
        waiting = waiting.where(deliveries.c.channel == channel)
    sources = list(dict.fromkeys(connection.scalars(waiting.order_by(deliveries.c.id))))
    found = Rerouted()
    for source in sources:
        wanted = Reroute(source=source, target=target, actor=order.actor.name, check_after=order.check_after)
        found.add(reroute_request(connection, wanted, request_id))
    if not found.requests:
        where = f"channel {channel}" if channel is not None else f"another channel than {target}"
        raise NotReroutable(f"Nothing of request {request_id} waits for {where}.")
    after = {"channel": target, "moved": found.moved, "there_already": found.there_already}
    _record(connection, order, "reroute", "request", request_id, {"channels": sources}, after)
    return found


def resolve(connection: Connection, delivery_id: UUID, resolution: Resolution, order: Order) -> None:
    """Say what became of a held delivery. Raises `NotHeld`."""
    settle_held(connection, delivery_id, resolution, actor=order.actor.name, check_after=order.check_after)
    before = {"state": DeliveryState.UNKNOWN, "held": True}
    _record(connection, order, "resolve", "delivery", delivery_id, before, {"state": _STATE_AFTER[resolution]})


def resolve_all(
    connection: Connection, request_id: UUID, resolution: Resolution, order: Order, *, channel: str | None
) -> None:
    """Say what became of all held deliveries of a request (of one channel, if one is named).

    Raises `NotHeld` when there is none.
    """
    lock_request(connection, request_id)
    held = select(deliveries.c.id).where(deliveries.c.request_id == request_id, deliveries.c.held_at.is_not(None))
    if channel is not None:
        held = held.where(deliveries.c.channel == channel)
    found = connection.scalars(held.order_by(deliveries.c.id)).all()
    if not found:
        raise NotHeld(f"Request {request_id} has no held delivery.")
    for delivery_id in found:
        resolve(connection, delivery_id, resolution, order)


_STATE_AFTER = {
    Resolution.DELIVERED: DeliveryState.DELIVERED,
    Resolution.RESEND: DeliveryState.PENDING,
    Resolution.DEAD: DeliveryState.DEAD,
}


def _record(
    connection: Connection,
    order: Order,
    action: str,
    kind: str,
    subject: object,
    before: Mapping[str, object],
    after: Mapping[str, object],
) -> None:
    record(
        connection,
        order.actor,
        action,
        kind,
        subject,
        before=before,
        after=after,
        reason=order.reason,
        operation_id=order.operation_id,
    )
