"""Events: what happened to a request. The request row itself serves as event 1."""

from __future__ import annotations

from enum import StrEnum


class EventType(StrEnum):
    """One entry of a request's timeline, written by the transition function alone."""

    ACCEPTED = "assistance.accepted"
    DELIVERED = "assistance.delivered"
    UNDELIVERABLE = "assistance.undeliverable"
    CANCELLED = "assistance.cancelled"  # data: the reason, if the bot gave one
    EXPIRED = "assistance.expired"
    STARTED = "assistance.started"  # the time that its bot had named has come
    FOLLOW_UP = "assistance.follow_up"  # data: text, and from ("bot" or "customer")
    REPLAYED = "assistance.replayed"
    REROUTED = "assistance.rerouted"  # data: the channels "from" and "to"
    ERASED = "assistance.erased"  # what was stored about the customer is gone
    FALLBACK_STARTED = "assistance.fallback"  # data: step, channels, and the cause "time" or "dead"


#: The version of the event that every request starts with.
FIRST_EVENT = 1
