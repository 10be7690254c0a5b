"""`POST /assistance`: parse, hand over, and answer 202 only once the flow says that it is on disk."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import flask
from pydantic import BaseModel, Field

from assistance.api.answers import instant, json_answer
from assistance.api.callers import needs
from assistance.api.door import Door
from assistance.api.idempotency import HEADER_SCHEMA, key_for
from assistance.api.operations import REQUEST_ID, SELF, Answer, Header, Links, Operation, Parameter
from assistance.api.parameters import Choice, read_query
from assistance.api.parsing import read_json
from assistance.api.plans import PLAN_EXAMPLE, PlanAnswer, dry_run_answer
from assistance.api.problem_types import (
    COMMIT_UNKNOWN,
    IDEMPOTENCY_KEY_INVALID,
    IDEMPOTENCY_KEY_REUSED,
    INVALID_PARAMETER,
    OUTBOX_FULL,
    QUOTA_EXCEEDED,
    UNKNOWN_TOPIC,
)
from assistance.api.schema import SubmissionBody, parse_submission
from assistance.api.status import STATUS, links_of
from assistance.api.waiting import PREFER, PREFERENCE_APPLIED, is_settled, wait_as_preferred
from assistance.domain.answers import Accepted
from assistance.domain.caller import Scope
from assistance.domain.event import FIRST_EVENT
from assistance.domain.request import Handling, RequestStatus
from assistance.runtime.clock import Deadline
from assistance.status.watching import Glance

#: When a caller who wants to know more should ask for the first time.
_POLL_AFTER_SECONDS = 2
_DRY_RUN = Choice(("true", "false"))


def add_routes(app: flask.Flask, door: Door) -> None:
    """Serve submissions."""

    @app.post("/assistance")
    def submit() -> flask.Response:
        caller = needs(Scope.SUBMIT)
        is_dry_run = read_query({"dry_run": _DRY_RUN}).get("dry_run") == "true"
        body = read_json(flask.request)
        header = flask.request.headers.get("Idempotency-Key")
        key = None if header is None else key_for(header, "POST", "/assistance", body)
        submission = parse_submission(body, door.topics())
        if is_dry_run:
            return dry_run_answer(door, submission, caller.client)
        # The deadline starts only here: a slow upload is the caller's time, not the database's.
        accepted = door.submit(submission, key, Deadline.after(door.deadline_seconds), client=caller.client)
        now = Glance(version=accepted.event_version, status=accepted.status, has_ended=False)
        waited = wait_as_preferred(door.waiting, caller.client, accepted.id, now, is_settled)
        http_status, shown = shown_acceptance(accepted, waited.glance.status)
        answer = json_answer(shown, http_status=http_status)
        answer.headers["Location"] = f"/assistance/{accepted.id}"
        answer.headers["Retry-After"] = str(_POLL_AFTER_SECONDS)
        if accepted.replayed:
            answer.headers["Idempotency-Replayed"] = "true"
        answer.headers.update(waited.headers)
        return answer


def shown_acceptance(accepted: Accepted, status: str) -> tuple[int, dict[str, Any]]:
    """What a bot is told of its request that is on disk: the HTTP status, and the body with the newest `status`."""
    body: dict[str, Any] = {
        "id": str(accepted.id),
        "ref": accepted.ref,
        "topic": accepted.topic,
        "status": status,
        "created_at": instant(accepted.created_at),
        "links": links_of(accepted.id),
    }
    if accepted.event_version == FIRST_EVENT:
        return 202, body
    return 200, {**body, "joined": True, "event_version": accepted.event_version}


class AcceptedAnswer(BaseModel):
    """A request that is on disk."""

    id: str
    ref: str
    topic: str
    status: RequestStatus | Handling = Field(description=STATUS)
    created_at: datetime
    links: Links


class JoinedAnswer(AcceptedAnswer):
    """A request that was open already, with what was added to it."""

    joined: Literal[True]
    event_version: int = Field(description="The number of what was added among the events of the request.")


#: What makes a repeat harmless.
IDEMPOTENCY_KEY = Parameter(
    name="Idempotency-Key",
    place="header",
    description="A name of yours for this request, such as a UUID, of up to 255 characters, in quotes or bare. Repeat "
    "a call with the same key and the same body, and nobody is told twice. Remembered for seven days.",
    schema=HEADER_SCHEMA,
    example="8e03978e-40d5-43e8-bc93-6894a57f9324",
    curl="$(uuidgen)",
)
_HEADERS = (
    Header(name="Location", description="Where to look at the request."),
    Header(name="Retry-After", description="Seconds after which a first look is worth it."),
    Header(
        name="Idempotency-Replayed",
        description="`true` when an earlier call with the same key stored it.",
        always=False,
    ),
    PREFERENCE_APPLIED,
)
ACCEPTED_EXAMPLE = {
    "id": REQUEST_ID.example,
    "ref": "A-7F3K9Q",
    "topic": "sales",
    "status": "accepted",
    "created_at": "2026-03-04T14:02:00.000000Z",
    "links": {"self": SELF, "events": f"{SELF}/events"},
}
OPERATIONS = (
    Operation(
        method="POST",
        path="/assistance",
        name="ask",
        group="Asking",
        scope=Scope.SUBMIT,
        summary="Ask for assistance",
        description="The answer comes once the request is on disk. From then on it is told, or ends as a dead letter.",
        parameters=(
            IDEMPOTENCY_KEY,
            PREFER,
            Parameter(
                name="dry_run",
                description="`true`: check everything, store nothing and use no key up; the answer is the plan.",
                schema=_DRY_RUN.description(),
            ),
        ),
        body=SubmissionBody,
        example={"topic": "sales", "description": "A customer wants an offer for 40 seats."},
        python='accepted = client.ask("sales", "A customer wants an offer for 40 seats.")\n'
        "print(accepted.ref, accepted.url)",
        answers=(
            Answer(
                http_status=202,
                description="The request is on disk.",
                model=AcceptedAnswer,
                names="request_id",
                headers=_HEADERS,
                example=ACCEPTED_EXAMPLE,
            ),
            Answer(
                http_status=200,
                description="It was added to the open request with the same `dedup_key`.",
                model=JoinedAnswer,
                names="request_id",
                headers=_HEADERS,
                example={**ACCEPTED_EXAMPLE, "joined": True, "event_version": 2},
            ),
            Answer(
                http_status=200,
                description="For a dry run: what would happen.",
                model=PlanAnswer,
                example=PLAN_EXAMPLE,
            ),
        ),
        problems=(
            INVALID_PARAMETER,
            IDEMPOTENCY_KEY_INVALID,
            IDEMPOTENCY_KEY_REUSED,
            UNKNOWN_TOPIC,
            OUTBOX_FULL,
            QUOTA_EXCEEDED,
            COMMIT_UNKNOWN,
        ),
    ),
)
