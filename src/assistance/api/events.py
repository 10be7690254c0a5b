"""`GET /assistance/<id>/events`: the timeline of a request, as JSON, or as a stream that goes on as things happen."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import flask
from pydantic import BaseModel, Field

from assistance.api.answers import instant, json_answer
from assistance.api.callers import needs
from assistance.api.door import Door
from assistance.api.operations import REQUEST_ID, Answer, Header, Operation, Parameter
from assistance.api.parameters import WholeNumber, invalid_parameter, read_query
from assistance.api.problem_types import INVALID_PARAMETER, NOT_FOUND
from assistance.api.problems import Problem
from assistance.api.waiting import Seat
from assistance.domain.caller import Scope
from assistance.domain.errors import DatabaseUnavailable
from assistance.domain.event import EventType
from assistance.runtime.clock import Deadline
from assistance.status.timeline import Event, Timeline
from assistance.status.watching import Glance

_STREAM = "text/event-stream"
#: After so long without an event a line shows that the stream lives, and whether somebody still listens.
_COMMENT_SECONDS = 15.0
#: A stream ends after this time, for the listener to come again: perhaps to another process.
_STREAM_SECONDS = 300.0
#: When a listener comes again, in milliseconds: after a stream that ended, and after one that found no seat.
_AGAIN_MS, _AGAIN_LATER_MS = 1_000, 5_000
_VERSION = WholeNumber(0, 999_999_999)

#: Reads what came after a version; none when the request is gone.
Read = Callable[[int], Timeline | None]


def add_routes(app: flask.Flask, door: Door) -> None:
    """Serve timelines."""

    @app.get("/assistance/<uuid:request_id>/events")
    def timeline(request_id: UUID) -> flask.Response:
        caller = needs(Scope.READ)
        after = max(read_query({"after": _VERSION}).get("after", 0), _last_event_id())

        def read(version: int) -> Timeline | None:
            deadline = Deadline.after(door.deadline_seconds)
            return door.reading.timeline(request_id, version, deadline, client=caller.sees)

        first = read(after)
        if first is None:
            raise Problem(NOT_FOUND, "No request has this id.")
        if flask.request.accept_mimetypes.best_match(["application/json", _STREAM]) == _STREAM:
            return _stream_answer(door, caller.client, request_id, first, after, read)
        return json_answer(_page(first))


def _last_event_id() -> int:
    """The version that a listener who comes again had last."""
    text = flask.request.headers.get("Last-Event-ID")
    if text is None:
        return 0
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise invalid_parameter("Last-Event-ID", "has to be the id of an event")
    return int(text)


def _page(timeline: Timeline) -> dict[str, Any]:
    return {
        "data": [shown_event(event) for event in timeline.events],
        "next_after": timeline.events[-1].version if timeline.has_more else None,
    }


def shown_event(event: Event) -> dict[str, Any]:
    """An event as bots see it."""
    return {
        "version": event.version,
        "type": event.type,
        "at": instant(event.at),
        "actor": _role_of(event.actor),
        "data": event.data,
    }


def _role_of(actor: str) -> str:
    """Bots learn what kind of actor it was, not the names of our machines and people."""
    return {"bot": "bot", "cli": "operator"}.get(actor.partition(":")[0], "service")


def _stream_answer(door: Door, client: str, name: UUID, first: Timeline, after: int, read: Read) -> flask.Response:
    if first.has_ended and not first.events:
        # A browser that is told this does not come again.
        return flask.Response(status=204)
    seat = None if flask.request.method == "HEAD" else door.waiting.take_seat(client)
    answer = flask.Response(_stream(seat, name, first, after, read), content_type=f"{_STREAM}; charset=utf-8")
    if seat is not None:
        # The stream leaves its seat when it ends, but one that nobody began to read never ends.
        answer.call_on_close(seat.leave)
    # A gateway that gathers an answer before it passes it on would hold every event back.
    answer.headers["X-Accel-Buffering"] = "no"
    return answer


def _stream(seat: Seat | None, name: UUID, first: Timeline, after: int, read: Read) -> Iterator[str]:
    """The events as they happen; without a seat only those that did."""
    try:
        yield f"retry: {_AGAIN_LATER_MS if seat is None else _AGAIN_MS}\n\n"
        yield from _events(seat, name, first, after, read)
    finally:
        if seat is not None:
            seat.leave()


def _events(seat: Seat | None, name: UUID, first: Timeline, after: int, read: Read) -> Iterator[str]:
    ends = Deadline.after(_STREAM_SECONDS)
    timeline: Timeline | None = first
    while timeline is not None:
        for event in timeline.events:
            yield _as_sent(event)
            after = event.version
        if not timeline.has_more:
            if timeline.has_ended or seat is None:
                return
            news = seat.wait(name, _has_more_than(after), min(_COMMENT_SECONDS, ends.remaining()))
            if seat.must_leave or ends.has_passed:
                return
            if news is None:
                yield ": nothing yet\n\n"
        try:
            timeline = read(after)
        except DatabaseUnavailable:
            # The listener comes again and says what it had last.
            return


def _has_more_than(version: int) -> Callable[[Glance], bool]:
    return lambda glance: glance.version > version or glance.has_ended


def _as_sent(event: Event) -> str:
    data = json.dumps(shown_event(event), separators=(",", ":"), allow_nan=False)
    return f"id: {event.version}\nevent: {event.type}\ndata: {data}\n\n"


class EventAnswer(BaseModel):
    """Something that happened to a request."""

    version: int = Field(description="Counts the events of a request, from 1.")
    type: EventType
    at: datetime
    actor: Literal["bot", "operator", "service"]
    data: Mapping[str, Any]


class TimelineAnswer(BaseModel):
    """Events in their order."""

    data: list[EventAnswer]
    next_after: int | None = Field(description="Pass it as `after` for the rest; null when there is none.")


OPERATIONS = (
    Operation(
        method="GET",
        path="/assistance/<uuid:request_id>/events",
        name="events",
        group="Following",
        scope=Scope.READ,
        summary="See what happened to a request",
        description="With `Accept: text/event-stream` the answer is a stream of server-sent events that goes on until "
        "the request has ended, or for five minutes; the `id` of each event is its version, and `Last-Event-ID` "
        "continues after it. 204 means that nothing more will come.",
        python='for event in client.events(accepted.id):\n    print(event["version"], event["type"])',
        parameters=(
            REQUEST_ID,
            Parameter(name="after", description="Only events with a higher version.", schema=_VERSION.description()),
            Parameter(
                name="Last-Event-ID",
                place="header",
                description="The same, as browsers send it.",
                schema=_VERSION.description(),
            ),
        ),
        answers=(
            Answer(
                http_status=200,
                description="The events.",
                model=TimelineAnswer,
                example={
                    "data": [
                        {
                            "version": 1,
                            "type": "assistance.accepted",
                            "at": "2026-03-04T14:02:00.000000Z",
                            "actor": "bot",
                            "data": {},
                        }
                    ],
                    "next_after": None,
                },
            ),
            Answer(
                http_status=200,
                description="The events as they happen.",
                media_type=_STREAM,
                headers=(Header(name="X-Accel-Buffering", description="For a gateway.", always=False),),
            ),
            Answer(http_status=204, description="Nothing more will come (streams only).", media_type=None),
        ),
        problems=(INVALID_PARAMETER,),
    ),
)
