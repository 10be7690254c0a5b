"""A delivery tells one event of a request to one destination of one channel."""

from __future__ import annotations

from enum import StrEnum


class DeliveryState(StrEnum):
    """`pending → sending → delivered | pending (retry) | unknown | dead`; see docs/flow.md."""

    PENDING = "pending"
    SENDING = "sending"
    UNKNOWN = "unknown"
    DELIVERED = "delivered"
    DEAD = "dead"
    CANCELLED = "cancelled"

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will happen by itself; a finished delivery carries no `check_at`."""
        return self in FINISHED


FINISHED = frozenset({DeliveryState.DELIVERED, DeliveryState.DEAD, DeliveryState.CANCELLED})


class Purpose(StrEnum):
    """Why the delivery exists."""

    NOTIFY = "notify"
    FOLLOW_UP = "follow_up"
    CALLBACK = "callback"


#: What people read; a callback is for a machine and keeps no request open.
FOR_PEOPLE = (Purpose.NOTIFY, Purpose.FOLLOW_UP)


#: The channel that is always there, without a table in the configuration: it takes callbacks to whom they are for.
CALLBACKS = "callbacks"


class OnUnknown(StrEnum):
    """What a channel does with a delivery whose fate nobody can tell: send again and say so, or ask an operator."""

    RESEND = "resend"
    HOLD = "hold"


class AttemptOutcome(StrEnum):
    """How one try ended; `sending` is written and committed before the call."""

    SENDING = "sending"
    DELIVERED = "delivered"
    RETRY_LATER = "retry_later"
    REJECTED = "rejected"
    UNKNOWN = "unknown"
