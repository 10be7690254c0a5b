"""Numbers and instants as people read them; pure functions that every template may call."""

from __future__ import annotations

from datetime import UTC, datetime

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def span(seconds: float | None) -> str:
    """A length of time in its one or two largest units: `12 s`, `4 min 17 s`, `3 d 2 h`; a dash for none."""
    if seconds is None:
        return "\N{EN DASH}"
    rest = max(0, round(seconds))
    if rest == 0:
        return "0 s" if seconds <= 0 else "under 1 s"
    parts: list[str] = []
    for size, unit in _UNITS:
        number, left = divmod(rest, size)
        if number:
            parts.append(f"{number} {unit}")
            rest = left
        elif parts:
            break
        if len(parts) == 2:
            break
    return " ".join(parts)


def ago(instant: datetime, now: datetime) -> str:
    """Where an instant lies, seen from now: `4 min ago`, `in 12 s`, `just now`."""
    seconds = (now - instant).total_seconds()
    if abs(seconds) < 1:
        return "just now"
    short = _largest(abs(seconds))
    return f"{short} ago" if seconds > 0 else f"in {short}"


def absolute(instant: datetime) -> str:
    """An instant in UTC, to the second."""
    return instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def iso(instant: datetime) -> str:
    """An instant for programs (RFC 3339), in UTC."""
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def number(value: float) -> str:
    """A number with its thousands apart, and no more than two decimals."""
    if value != int(value):
        return f"{value:,.2f}".rstrip("0").rstrip(".")
    return f"{int(value):,}"


def _largest(seconds: float) -> str:
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return "1 s"
