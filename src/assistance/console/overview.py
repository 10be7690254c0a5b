"""The first page: what is wrong and since when, what goes on, and how it came about."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlencode

import flask
from sqlalchemy import Connection, select

from assistance.configuration import Configuration
from assistance.configuration.values import NAME
from assistance.console.charts import Chart, charts_of, per
from assistance.console.desk import Desk
from assistance.console.problems import problems_of
from assistance.console.showing import Refused, is_refresh, show
from assistance.console.signing_in import the_operator
from assistance.console.strip import Strip, strip_of
from assistance.deliveries.channel_states import ChannelState
from assistance.history.reading import Charts, charts, total
from assistance.runtime.clock import monotonic
from assistance.status.recent_letters import read_recent_causes, recent_causes_column
from assistance.status.situation import (
    Backlog,
    backlog_column,
    read_backlog,
    read_states,
    read_success,
    read_workers,
    states_column,
    success_column,
    workers_column,
)

SPANS = {
    "1h": timedelta(hours=1),
    "6h": timedelta(hours=6),
    "24h": timedelta(days=1),
    "7d": timedelta(days=7),
    "90d": timedelta(days=90),
}
_HOUR = timedelta(hours=1)
_LATELY_MINUTES = 5
_REFRESH_SECONDS = 5
#: The history grows once a minute: reading it with each refresh would show the same again.
_HOUR_IS_FRESH_SECONDS = 30.0

_READ = select(
    states_column.label("states"),
    backlog_column.label("backlog"),
    success_column.label("success"),
    recent_causes_column.label("causes"),
    workers_column.label("workers"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ChannelLine:
    """A channel at a glance: rates and shares are of the last minutes and the last hour of the history."""

    name: str
    state: ChannelState
    per_minute: float
    p95_seconds: float | None
    failed_percent: float | None
    backlog: Backlog
    last_success: datetime | None

    @property
    def word(self) -> str:
        """The state that its badge shows."""
        return "paused" if self.state.paused_at is not None else str(self.state.breaker.state)


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """Which charts the address names; without a channel those of all."""

    span: str
    channel: str | None

    def query(self, **changed: str | None) -> str:
        """The address' query, with some of it changed."""
        values = {"span": self.span, "channel": self.channel} | changed
        return urlencode({name: value for name, value in values.items() if value is not None})


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawn:
    """The charts as they were read at `read_at`, a point for each `per`."""

    wanted: Wanted
    charts: Sequence[Chart]
    strip: Strip
    per: str
    read_at: datetime
    channels: Sequence[str]


class LastHour:
    """The last hour of the history, as it was within half a minute. Thread-safe."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._lock = threading.Lock()
        self._read: Charts | None = None
        self._until = float("-inf")

    def get(self) -> Charts:
        """Raises `DatabaseUnavailable`."""
        with self._lock:
            if self._read is not None and monotonic() < self._until:
                return self._read
        with self._desk.database.look(self._desk.deadline()) as connection:
            found = charts(connection, _HOUR)
        with self._lock:
            self._read, self._until = found, monotonic() + _HOUR_IS_FRESH_SECONDS
        return found


def add_routes(blueprint: flask.Blueprint, desk: Desk) -> None:
    """Serve the page, and its charts by themselves."""
    last_hour = LastHour(desk)

    @blueprint.get("/")
    def overview() -> flask.Response:
        wanted = _wanted()
        configuration = desk.configuration()
        with desk.database.look(desk.deadline()) as connection:
            row = connection.execute(_READ).one()
            drawn = None if is_refresh() else _draw(connection, wanted, configuration)
        hour = last_hour.get()
        signs, states = the_operator().signs, read_states(row.states)
        backlogs = read_backlog(row.backlog)
        problems = problems_of(signs, states, backlogs, read_recent_causes(row.causes), configuration)
        orphans = sorted(set(backlogs) - set(configuration.channels))
        last = read_success(row.success)
        lines = [
            _line(name, states.get(name, ChannelState()), backlogs.get(name), hour, last.get(name))
            for name in (*configuration.channels, *orphans)
        ]
        waiting = list(backlogs.values())
        return show(
            "overview.html",
            title=f"({len(problems)} open) Overview" if problems else "Overview",
            refresh_seconds=_REFRESH_SECONDS,
            problems=problems,
            hour=total(hour.whole, hour.window.since),
            hour_read_at=hour.read_at,
            unfinished={
                word: sum(backlog.by_state[word] for backlog in waiting) for word in ("ready", "retrying", "held")
            },
            precision=next((backlog.precision for backlog in waiting), ""),
            oldest=min((backlog.oldest for backlog in waiting if backlog.oldest), default=None),
            lines=lines,
            orphans=orphans,
            workers=read_workers(row.workers),
            drawn=drawn,
            spans=SPANS,
        )

    @blueprint.get("/charts")
    def overview_charts() -> flask.Response:
        wanted = _wanted()
        with desk.database.look(desk.deadline()) as connection:
            drawn = _draw(connection, wanted, desk.configuration())
        return show("charts.html", title="Charts", drawn=drawn, spans=SPANS)


def _wanted() -> Wanted:
    """What the address names. Raises `Refused`."""
    span = flask.request.args.get("span", "1h")
    if span not in SPANS:
        raise Refused(f"The span {span[:40]!r} is none of {', '.join(SPANS)}.", 400, "/console/")
    channel = flask.request.args.get("channel") or None
    if channel is not None and not NAME.fullmatch(channel):
        raise _no_channel(channel, span)
    return Wanted(span=span, channel=channel)


def _no_channel(channel: str, span: str) -> Refused:
    return Refused(f"There is no channel {channel[:40]!r}.", 400, f"/console/?span={span}")


def _draw(connection: Connection, wanted: Wanted, configuration: Configuration) -> Drawn:
    """Raises `Refused` for a channel that neither the file nor the history knows."""
    found = charts(connection, SPANS[wanted.span], wanted.channel)
    if wanted.channel is not None and wanted.channel not in {*configuration.channels, *found.channels}:
        raise _no_channel(wanted.channel, wanted.span)
    return Drawn(
        wanted=wanted,
        charts=charts_of(found, wanted.channel),
        strip=strip_of(found, wanted.channel),
        per=per(found),
        read_at=found.read_at,
        channels=tuple(dict.fromkeys((*configuration.channels, *sorted(found.channels)))),
    )


def _line(
    name: str, state: ChannelState, backlog: Backlog | None, hour: Charts, last_success: datetime | None
) -> ChannelLine:
    points = hour.channels.get(name, ())
    whole = total(points, hour.window.since)
    lately = total(points[-_LATELY_MINUTES - 1 : -1], hour.window.since)  # the last one is not over
    ended = sum(whole.attempts.values())
    return ChannelLine(
        name=name,
        state=state,
        per_minute=lately.delivered / _LATELY_MINUTES,
        p95_seconds=whole.within_seconds(0.95),
        failed_percent=None if not ended else 100 * (ended - whole.attempts.get("delivered", 0)) / ended,
        backlog=backlog or Backlog(channel=name),
        last_success=last_success,
    )
