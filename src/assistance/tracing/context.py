"""W3C Trace Context: where a span stands, as the header `traceparent` says it. What breaks its rules is ignored."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from hashlib import blake2b
from uuid import UUID

#: The name of the header, in HTTP, in messages of the broker and in what a request keeps.
TRACEPARENT = "traceparent"

_LENGTH = 55
_FIELDS = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_FORBIDDEN_VERSION = "ff"
_SAMPLED, _RANDOM = 1, 2
_SPAN_ID_BYTES = 8


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A span in its trace: ids in hexadecimal, and the flags that we know."""

    trace_id: str
    span_id: str
    flags: int = _SAMPLED
    #: It came from another process.
    is_remote: bool = field(default=False, compare=False)

    @property
    def is_sampled(self) -> bool:
        """Whether its spans are kept."""
        return bool(self.flags & _SAMPLED)

    def __str__(self) -> str:
        """The header."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"


def parse(header: object) -> TraceContext | None:
    """What a `traceparent` says; none when it is absent, forged, doubled or too long for its version.

    Of a version to come only the fields are read that it must have, as the standard asks.
    """
    if not isinstance(header, str) or len(header) < _LENGTH:
        return None
    found, rest = _FIELDS.fullmatch(header[:_LENGTH]), header[_LENGTH:]
    if found is None or (rest and (found[1] == "00" or not rest.startswith("-"))):
        return None
    version, trace_id, span_id, flags = found.groups()
    if version == _FORBIDDEN_VERSION or not int(trace_id, 16) or not int(span_id, 16):
        return None
    return TraceContext(trace_id, span_id, int(flags, 16) & (_SAMPLED | _RANDOM), is_remote=True)


def span_id_of_attempt(delivery_id: UUID, series: int, number: int) -> str:
    """The id of the span in which an attempt is sent.

    It follows from what the attempt is, so that the next one can name it although nothing of it was stored: not when
    its hint was lost, and not when its process was killed.
    """
    attempt = delivery_id.bytes + series.to_bytes(4) + number.to_bytes(4)
    return blake2b(attempt, digest_size=_SPAN_ID_BYTES).hexdigest()
