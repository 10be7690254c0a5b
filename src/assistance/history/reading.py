"""Read the history: one statement for everything that a page of charts shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, func, select, text

from assistance.history.latency import BOUNDS, SHARES, quantile
from assistance.history.spans import Window, finest, place, window
from assistance.runtime.clock import Deadline
from assistance.storage.database import Database

#: The channel of the rows about requests as a whole.
WHOLE = ""
#: What is shown of unless it is said.
_USUAL = timedelta(hours=1)
_EARLIEST = datetime.min.replace(tzinfo=UTC) + _USUAL
_NONE = (0,) * (len(BOUNDS) + 1)
_NOTHING: Mapping[str, int] = MappingProxyType({})

#: A series in one piece, because thousands of rows would take the driver longer than the database needs to find them.
#: Whoever says no instants asks for the time of that length that ends now.
_SERIES = text(
    """
    WITH asked AS (
        SELECT coalesce(CAST(:since AS timestamptz), now() - :length) AS since,
               coalesce(CAST(:until AS timestamptz), now()) AS until
    ), series AS (
        SELECT channel, json_agg(json_build_array(
                   CAST(extract(epoch FROM begins_at) AS bigint), accepted, delivered, dead, attempts, latency, backlog,
                   oldest_seconds, outbox, outbox_oldest_seconds, breaker)) AS points
        FROM asked, history
        WHERE span_seconds = :span AND begins_at > since - make_interval(secs => :span) AND begins_at < until
          AND (CAST(:channel AS text) IS NULL OR channel IN ('', :channel))
        GROUP BY channel
    )
    SELECT now() AS read_at, (SELECT json_object_agg(channel, points) FROM series) AS series
    """
)


class Point(NamedTuple):
    """What happened in one span, or in several.

    `accepted` and `delivered` count requests; of a channel, those told there first, and deliveries. `dead` counts
    dead letters. `attempts` counts tries that ended, by outcome; `throttled` and `timeout` are kinds of `retry_later`.
    `backlog` counts what was unfinished at the end, by what it waited for, and open letters as `dead`.
    """

    begins_at: datetime
    accepted: int = 0
    delivered: int = 0
    dead: int = 0
    attempts: Mapping[str, int] = _NOTHING
    latency: Sequence[int] = _NONE
    backlog: Mapping[str, int] = _NOTHING
    oldest_seconds: float | None = None
    outbox: int | None = None
    outbox_oldest_seconds: float | None = None
    breaker: str | None = None

    def within_seconds(self, share: float) -> float | None:
        """How long this share (0 to 1) of what was delivered took at most; none when nothing was."""
        return quantile(self.latency, share)

    def numbers(self) -> dict[str, Any]:
        """All of it but when it was, as the API and the command line write it down."""
        return {
            "accepted": self.accepted,
            "delivered": self.delivered,
            "dead": self.dead,
            "attempts": dict(self.attempts),
            "latency_seconds": {name: self.within_seconds(share) for name, share in SHARES.items()},
            "backlog": dict(self.backlog),
            "oldest_seconds": self.oldest_seconds,
            "outbox": self.outbox,
            "outbox_oldest_seconds": self.outbox_oldest_seconds,
            "breaker": self.breaker,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Charts:
    """Series with one point for each span of the window; none where the history has nothing to say.

    `whole` is about requests as a whole, `channels` about each channel that something happened on. `read_at` is when
    the database was asked.
    """

    window: Window
    read_at: datetime
    begins: Sequence[datetime]
    whole: Sequence[Point | None]
    channels: Mapping[str, Sequence[Point | None]]


def charts(connection: Connection, span: timedelta, channel: str | None = None) -> Charts:
    """What happened in the time of this length that ends now; of one channel beside the whole, or of all.

    Raises `WindowMistake`.
    """
    length = finest(span.total_seconds())
    found = _read(connection, length, channel, length=span)
    return _charts(window(found.read_at - span, found.read_at, length), found)


def charts_between(
    connection: Connection,
    since: datetime | None,
    until: datetime | None,
    *,
    span_seconds: int | None = None,
    channel: str | None = None,
) -> Charts:
    """What happened between two instants; up to now and from an hour before unless they are said.

    Raises `WindowMistake`.
    """
    if until is None:
        until = connection.execute(select(func.now())).scalar_one()
    if since is None:
        since = max(until, _EARLIEST) - _USUAL
    wanted = window(since, until, span_seconds)
    return _charts(wanted, _read(connection, wanted.span_seconds, channel, since=since, until=until))


def stats(
    database: Database,
    since: datetime | None,
    until: datetime | None,
    deadline: Deadline,
    *,
    span_seconds: int | None = None,
    channel: str | None = None,
) -> Charts:
    """The same as `charts_between`. Raises `WindowMistake` and `DatabaseUnavailable`."""
    with database.look(deadline) as connection:
        return charts_between(connection, since, until, span_seconds=span_seconds, channel=channel)


def total(points: Iterable[Point | None], begins_at: datetime) -> Point:
    """What happened in all of them together; what stood at the end of each is as in the last one."""
    there = [point for point in points if point is not None]
    attempts: Counter[str] = Counter()
    for point in there:
        attempts.update(point.attempts)
    last = there[-1] if there else Point(begins_at=begins_at)
    return Point(
        begins_at=begins_at,
        accepted=sum(point.accepted for point in there),
        delivered=sum(point.delivered for point in there),
        dead=sum(point.dead for point in there),
        attempts=dict(attempts),
        latency=_added([point.latency for point in there if point.latency]),
        backlog=last.backlog,
        oldest_seconds=last.oldest_seconds,
        outbox=last.outbox,
        outbox_oldest_seconds=last.outbox_oldest_seconds,
        breaker=last.breaker,
    )


def _added(counts: Sequence[Sequence[int]]) -> Sequence[int]:
    return tuple(map(sum, zip(*counts, strict=True))) or _NONE


def _read(
    connection: Connection,
    span_seconds: int,
    channel: str | None,
    *,
    length: timedelta = timedelta(0),
    since: datetime | None = None,
    until: datetime | None = None,
) -> Row[Any]:
    asked = {"length": length, "since": since, "until": until, "span": span_seconds, "channel": channel}
    return connection.execute(_SERIES, asked).one()


def _charts(wanted: Window, found: Row[Any]) -> Charts:
    begins = wanted.begins
    first = place(wanted.since, wanted.span_seconds)
    series: dict[str, list[Point | None]] = {}

    def nothing() -> list[Point | None]:
        return [None] * len(begins)

    for channel, points in (found.series or {}).items():
        line = series[channel] = nothing()
        for second, *numbers in points:
            number = second // wanted.span_seconds - first
            line[number] = Point(begins[number], *numbers)
    whole = series.pop(WHOLE, nothing())
    return Charts(
        window=wanted,
        read_at=found.read_at,
        begins=begins,
        whole=whole,
        channels={channel: list(map(_of_channel, line, whole)) for channel, line in series.items()},
    )


def _of_channel(point: Point | None, whole: Point | None) -> Point | None:
    """A channel of which there is nothing to say has no row, or nothing in it: where somebody looked, that says it."""
    if whole is None:
        return point
    point = point or Point(whole.begins_at)
    if whole.outbox is None or point.outbox is not None:
        return point
    return point._replace(outbox=0, breaker="closed")
