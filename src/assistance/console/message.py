"""A delivery's message as it is sent, made again from what is stored, as text.

Nothing of a message is kept but its words' sources, so it is rendered as for the moment of the last try, or for now
when none was made. That takes a channel type's pure `preview`, no options and no secrets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog

from assistance.channels.contract import ChannelType, Part
from assistance.configuration import Configuration
from assistance.consumer.view import view_of
from assistance.deliveries.follow_ups import Told
from assistance.deliveries.lease import Telling
from assistance.domain.delivery import DeliveryState, Purpose
from assistance.domain.event import EventType
from assistance.domain.request import AssistanceRequest, Priority
from assistance.status.story import Story

log = structlog.get_logger()

_Row = Mapping[str, Any]
_TOLD = (DeliveryState.DELIVERED, DeliveryState.CANCELLED)


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """The parts of a message, or a sentence that says why there are none; `at` is the moment that it is shown for."""

    at: datetime
    type: str = ""
    parts: tuple[Part, ...] = ()
    trouble: str | None = None


def message_of(story: Story, delivery: _Row, configuration: Configuration) -> Message:
    """What people read, or will."""
    at = _told_at(story, delivery)
    channel = configuration.channels.get(delivery["channel"])
    if channel is None:
        return Message(
            at=at, trouble="Its channel left the configuration file, so nobody knows what its messages look like."
        )
    if channel.type.preview is None:
        return Message(
            at=at,
            type=channel.type.name,
            trouble=f"Channels of type {channel.type.name} show their messages only where they arrive.",
        )
    try:
        parts = _parts(story, delivery, channel.type, at)
    except Exception as error:  # of a type that somebody else wrote, or of a row that an older version did
        log.exception("console.preview_failed")
        return Message(at=at, type=channel.type.name, trouble=f"The message cannot be shown ({type(error).__name__}).")
    return Message(at=at, type=channel.type.name, parts=parts)


def _parts(story: Story, delivery: _Row, type_: ChannelType, at: datetime) -> tuple[Part, ...]:
    preview = type_.preview
    return preview(view_of(_telling(story, delivery, at), type_.capabilities)) if preview is not None else ()


def _told_at(story: Story, delivery: _Row) -> datetime:
    tries = [
        entry.at for entry in story.entries if entry.kind == "attempt" and entry.data["delivery_id"] == delivery["id"]
    ]
    return tries[-1] if tries else story.now


def _telling(story: Story, delivery: _Row, at: datetime) -> Telling:
    request = story.request
    told = _follow_up(story, delivery, at) if delivery["purpose"] == Purpose.FOLLOW_UP else None
    begun = max(request["created_at"], request["not_before"] or request["created_at"])
    steps_in = delivery["step"] and delivery["purpose"] == Purpose.NOTIFY
    return Telling(
        request=_request(request),
        event_version=delivery["event_version"],
        late_seconds=told.late_seconds if told else (at - begun).total_seconds(),
        may_repeat=delivery["may_repeat"],
        unconfirmed=tuple(_unconfirmed(story.deliveries, delivery, at)) if steps_in else (),
        told=told,
        payload=delivery["payload"],
    )


def _unconfirmed(deliveries: Iterable[_Row], delivery: _Row, at: datetime) -> Iterable[str]:
    """The channels of earlier steps that had not confirmed the request at that moment, whatever they did since."""
    for other in deliveries:
        is_earlier = other["purpose"] == Purpose.NOTIFY and other["step"] < delivery["step"]
        if is_earlier and not (other["state"] in _TOLD and other["updated_at"] < at):
            yield other["channel"]


def _follow_up(story: Story, delivery: _Row, at: datetime) -> Told:
    event = next(
        entry for entry in story.entries if entry.kind == "event" and entry.data["version"] == delivery["event_version"]
    )
    roots = [
        other["receipt"]
        for other in story.deliveries
        if other["purpose"] == Purpose.NOTIFY
        and other["state"] == DeliveryState.DELIVERED
        and (other["channel"], other["step"]) == (delivery["channel"], delivery["step"])
    ]
    return Told(
        event=EventType(event.data["type"]),
        data=event.data["data"],
        at=event.at,
        late_seconds=(at - event.at).total_seconds(),
        thread=roots[0] if roots else None,
    )


def _request(row: _Row) -> AssistanceRequest:
    return AssistanceRequest(
        id=UUID(row["id"]),
        ref=row["ref"],
        topic=row["topic"],
        description=row["description"],
        created_at=row["created_at"],
        title=row["title"],
        priority=Priority(row["priority"]),
        customer=row["customer"],
        bot=row["bot"],
        conversation=row["conversation"],
        transcript=row["transcript"],
        attachments=row["attachments"],
        metadata=row["metadata"],
        not_before=row["not_before"],
    )
