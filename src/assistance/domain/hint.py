"""The hint: the thin message that tells a consumer to look at a delivery row.

A hint carries ids only. Losing one or receiving it twice is harmless, because the delivery row is the job. The series
is part of it, so that a stale hint cannot bury a delivery that was replayed since.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from assistance.domain.errors import UndecodableMessage

#: The AMQP `type` property of a hint; another type or version is never guessed at.
HINT_TYPE = "assistance.delivery.requested.v1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Hint:
    """Which delivery to look at, for which try of it."""

    delivery_id: UUID
    request_id: UUID
    channel: str
    series: int
    attempt: int


def encode(hint: Hint) -> bytes:
    """The body of the message; the same hint always gives the same bytes."""
    return body_of(str(hint.delivery_id), str(hint.request_id), hint.channel, hint.series, hint.attempt)


def body_of(delivery_id: str, request_id: str, channel: str, series: int, attempt: int) -> bytes:
    """The same for ids that are text already; written by hand, because a relay makes tens of thousands a second."""
    return (
        f'{{"v":1,"delivery_id":"{delivery_id}","request_id":"{request_id}","channel":{_quoted(channel)},'
        f'"series":{series},"attempt":{attempt}}}'
    ).encode()


#: Channels are few.
_quoted = functools.lru_cache(maxsize=256)(json.dumps)


def decode(body: bytes, message_type: str | None) -> Hint:
    """Read a message back.

    Raises `UndecodableMessage` for anything that `encode` does not produce.
    """
    if message_type != HINT_TYPE:
        raise UndecodableMessage(f"The message type is {message_type!r}, not {HINT_TYPE!r}.")
    try:
        fields: Any = json.loads(body)
        if fields["v"] != 1:
            raise UndecodableMessage(f"The hint has version {fields['v']!r}; this program knows version 1.")
        return Hint(
            delivery_id=UUID(fields["delivery_id"]),
            request_id=UUID(fields["request_id"]),
            channel=_text(fields["channel"]),
            series=_positive(fields["series"]),
            attempt=_positive(fields["attempt"]),
        )
    except UndecodableMessage:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UndecodableMessage(f"The message body is not a hint ({type(error).__name__}).") from error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _positive(value: Any) -> int:
    if type(value) is not int or not 0 < value < 2**31:
        raise ValueError
    return value
