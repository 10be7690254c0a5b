"""What a bot does with its request afterwards: `POST /assistance/<id>/messages` and `POST /assistance/<id>/cancel`."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import flask
from pydantic import BaseModel, ConfigDict, Field

from assistance.api.answers import json_answer
from assistance.api.callers import needs
from assistance.api.door import Door
from assistance.api.idempotency import key_for
from assistance.api.intake import IDEMPOTENCY_KEY
from assistance.api.observing import request_id as logged_id
from assistance.api.operations import REQUEST_ID, SELF, Answer, Header, Links, Operation
from assistance.api.parsing import announces_nothing, read_json
from assistance.api.problem_types import (
    COMMIT_UNKNOWN,
    IDEMPOTENCY_KEY_INVALID,
    IDEMPOTENCY_KEY_REUSED,
    NOT_CANCELLABLE,
    NOT_FOUND,
    NOT_OPEN,
)
from assistance.api.problems import Problem
from assistance.api.schema.flat import parse_flat
from assistance.api.schema.kinds import Text
from assistance.api.status import EXAMPLE, ListedRequest, links_of, shown_request
from assistance.domain.caller import Caller, Scope
from assistance.domain.operator import Actor
from assistance.domain.request import Author, RequestStatus
from assistance.runtime.clock import Deadline

MAX_TEXT = 4_000
MAX_REASON = 500


class MessageBody(BaseModel):
    """What is added to a request."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, populate_by_name=True)

    text: Annotated[str, Text(MAX_TEXT, lines=True)] = Field(
        description="What is to be added, as plain text.", examples=["The customer asks again."]
    )
    author: Author = Field(default=Author.BOT, alias="from", description="Whose words these are.")


class CancelBody(BaseModel):
    """Why a request is not needed any more."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    reason: Annotated[str, Text(MAX_REASON)] | None = Field(
        default=None, description="Told to whoever has read the request already.", examples=["The customer found it."]
    )


class AddedAnswer(BaseModel):
    """A message that is on disk."""

    id: str
    ref: str
    topic: str
    status: RequestStatus
    event_version: int = Field(description="The number of the message among the events of the request.")
    links: Links


def add_routes(app: flask.Flask, door: Door) -> None:
    """Serve what is done to requests that exist."""

    @app.post("/assistance/<uuid:request_id>/messages")
    def add_message(request_id: UUID) -> flask.Response:
        caller = needs(Scope.SUBMIT)
        body = read_json(flask.request)
        header = flask.request.headers.get("Idempotency-Key")
        key = None if header is None else key_for(header, "POST", f"/assistance/{request_id}/messages", body)
        message = parse_flat(body, MessageBody)
        deadline = Deadline.after(door.deadline_seconds)
        added = door.acts.add(request_id, message.text, message.author, key, deadline, client=caller.sees)
        if not added:
            raise _no_such_request()
        answer = json_answer(
            {
                "id": str(added.id),
                "ref": added.ref,
                "topic": added.topic,
                "status": added.status,
                "event_version": added.event_version,
                "links": links_of(added.id),
            },
            http_status=202,
        )
        answer.headers["Location"] = links_of(added.id)["self"]
        if added.replayed:
            answer.headers["Idempotency-Replayed"] = "true"
        return answer

    @app.post("/assistance/<uuid:request_id>/cancel")
    def cancel(request_id: UUID) -> flask.Response:
        caller = needs(Scope.SUBMIT)
        body = CancelBody() if announces_nothing(flask.request) else parse_flat(read_json(flask.request), CancelBody)
        deadline = Deadline.after(door.deadline_seconds)
        operator = Actor(name=caller.client, via="api", request_id=logged_id()) if _acts_for_others(caller) else None
        if not door.acts.cancel(request_id, body.reason, deadline, client=caller.sees, operator=operator):
            raise _no_such_request()
        found = door.find(request_id, deadline, client=caller.sees)
        if found is None:
            raise _no_such_request()
        return json_answer(shown_request(found))


def _acts_for_others(caller: Caller) -> bool:
    """Whether a caller may act on requests that others made, and is somebody."""
    return caller.may(Scope.OPERATE) and bool(caller.client)


def _no_such_request() -> Problem:
    return Problem(NOT_FOUND, "No request has this id.")


OPERATIONS = (
    Operation(
        method="POST",
        path="/assistance/<uuid:request_id>/messages",
        name="add_message",
        group="Asking",
        scope=Scope.SUBMIT,
        summary="Add to a request",
        description="People are told where they were told of the request: as a reply in the Slack thread, as an answer "
        "to the mail. A request that had ended is open again until they were.",
        parameters=(REQUEST_ID, IDEMPOTENCY_KEY),
        body=MessageBody,
        example={"text": "The customer asks again.", "from": "bot"},
        python='client.follow_up(accepted.id, "The customer asks again.")',
        answers=(
            Answer(
                http_status=202,
                description="The message is on disk.",
                model=AddedAnswer,
                headers=(
                    Header(name="Location", description="Where to look at the request."),
                    Header(
                        name="Idempotency-Replayed",
                        description="`true` when an earlier call with the same key stored the message.",
                        always=False,
                    ),
                ),
                example={
                    "id": REQUEST_ID.example,
                    "ref": "A-7F3K9Q",
                    "topic": "sales",
                    "status": "delivered",
                    "event_version": 3,
                    "links": {"self": SELF, "events": f"{SELF}/events"},
                },
            ),
        ),
        problems=(IDEMPOTENCY_KEY_INVALID, IDEMPOTENCY_KEY_REUSED, NOT_OPEN, COMMIT_UNKNOWN),
    ),
    Operation(
        method="POST",
        path="/assistance/<uuid:request_id>/cancel",
        name="cancel",
        group="Asking",
        scope=Scope.SUBMIT,
        summary="Cancel a request",
        description="Whoever was not told yet is not told any more; whoever read it is told that it is not needed. "
        "What is being sent at this moment may still arrive. A second time changes nothing.",
        parameters=(REQUEST_ID,),
        body=CancelBody,
        body_required=False,
        example={"reason": "The customer found it."},
        python='client.cancel(accepted.id, "The customer found it.")',
        answers=(
            Answer(
                http_status=200,
                description="The request is cancelled.",
                model=ListedRequest,
                example={**{name: EXAMPLE[name] for name in ListedRequest.model_fields}, "status": "cancelled"},
            ),
        ),
        problems=(NOT_CANCELLABLE, COMMIT_UNKNOWN),
    ),
)
