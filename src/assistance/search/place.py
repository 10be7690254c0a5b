"""Places in a list, between two rows, and how many rows there are."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import UUID

from assistance.search.mistakes import FilterMistake

#: Further than this nobody counts.
MOST_COUNTED = 10_000
_TEXT = re.compile(r"([on])([A-Za-z0-9_-]{32})")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Towards(StrEnum):
    """Where a page goes on from its place."""

    OLDER = "older"
    NEWER = "newer"


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a page ended: the next one goes on behind this row, towards older or newer ones.

    `id` is that of a request, or the number of a dead letter as a UUID.
    """

    created_at: datetime
    id: UUID
    towards: Towards = Towards.OLDER

    def __str__(self) -> str:
        """One word for a URL."""
        microseconds = (self.created_at - _EPOCH) // _MICROSECOND
        packed = microseconds.to_bytes(8) + self.id.bytes
        return self.towards.value[0] + base64.urlsafe_b64encode(packed).decode()

    @classmethod
    def from_text(cls, text: str, name: str = "place") -> Place:
        """The place that was written like this. Raises `FilterMistake`, which speaks of `name`."""
        try:
            match = _TEXT.fullmatch(text)
            if match is None:
                raise ValueError
            packed = base64.urlsafe_b64decode(match[2])
            created_at = _EPOCH + int.from_bytes(packed[:8]) * _MICROSECOND
        except (ValueError, OverflowError):
            raise FilterMistake(name, text, "has to be taken from a link of an earlier page") from None
        towards = Towards.OLDER if match[1] == "o" else Towards.NEWER
        return cls(created_at=created_at, id=UUID(bytes=packed[8:]), towards=towards)


@dataclass(frozen=True, kw_only=True, slots=True)
class Count:
    """How many there are; at least, when `is_capped`: nobody counted further, or looked further back."""

    number: int
    is_capped: bool = False

    def __str__(self) -> str:
        """As people read it: `10,000+`."""
        return f"{self.number:,}{'+' if self.is_capped else ''}"
