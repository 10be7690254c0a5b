"""`/ingest/<source>`: the door for webhooks of others, who prove with a signature who they are."""

from __future__ import annotations

import re
from typing import Any

import flask
from pydantic import BaseModel, Field

from assistance.api.answers import json_answer
from assistance.api.door import Door
from assistance.api.operations import REQUEST_ID, SELF, Answer, Operation, Parameter, SelfLink
from assistance.api.parsing import read_bytes
from assistance.api.problem_types import (
    BAD_REQUEST,
    BODY_TOO_LARGE,
    BODY_TRUNCATED,
    COMMIT_UNKNOWN,
    LENGTH_REQUIRED,
    OUTBOX_FULL,
    QUOTA_EXCEEDED,
    SIGNATURE_REFUSED,
    STORAGE_UNAVAILABLE,
)
from assistance.api.problems import Problem
from assistance.domain.source import Scheme
from assistance.runtime.clock import Deadline, unix_time
from assistance.runtime.metrics import signature_refused
from assistance.sources.receive import Reception, Status
from assistance.sources.source import Source

_CHALLENGE = re.compile(r"[0-9]{1,20}")
_TEXT = "text/plain; charset=utf-8"


def add_routes(app: flask.Flask, door: Door) -> None:
    """Serve signed sources, and the calls by which their senders ask whether the door is open."""

    @app.post("/ingest/<source>")
    def ingest(source: str) -> flask.Response:
        found = _find(door, source)
        body = read_bytes(flask.request)
        headers = {name.lower(): value for name, value in flask.request.headers.items()}
        if found is None or not found.sent(headers, body, int(unix_time())):
            _count_refusal(found)
            raise Problem(SIGNATURE_REFUSED, "Nothing shows that this message comes from where it should.")
        assert door.sources is not None
        reception = door.sources.receive(found, headers, body, Deadline.after(door.deadline_seconds))
        return _answer(reception, found.settings.scheme)

    @app.get("/ingest/<source>")
    def confirm(source: str) -> flask.Response:
        found = _find(door, source)
        if found is None or not found.knows(_only_value("hub.verify_token")):
            _count_refusal(found)
            return flask.Response("", status=403, content_type=_TEXT)
        challenge = _only_value("hub.challenge")
        if _only_value("hub.mode") != "subscribe" or not _CHALLENGE.fullmatch(challenge):
            raise Problem(BAD_REQUEST, "Send hub.mode=subscribe, and a hub.challenge of 1 to 20 digits.")
        return flask.Response(challenge, content_type=_TEXT)


def _find(door: Door, name: str) -> Source | None:
    """The source; whoever cannot prove who he is is not told whether there is one."""
    return door.sources.find(name) if door.sources else None


def _count_refusal(source: Source | None) -> None:
    signature_refused.labels(source.name if source else "").inc()


def _only_value(name: str) -> str:
    try:
        values = flask.request.args.getlist(name)
    except UnicodeDecodeError:  # bytes that no URL holds
        return ""
    return values[0] if len(values) == 1 else ""


def _answer(reception: Reception, scheme: Scheme) -> flask.Response:
    if reception.status is Status.CHALLENGED:
        return flask.Response(reception.challenge, content_type=_TEXT)
    body: dict[str, Any] = {"status": reception.status.value}
    if reception.request_id is not None:
        body |= {
            "id": str(reception.request_id),
            "ref": reception.ref,
            "links": {"self": f"/assistance/{reception.request_id}"},
        }
    # Slack takes 200 only, and shows this text to whoever typed a command.
    if scheme is Scheme.SLACK and reception.ref is not None:
        body["text"] = f"Passed on as {reception.ref}."
    return json_answer(body, http_status=200 if scheme is Scheme.SLACK else 202)


class IngestAnswer(BaseModel):
    """What became of a message; a repeat of it gets the same answer."""

    status: Status = Field(
        description="`accepted`: it is a request. `ignored`: its source wants no such message. `unmappable`: no "
        "request could be made of it, and it is kept as a dead letter. Repeating it changes nothing in each case."
    )
    id: str | None = Field(default=None, description="The id of the request, if there is one.")
    ref: str | None = Field(default=None, description="The short name that people see.")
    links: SelfLink | None = None
    text: str | None = Field(default=None, description="For Slack, which shows it to whoever typed a command.")


_SOURCE = Parameter(
    name="source",
    place="path",
    description="The name of the source in the operator's file.",
    schema={"type": "string", "pattern": "^[a-z][a-z0-9-]{0,39}$"},
    example="github",
)
_SIGNED = r"""body='{"action": "opened"}'
signature=$(printf '%s' "$body" | openssl dgst -sha256 -hmac "$SOURCE_SECRET" -r | cut -d ' ' -f 1)
curl "$ASSISTANCE_URL/ingest/github" \
  -d "$body" \
  -H "X-Hub-Signature-256: sha256=$signature" \
  -H 'Content-Type: application/json'"""
_EXAMPLE = {"status": "accepted", "id": REQUEST_ID.example, "ref": "A-7F3K9Q", "links": {"self": SELF}}
OPERATIONS = (
    Operation(
        method="POST",
        path="/ingest/<source>",
        name="ingest",
        group="Signed sources",
        summary="Take in the webhook of another service",
        description="The body is whatever the service sends; it is signed as the operator's file says for this source "
        "(Standard Webhooks, `X-Hub-Signature-256`, or Slack), and needs no API key.",
        parameters=(_SOURCE,),
        shell=_SIGNED,
        answers=(
            Answer(http_status=202, description="It was taken in.", model=IngestAnswer, example=_EXAMPLE),
            Answer(http_status=200, description="The same, for Slack.", model=IngestAnswer),
            Answer(http_status=200, description="Slack's challenge.", media_type="text/plain"),
        ),
        problems=(
            SIGNATURE_REFUSED,
            BODY_TRUNCATED,
            LENGTH_REQUIRED,
            BODY_TOO_LARGE,
            OUTBOX_FULL,
            QUOTA_EXCEEDED,
            STORAGE_UNAVAILABLE,
            COMMIT_UNKNOWN,
        ),
    ),
    Operation(
        method="GET",
        path="/ingest/<source>",
        name="confirm_source",
        group="Signed sources",
        summary="Confirm a webhook to Meta",
        parameters=(
            _SOURCE,
            Parameter(name="hub.mode", description="`subscribe`.", curl="subscribe"),
            Parameter(name="hub.challenge", description="1 to 20 digits.", curl="42"),
            Parameter(
                name="hub.verify_token",
                description="The token that the operator gave to the sender.",
                curl="$VERIFY_TOKEN",
            ),
        ),
        answers=(
            Answer(http_status=200, description="The challenge.", media_type="text/plain"),
            Answer(http_status=403, description="The token is not the one; no body.", media_type=None),
        ),
    ),
)
