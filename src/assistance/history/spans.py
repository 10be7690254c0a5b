"""The resolutions at which the history is kept, and which of them shows a stretch of time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from assistance.domain.errors import AssistanceError

_HOUR, _DAY = 3600, 86_400
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: What is rolled up; everything coarser is merged from it.
MINUTE = 60
#: For how many seconds rows of each resolution, in seconds, are kept. The last one shows all that is kept in a chart.
KEPT_SECONDS = {MINUTE: 2 * _DAY, 600: 14 * _DAY, _HOUR: 90 * _DAY, 6 * _HOUR: 90 * _DAY}
SPANS = tuple(KEPT_SECONDS)
#: As many points as a chart has room for.
MOST_POINTS = 400


class WindowMistake(AssistanceError):
    """This stretch of time cannot be shown; `name` says which of since, until and span is to blame."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name} {why}.")
        self.name = name
        self.why = why


def place(instant: datetime, span_seconds: int) -> int:
    """In which span of this length an instant lies, counted from 1970."""
    return int((instant - _EPOCH) // timedelta(seconds=span_seconds))


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """From `since` up to `until`, in spans that begin at multiples of `span_seconds` since 1970."""

    since: datetime
    until: datetime
    span_seconds: int

    @property
    def begins(self) -> list[datetime]:
        """When each span begins, the first and the last one perhaps only in part within the window."""
        first = place(self.since, self.span_seconds)
        last = place(self.until - timedelta(microseconds=1), self.span_seconds)
        return [_EPOCH + timedelta(seconds=number * self.span_seconds) for number in range(first, last + 1)]


def finest(seconds: float) -> int:
    """The shortest spans, in seconds, of which a chart has room for so much time.

    Raises `WindowMistake`.
    """
    for span in SPANS:
        if seconds <= span * MOST_POINTS:
            return span
    raise WindowMistake("since", f"lies more than {SPANS[-1] * MOST_POINTS // _DAY} days before until")


def window(since: datetime, until: datetime, span_seconds: int | None = None) -> Window:
    """The window, in the finest spans that a chart has room for unless they are named.

    Raises `WindowMistake`.
    """
    length = (until - since).total_seconds()
    if length <= 0:
        raise WindowMistake("since", "has to lie before until")
    if span_seconds is None:
        span_seconds = finest(length)
    if span_seconds not in SPANS:
        raise WindowMistake("span", f"has to be one of: {', '.join(map(str, SPANS))}")
    if length > span_seconds * MOST_POINTS:
        raise WindowMistake("span", f"is too short for this time: no more than {MOST_POINTS} of them are shown")
    return Window(since=since, until=until, span_seconds=span_seconds)
