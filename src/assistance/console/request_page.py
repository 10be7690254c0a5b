"""One request: what was asked, everything that happened in one timeline, its messages, and what can be done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import flask

from assistance.configuration import Configuration
from assistance.console import curl
from assistance.console.desk import Desk
from assistance.console.message import Message, message_of
from assistance.console.request_acts import Possible, possible, read_request
from assistance.console.requests_query import LIST, filter_query, wanted_filter, with_query
from assistance.console.showing import go_to, show
from assistance.console.signing_in import the_operator
from assistance.console.timeline import in_short, lines_of
from assistance.domain.delivery import Purpose
from assistance.domain.operator import Role
from assistance.search.place import Place, Towards
from assistance.search.requests import find_requests
from assistance.status.story import Story

_REFRESH_SECONDS = 5
_Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """A delivery with its message."""

    row: _Row
    facts: tuple[tuple[str, str], ...]
    message: Message


def add_routes(blueprint: flask.Blueprint, desk: Desk) -> None:
    """`/console/requests/<ref or id>` and the acts below it."""

    @blueprint.get("/requests/<name>")
    def request_page(name: str) -> flask.Response:
        wanted_filter()  # or the way back to the list would lead to a mistake
        query = filter_query()
        story = read_request(desk, name)
        configuration = desk.configuration()
        request = story.request
        may_act = the_operator().role.holds(Role.OPERATOR)
        return show(
            "request.html",
            title=f"{request['ref']} {request['status']}",
            asked=request,
            about=tuple(_about(request)),
            more=tuple(_more(request)),
            lines=lines_of(story),
            is_cut=story.is_cut,
            deliveries=[_told(story, row, configuration) for row in story.deliveries],
            acts=possible(story, configuration) if may_act else Possible(),
            curl=curl.curl_of(request, flask.request.host_url),
            left_out=curl.LEFT_OUT,
            **({} if request["ended_at"] else {"refresh_seconds": _REFRESH_SECONDS}),
            list_url=with_query(LIST, query),
            newer_url=with_query(f"{LIST}/{request['ref']}/newer", query),
            older_url=with_query(f"{LIST}/{request['ref']}/older", query),
            act_url=lambda act: with_query(f"{LIST}/{request['ref']}/{act}", query),
        )

    @blueprint.get("/requests/<name>/<any(newer, older):direction>")
    def neighbour(name: str, direction: str) -> flask.Response:
        wanted, query = wanted_filter(), filter_query()
        request = read_request(desk, name).request
        place = Place(created_at=request["created_at"], id=UUID(request["id"]), towards=Towards(direction))
        with desk.database.look(desk.deadline()) as connection:
            found = find_requests(connection, wanted, limit=1, place=place)
        if found.rows:
            return go_to(with_query(f"{LIST}/{found.rows[0].ref}", query))
        return go_to(with_query(f"{LIST}/{request['ref']}", query), f"No {direction} request matches.")


def _told(story: Story, row: _Row, configuration: Configuration) -> Told:
    return Told(row=row, facts=tuple(_facts(row)), message=message_of(story, row, configuration))


def _facts(row: _Row) -> Iterator[tuple[str, str]]:
    if row["purpose"] != Purpose.NOTIFY:
        yield "tells", "what was added" if row["purpose"] == Purpose.FOLLOW_UP else "the bot, as a callback"
    if row["step"]:
        yield "step", str(row["step"])
    if row["series"] > 1:
        yield "series", str(row["series"])
    yield "tries", str(row["attempt"])
    if row["receipt"] is not None:
        yield "receipt", in_short(row["receipt"])
    if row["last_error_class"] is not None:
        told = [row[f"last_error_{part}"] for part in ("class", "code", "detail")]
        yield "last error", ": ".join(part for part in told if part)


def _about(request: _Row) -> Iterator[tuple[str, str]]:
    yield "id", request["id"]
    yield "client", request["client"] or "a caller without a key"
    yield "priority", request["priority"]
    for name in ("customer_id", "conversation_id"):
        if request[name] is not None:
            yield name.removesuffix("_id"), request[name]


def _more(request: _Row) -> Iterator[tuple[str, str]]:
    for group in ("customer", "conversation", "bot", "metadata"):
        for name, value in request[group].items():
            yield f"{group} {name}", in_short(value)
    for attachment in request["attachments"]:
        yield "attachment", in_short(attachment)
