"""`GET /stats`: what happened, minute by minute or in longer spans."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import flask
from pydantic import BaseModel, Field
from pydantic_core import PydanticCustomError

from assistance.api.answers import instant, json_answer
from assistance.api.callers import needs
from assistance.api.door import Door
from assistance.api.operations import Answer, Operation, Parameter
from assistance.api.parameters import Choice, Kind, invalid_parameter, read_query
from assistance.api.problem_types import INVALID_PARAMETER
from assistance.api.schema.kinds import Instant
from assistance.domain.caller import Scope
from assistance.domain.delivery import CALLBACKS
from assistance.history.reading import Charts, Point, total
from assistance.history.spans import MOST_POINTS, SPANS, WindowMistake
from assistance.runtime.clock import Deadline

_CHANNEL = re.compile(r"[a-z][a-z0-9-]{0,39}")


@dataclass(frozen=True, slots=True)
class ChannelName:
    """The name of a channel."""

    def check(self, text: str) -> str:
        """The name."""
        if not _CHANNEL.fullmatch(text):
            raise PydanticCustomError("not-a-channel", "has to be the name of a channel")
        return text

    def description(self) -> dict[str, Any]:
        """Its letters."""
        return {"type": "string", "pattern": f"^{_CHANNEL.pattern}$"}


_KINDS: dict[str, Kind] = {
    "since": Instant(),
    "until": Instant(),
    "span": Choice(tuple(map(str, SPANS))),
    "channel": ChannelName(),
}


def add_routes(app: flask.Flask, door: Door) -> None:
    """Serve the history."""

    @app.get("/stats")
    def stats() -> flask.Response:
        needs(Scope.VIEW)
        asked = read_query(_KINDS)
        channel, span = asked.get("channel"), asked.get("span")
        try:
            found = door.reading.stats(
                asked.get("since"),
                asked.get("until"),
                Deadline.after(door.deadline_seconds),
                span_seconds=int(span) if span else None,
                channel=channel,
            )
        except WindowMistake as mistake:
            raise invalid_parameter(mistake.name, mistake.why) from mistake
        if channel is not None and channel not in found.channels and channel not in _configured(door):
            raise invalid_parameter("channel", "names one that does not exist, and did not in this time")
        return json_answer(_shown(found, channel))


def _configured(door: Door) -> set[str]:
    routes = door.reading.routes().values()
    return {channel for route in routes for step in route.steps for channel in step.to} | {CALLBACKS}


def _shown(found: Charts, channel: str | None) -> dict[str, Any]:
    points: Sequence[Point | None] = found.whole if channel is None else found.channels.get(channel, ())
    return {
        "since": instant(found.window.since),
        "until": instant(found.window.until),
        "span_seconds": found.window.span_seconds,
        "channel": channel,
        "total": total(points, found.window.since).numbers(),
        "channels": {
            name: total(series, found.window.since).numbers()
            for name, series in sorted(found.channels.items())
            if channel in (None, name)
        },
        "series": [{"begins_at": instant(point.begins_at), **point.numbers()} for point in points if point is not None],
    }


class LatencyAnswer(BaseModel):
    """Within how many seconds half, 95 and 99 of a hundred were delivered; null when none was."""

    p50: float | None
    p95: float | None
    p99: float | None


class SumAnswer(BaseModel):
    """What happened in a time. What stood is as it was at its end; in a longer span than a minute, at its worst."""

    accepted: int = Field(description="Requests accepted; of a channel, those that were to be told there first.")
    delivered: int = Field(description="Requests delivered; of a channel, deliveries.")
    dead: int = Field(description="Dead letters.")
    attempts: dict[str, int] = Field(
        description="Tries that ended, by outcome: delivered, rejected, unknown, and those that are worth another try "
        "as retry_later, throttled or timeout."
    )
    latency_seconds: LatencyAnswer
    backlog: dict[str, int] = Field(
        description="Unfinished deliveries: ready, sending, retrying, looked_up or held; and dead, the open letters."
    )
    oldest_seconds: float | None = Field(description="How long the oldest unfinished delivery had waited.")
    outbox: int | None = Field(description="Hints that were due and not published; null when nobody looked.")
    outbox_oldest_seconds: float | None = Field(description="For how long the oldest of them was due.")
    breaker: Literal["closed", "half_open", "open", "paused"] | None = Field(
        description="Where the channel stood; null for requests as a whole, and when nobody looked."
    )


class PointAnswer(SumAnswer):
    """What happened in one span."""

    begins_at: str = Field(json_schema_extra={"format": "date-time"})


class StatsAnswer(BaseModel):
    """What happened; a span without a point is one that nobody counted."""

    since: str = Field(json_schema_extra={"format": "date-time"})
    until: str = Field(json_schema_extra={"format": "date-time"})
    span_seconds: int
    channel: str | None
    total: SumAnswer
    channels: dict[str, SumAnswer] = Field(description="The same for each channel that something happened on.")
    series: list[PointAnswer] = Field(description="The oldest first.")


_ABOUT = {
    "since": "The beginning; an hour before `until` unless it is said.",
    "until": "The end; now unless it is said.",
    "span": f"Seconds in each point, of which there are {MOST_POINTS} at most; the shortest that fits unless said.",
    "channel": "Of this channel alone; of requests as a whole unless it is said.",
}
OPERATIONS = (
    Operation(
        method="GET",
        path="/stats",
        name="stats",
        group="Beside it",
        scope=Scope.VIEW,
        summary="See what happened lately",
        description="Minutes are kept for 2 days, ten minutes for 14, hours and quarters of a day for 90.",
        parameters=tuple(
            Parameter(name=name, description=_ABOUT[name], schema={"type": "string", **kind.description()})
            for name, kind in _KINDS.items()
        ),
        answers=(Answer(http_status=200, description="The history.", model=StatsAnswer),),
        problems=(INVALID_PARAMETER,),
    ),
)
