"""What dead letters have in common: their channel, their reason, and their error without what differs each time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, func, literal

from assistance.search.place import Count

#: In an error every word with a digit or an @ is an id, a number, a time or an address. But for the first one: that is
#: the code, and 404 and 503 are not the same cause.
_DIFFERS = r"\s\S*[0-9@]\S*"
_INSTEAD = " #"
_LONGEST = 300
_BETWEEN = "\x1f"


@dataclass(frozen=True, kw_only=True, slots=True)
class Cause:
    """Dead letters with one cause. `fingerprint` is the filter `cause` for them, `topics` are those of some."""

    fingerprint: str
    channel: str | None
    reason: str
    error: str
    count: Count
    first_at: datetime
    last_at: datetime
    topics: Sequence[str]


def essence(error: ColumnElement[Any]) -> ColumnElement[str]:
    """An error without what differs each time."""
    return func.regexp_replace(func.left(func.coalesce(error, ""), _LONGEST), _DIFFERS, _INSTEAD, "g")


def fingerprint(
    channel: ColumnElement[Any], reason: ColumnElement[Any], essence: ColumnElement[str]
) -> ColumnElement[str]:
    """A short word for what letters have in common."""
    between = literal(_BETWEEN)
    return func.md5(func.coalesce(channel, "").concat(between).concat(reason).concat(between).concat(essence))
