"""`GET /assistance`: the caller's requests, newest first, page by page."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import flask
from pydantic import BaseModel, Field
from pydantic_core import PydanticCustomError

from assistance.api.answers import json_answer
from assistance.api.callers import needs
from assistance.api.door import Door
from assistance.api.operations import Answer, Header, Operation, Parameter
from assistance.api.parameters import Choice, Kind, WholeNumber, read_query
from assistance.api.problem_types import INVALID_PARAMETER
from assistance.api.schema.kinds import Instant, Text, Topic
from assistance.api.status import ListedRequest, shown_request
from assistance.domain.caller import Scope
from assistance.domain.request import Handling, RequestStatus
from assistance.runtime.clock import Deadline
from assistance.status.pages import Place, Wanted

_DEFAULT_LIMIT, _MOST = 50, 200
_CURSOR = re.compile(r"[A-Za-z0-9_-]{32}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place between two requests, in one word: 8 bytes of microseconds since 1970, 16 of the id, in base64url."""

    def check(self, text: str) -> Place:
        """The place."""
        try:
            if not _CURSOR.fullmatch(text):
                raise ValueError
            packed = base64.urlsafe_b64decode(text)
            created_at = _EPOCH + int.from_bytes(packed[:8]) * _MICROSECOND
            return Place(created_at=created_at, id=UUID(bytes=packed[8:]))
        except (ValueError, OverflowError) as error:
            raise PydanticCustomError("not-a-cursor", "has to be the next_cursor of an earlier answer") from error

    def description(self) -> dict[str, Any]:
        """Opaque to everybody else, but for its letters; these are those of the years up to 8000."""
        return {"type": "string", "pattern": "^A[A-Za-v][A-Za-z0-9_-]{30}$"}


def cursor_of(place: Place) -> str:
    """The word that `Cursor` reads."""
    microseconds = (place.created_at - _EPOCH) // _MICROSECOND
    return base64.urlsafe_b64encode(microseconds.to_bytes(8) + place.id.bytes).decode()


_KINDS: dict[str, Kind] = {
    "status": Choice((*RequestStatus, *Handling)),
    "topic": Topic(64),
    "customer": Text(255),
    "dedup_key": Text(255),
    "created_after": Instant(),
    "created_before": Instant(),
    "limit": WholeNumber(1, _MOST),
    "cursor": Cursor(),
}


def add_routes(app: flask.Flask, door: Door) -> None:
    """Serve lists."""

    @app.get("/assistance")
    def listing() -> flask.Response:
        caller = needs(Scope.READ)
        asked = read_query(_KINDS)
        wanted = Wanted(
            client=caller.sees,
            status=asked.get("status"),
            topic=asked.get("topic"),
            customer_id=asked.get("customer"),
            dedup_key=asked.get("dedup_key"),
            created_after=asked.get("created_after"),
            created_before=asked.get("created_before"),
            limit=asked.get("limit", _DEFAULT_LIMIT),
            behind=asked.get("cursor"),
        )
        page = door.reading.page(wanted, Deadline.after(door.deadline_seconds))
        cursor = page.next and cursor_of(page.next)
        answer = json_answer({"data": [shown_request(found) for found in page.requests], "next_cursor": cursor})
        if cursor is not None:
            query = urlencode({**flask.request.args, "cursor": cursor})
            answer.headers["Link"] = f'</assistance?{query}>; rel="next"'
        return answer


class ListAnswer(BaseModel):
    """A page of requests."""

    data: list[ListedRequest]
    next_cursor: str | None = Field(description="Pass it as `cursor` for the next page; null on the last one.")


_ABOUT = {
    "status": "Where they are now.",
    "topic": "What they are about.",
    "customer": "The `customer.id` that they came with.",
    "dedup_key": "The `dedup_key` that they came with.",
    "created_after": "Accepted later than this instant.",
    "created_before": "Accepted earlier than this instant.",
    "limit": f"How many at most; {_DEFAULT_LIMIT} unless it is said.",
    "cursor": "Where the page begins: the `next_cursor` of the one before. Leave the other parameters as they were.",
}
OPERATIONS = (
    Operation(
        method="GET",
        path="/assistance",
        name="list",
        group="Following",
        scope=Scope.READ,
        summary="List your requests",
        description="Newest first. A page stays as it is while new requests arrive.",
        python='for request in client.requests(status="accepted"):\n    print(request["ref"])',
        parameters=tuple(
            Parameter(name=name, description=_ABOUT[name], schema={"type": "string", **kind.description()})
            for name, kind in _KINDS.items()
        ),
        answers=(
            Answer(
                http_status=200,
                description="A page.",
                model=ListAnswer,
                headers=(Header(name="Link", description='The next page, as `rel="next"`.', always=False),),
            ),
        ),
        problems=(INVALID_PARAMETER,),
    ),
)
