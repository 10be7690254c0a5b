"""`GET /assistance/<id>`: where a request is, with an `ETag` that changes whenever anything in the answer does."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import flask
from pydantic import BaseModel, Field

from assistance.api.answers import instant, json_answer
from assistance.api.callers import needs
from assistance.api.door import Door
from assistance.api.operations import REQUEST_ID, SELF, Answer, Header, Links, Operation, Parameter
from assistance.api.problem_types import NOT_FOUND
from assistance.api.problems import Problem
from assistance.api.waiting import PREFER, PREFERENCE_APPLIED, is_settled, wait_as_preferred
from assistance.domain.caller import Scope
from assistance.domain.delivery import DeliveryState, Purpose
from assistance.domain.errors import DatabaseUnavailable
from assistance.domain.request import Handling, Priority, RequestStatus
from assistance.runtime.clock import Deadline
from assistance.status.watching import Glance


def add_routes(app: flask.Flask, door: Door) -> None:
    """Serve the state of single requests."""

    @app.get("/assistance/<uuid:request_id>")
    def show(request_id: UUID) -> flask.Response:
        caller = needs(Scope.READ)

        def look() -> Mapping[str, Any]:
            found = door.find(request_id, Deadline.after(door.deadline_seconds), client=caller.sees)
            if not found:
                raise Problem(NOT_FOUND, "No request has this id.")
            return found

        found = look()
        answer = _tagged_answer(found)
        waited = wait_as_preferred(
            door.waiting, caller.client, found["id"], _glance_of(found), _news_after(found, answer)
        )
        if waited.time_passed:
            # While the database is away, what is known is the answer.
            with contextlib.suppress(DatabaseUnavailable):
                answer = _tagged_answer(look())
        answer.headers.update(waited.headers)
        return _empty_if_known(answer)


def _tagged_answer(found: Mapping[str, Any]) -> flask.Response:
    deliveries = [_shown_delivery(delivery) for delivery in found["deliveries"]]
    answer = json_answer({**shown_request(found), "deliveries": deliveries})
    answer.set_etag(hashlib.sha256(answer.get_data()).hexdigest()[:32])
    return answer


def _is_known(answer: flask.Response) -> bool:
    return flask.request.if_none_match.contains_weak(answer.get_etag()[0] or "")


def _empty_if_known(answer: flask.Response) -> flask.Response:
    if _is_known(answer):
        answer.status_code = 304
        answer.set_data(b"")
        del answer.headers["Content-Type"], answer.headers["Content-Length"]
    return answer


def _glance_of(found: Mapping[str, Any]) -> Glance:
    status = found["handling"] or found["status"]
    return Glance(version=found["state_version"], status=status, has_ended=found["ended_at"] is not None)


def _news_after(found: Mapping[str, Any], answer: flask.Response) -> Callable[[Glance], bool]:
    """What is worth waking a caller for who wants to wait, given what he knows."""
    if flask.request.headers.get("If-None-Match") is None:
        return is_settled
    if not _is_known(answer):
        return lambda _glance: True
    known = _glance_of(found)
    return lambda glance: glance.has_ended or glance != known


def shown_request(request: Mapping[str, Any]) -> dict[str, Any]:
    """A request as bots see it, without its deliveries."""
    return {
        "id": str(request["id"]),
        "ref": request["ref"],
        "topic": request["topic"],
        "title": request["title"],
        "priority": request["priority"],
        "customer_id": request["customer_id"],
        "dedup_key": request["dedup_key"],
        "metadata": request["metadata"],
        # One word for simple bots: what people did, as soon as they did something, else where the telling stands.
        "status": request["handling"] or request["status"],
        "state_version": request["state_version"],
        "not_before": instant(request["not_before"]),
        "expires_at": instant(request["expires_at"]),
        "created_at": instant(request["created_at"]),
        "updated_at": instant(request["updated_at"]),
        "ended_at": instant(request["ended_at"]),
        "links": links_of(request["id"]),
    }


def links_of(request_id: UUID) -> dict[str, str]:
    """Where to go from a request."""
    return {"self": f"/assistance/{request_id}", "events": f"/assistance/{request_id}/events"}


def _shown_delivery(delivery: Mapping[str, Any]) -> dict[str, Any]:
    error = delivery["last_error"]
    return {
        "purpose": delivery["purpose"],
        "event_version": delivery["event_version"],
        "channel": delivery["channel"],
        "step": delivery["step"],
        "state": delivery["state"],
        "attempts": delivery["attempts"],
        "next_attempt_at": instant(delivery["next_attempt_at"]),
        "held": delivery["held"],
        "receipt": delivery["receipt"],
        "last_error": error and {name: error[name] for name in ("class", "code", "detail")},
    }


#: What the word means that a request is told with.
STATUS = (
    "`scheduled`: waits for its `not_before`. `accepted`: being told to people. `delivered`: people were told. "
    "`undeliverable`: nobody could be told; an operator can replay it. `cancelled`, `expired`: called off before "
    "people were told. `acknowledged`, `resolved`: what people did."
)


class LastError(BaseModel):
    """Why the newest try had no success."""

    class_: str = Field(alias="class")
    code: str | None
    detail: str | None


class DeliveryAnswer(BaseModel):
    """The telling of one event of a request on one channel."""

    purpose: Purpose = Field(description="`notify` tells the request itself, `follow_up` what came after it.")
    event_version: int = Field(description="The event that it tells; 1 is the request itself.")
    channel: str
    step: int = Field(description="0 for the channels that are told first, higher for their fallback.")
    state: DeliveryState
    attempts: int
    next_attempt_at: datetime | None
    held: bool = Field(description="Whether it waits until an operator says if it arrived.")
    receipt: dict[str, Any] | None = Field(description="The provider's proof that it took the message.")
    last_error: LastError | None


class ListedRequest(BaseModel):
    """A request: what it came with, so that a bot finds its way, and where it is."""

    id: str
    ref: str = Field(description="The short name that people see.")
    topic: str
    title: str | None
    priority: Priority
    customer_id: str | None = Field(description="The `customer.id` that it came with.")
    dedup_key: str | None
    metadata: dict[str, Any]
    status: RequestStatus | Handling = Field(description=STATUS)
    state_version: int = Field(description="The version of its newest event.")
    not_before: datetime | None
    expires_at: datetime | None
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None = Field(description="When nothing was left to do.")
    links: Links


class RequestAnswer(ListedRequest):
    """Where a request is, on every channel."""

    deliveries: list[DeliveryAnswer]


EXAMPLE = {
    "id": REQUEST_ID.example,
    "ref": "A-7F3K9Q",
    "topic": "sales",
    "title": None,
    "priority": "normal",
    "customer_id": None,
    "dedup_key": None,
    "metadata": {},
    "status": "delivered",
    "state_version": 2,
    "not_before": None,
    "expires_at": None,
    "created_at": "2026-03-04T14:02:00.000000Z",
    "updated_at": "2026-03-04T14:02:00.048000Z",
    "ended_at": "2026-03-04T14:02:00.048000Z",
    "deliveries": [
        {
            "purpose": "notify",
            "event_version": 1,
            "channel": "sales-team",
            "step": 0,
            "state": "delivered",
            "attempts": 1,
            "next_attempt_at": None,
            "held": False,
            "receipt": {"channel": "C024BE91L", "ts": "1772632920.041000"},
            "last_error": None,
        }
    ],
    "links": {"self": SELF, "events": f"{SELF}/events"},
}
_HEADERS = (
    Header(name="ETag", description="Changes whenever anything in the answer does."),
    PREFERENCE_APPLIED,
    Header(name="Retry-After", description="In seconds, when too many calls wait already.", always=False),
)
OPERATIONS = (
    Operation(
        method="GET",
        path="/assistance/<uuid:request_id>",
        name="look",
        group="Following",
        scope=Scope.READ,
        summary="See where a request is",
        parameters=(
            REQUEST_ID,
            Parameter(
                name="If-None-Match",
                place="header",
                description="The `ETag` of an earlier answer: it is not sent again as long as nothing changed.",
            ),
            PREFER,
        ),
        python='print(client.look(accepted.id)["status"])',
        answers=(
            Answer(http_status=200, description="The request.", model=RequestAnswer, headers=_HEADERS, example=EXAMPLE),
            Answer(http_status=304, description="Nothing changed.", media_type=None, headers=_HEADERS),
        ),
    ),
)
