"""Parsers of the values of filters; each raises `ValueError` with the end of a sentence that begins with its name."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from assistance.storage.plain import plain_text

#: More things than this are meant by what they have in common, not one by one.
_MOST_NAMED = 1000
_LARGEST_ID = 2**63 - 1
_DIGITS = re.compile(r"[0-9]{1,19}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}", re.IGNORECASE)
_PERIOD = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,3})?)(ms|s|m|h|d)")
_UNITS = {
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
}
_LONGEST_PERIOD = timedelta(days=3650)
_INSTANT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[Tt ]([0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?)([Zz]|[+-][0-9]{2}:[0-9]{2})?)?"
)
#: Before and after these no request was or will be made, whatever the time zone.
_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9998, 1, 1, tzinfo=UTC)


def text(longest: int) -> Callable[[str], str]:
    """A text that is not longer than this, without the blanks around it."""

    def parse(written: str) -> str:
        stripped = written.strip()
        if len(stripped) > longest:
            raise ValueError(f"has {len(stripped)} characters, {longest} are allowed")
        if plain_text(stripped) != stripped:
            raise ValueError("holds a character that the database cannot hold")
        return stripped

    return parse


def word(*words: str) -> Callable[[str], str]:
    """One of these words."""

    def parse(written: str) -> str:
        if written.strip() not in words:
            raise ValueError(f"has to be one of: {', '.join(words)}")
        return written.strip()

    return parse


def yes(written: str) -> bool:
    """Whether it is wanted."""
    return word("true", "false")(written) == "true"


def whole(least: int, most: int) -> Callable[[str], int]:
    """A number in digits."""

    def parse(written: str) -> int:
        if not _DIGITS.fullmatch(written.strip()) or not least <= int(written) <= most:
            raise ValueError(f"has to be a whole number from {least} to {most}")
        return int(written)

    return parse


def period(written: str) -> timedelta:
    """A span of time."""
    match = _PERIOD.fullmatch(written.strip())
    if match is None:
        raise ValueError("has to be a span of time such as 30s, 5m, 2h or 7d")
    try:
        milliseconds = round(float(match[1]) * (_UNITS[match[2]] / _UNITS["ms"]))
        found = timedelta(milliseconds=milliseconds)
    except OverflowError:
        found = timedelta.max
    if found > _LONGEST_PERIOD:
        raise ValueError("is longer than ten years")
    return found


def instant(written: str) -> datetime:
    """A moment; in UTC unless it says otherwise, and the beginning of the day if it names no time."""
    try:
        match = _INSTANT.fullmatch(written.strip())
        if match is None:
            raise ValueError
        day, time, offset = match.groups()
        found = datetime.fromisoformat(f"{day}T{time or '00:00'}{(offset or 'Z').upper()}").astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("has to be a time such as 2026-03-04T14:02:00Z or 2026-03-04") from None
    if not _FIRST <= found < _LAST:
        raise ValueError("lies before 1970 or after 9997")
    return found


def instant_or_period(written: str) -> datetime | timedelta:
    """A moment, or how long it lies back."""
    if _PERIOD.fullmatch(written.strip()):
        return period(written)
    try:
        return instant(written)
    except ValueError:
        raise ValueError("has to be a time such as 2026-03-04T14:02:00Z, or a span back from now such as 2h") from None


def uuids(written: str) -> tuple[UUID, ...]:
    """Ids of requests, with commas between them."""
    found = _parts(written)
    if not all(_UUID.fullmatch(part) for part in found):
        raise ValueError("has to be the ids of requests, with commas between them")
    return tuple(UUID(part) for part in found)


def as_uuid(written: str) -> UUID | None:
    """The id, if it is one."""
    return UUID(written) if _UUID.fullmatch(written) else None


def numbers(written: str) -> tuple[int, ...]:
    """Numbers of dead letters, with commas between them."""
    found = _parts(written)
    if not all(_DIGITS.fullmatch(part) and 1 <= int(part) <= _LARGEST_ID for part in found):
        raise ValueError("has to be the numbers of dead letters, with commas between them")
    return tuple(int(part) for part in found)


def _parts(written: str) -> Collection[str]:
    parts = [part.strip() for part in written.split(",")]
    if len(parts) > _MOST_NAMED:
        raise ValueError(f"names {len(parts)} things, {_MOST_NAMED} are allowed")
    return parts


def written_as(value: Any) -> str:
    """The text that its parser takes for this value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ",".join(str(part) for part in value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, timedelta):
        # The largest unit without a remainder: 2h, not 7200s.
        unit = next(name for name, length in _UNITS.items() if not value % length)
        return f"{value // _UNITS[unit]}{unit}"
    return str(value)
