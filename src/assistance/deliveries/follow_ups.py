"""Follow-ups: what is added to a request that people may have read already, told where the request was told.

Each is an event of the request with deliveries of its own, one for each channel that tells the request. On one channel
they go out after the request itself and in their order (`deliveries.waits`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, exists, func, select

from assistance.deliveries.start import start_deliveries
from assistance.deliveries.timeline import write_event
from assistance.domain.delivery import DeliveryState, Purpose
from assistance.domain.event import EventType
from assistance.domain.request import Author
from assistance.storage.expressions import seconds
from assistance.storage.tables import deliveries, events


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What a follow-up tells: the event, and the receipt of the message that it belongs under, when there is one."""

    event: EventType
    data: Mapping[str, Any]
    at: datetime
    late_seconds: float
    thread: Mapping[str, Any] | None


def add_follow_up(
    connection: Connection, request_id: UUID, text: str, author: Author, *, actor: str, check_after: float
) -> int:
    """Add to a request; the number of the event. The caller holds the request's lock.

    A request that had ended is open again until everybody was told.
    """
    data = {"text": text, "from": author}
    version = write_event(connection, request_id, EventType.FOLLOW_UP, actor, data=data, ended_at=None)
    tell(connection, request_id, version, _channels(connection, request_id), check_after=check_after)
    return version


def tell_where_delivered(connection: Connection, request_id: UUID, version: int, *, check_after: float) -> None:
    """Tell an event on the channels where people read the request, or are about to."""
    reached = (DeliveryState.DELIVERED, DeliveryState.SENDING, DeliveryState.UNKNOWN)
    tell(connection, request_id, version, _channels(connection, request_id, reached), check_after=check_after)


def tell_follow_ups(
    connection: Connection, request_id: UUID, channels: Collection[str], *, step: int, check_after: float
) -> None:
    """Tell channels that a request begins on now what was added to it before."""
    told = exists().where(
        deliveries.c.request_id == request_id,
        deliveries.c.event_version == events.c.version,
        deliveries.c.purpose == Purpose.FOLLOW_UP,
        deliveries.c.channel.in_(channels),
        deliveries.c.step == step,
    )
    added = select(events.c.version).where(
        events.c.request_id == request_id, events.c.type == EventType.FOLLOW_UP, ~told
    )
    for version in connection.scalars(added.order_by(events.c.version)).all():
        tell(connection, request_id, version, [(channel, step) for channel in channels], check_after=check_after)


def tell(
    connection: Connection,
    request_id: UUID,
    version: int,
    channels: Collection[tuple[str, int]],
    *,
    check_after: float,
) -> None:
    """Start the deliveries of one event on channels, each with the step that it belongs to."""
    for step in sorted({step for _, step in channels}):
        names = [channel for channel, of_step in channels if of_step == step]
        start_deliveries(
            connection,
            request_id,
            names,
            step=step,
            check_after=check_after,
            purpose=Purpose.FOLLOW_UP,
            event_version=version,
        )


def read_follow_up(connection: Connection, delivery: Row[Any]) -> Told:
    """What the delivery of a follow-up tells, and where."""
    root = select(deliveries.c.receipt).where(
        deliveries.c.request_id == delivery.request_id,
        deliveries.c.channel == delivery.channel,
        deliveries.c.step == delivery.step,
        deliveries.c.purpose == Purpose.NOTIFY,
        deliveries.c.state == DeliveryState.DELIVERED,
    )
    event = connection.execute(
        select(
            events.c.type,
            events.c.data,
            events.c.at,
            seconds(func.now() - events.c.at).label("late_seconds"),
            root.scalar_subquery().label("thread"),
        ).where(events.c.request_id == delivery.request_id, events.c.version == delivery.event_version)
    ).one()
    return Told(
        event=EventType(event.type),
        data=event.data,
        at=event.at,
        late_seconds=event.late_seconds,
        thread=event.thread,
    )


def _channels(
    connection: Connection, request_id: UUID, states: Collection[DeliveryState] | None = None
) -> list[tuple[str, int]]:
    """The channels that tell the request, with their steps: in one of `states`, or all that were not called off."""
    state = deliveries.c.state
    notifying = select(deliveries.c.channel, deliveries.c.step).where(
        deliveries.c.request_id == request_id,
        deliveries.c.purpose == Purpose.NOTIFY,
        state != DeliveryState.CANCELLED if states is None else state.in_(states),
    )
    return [(row.channel, row.step) for row in connection.execute(notifying.order_by(deliveries.c.id))]
