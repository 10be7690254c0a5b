"""Events: what happened to a request. The request row itself serves as event 1."""

from __future__ import annotations

from enum import StrEnum


class EventType(StrEnum):
    """One entry of a request's timeline, written by the transition function alone."""

    ACCEPTED = "assistance.accepted"
    DELIVERED = "assistance.delivered"
    UNDELIVERABLE = "assistance.undeliverable"
    CANCELLED = "assistance.cancelled"
    REPLAYED = "assistance.replayed"


#: The version of the event that every request starts with.
FIRST_EVENT = 1
