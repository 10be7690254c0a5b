"""`/webhooks`: where a client wants to be called back when something happens to its requests."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import flask
from pydantic import BaseModel, Field

from assistance.api.answers import instant, json_answer
from assistance.api.callers import needs
from assistance.api.door import Door, Webhooks
from assistance.api.operations import Answer, Operation, Parameter
from assistance.api.parsing import read_json
from assistance.api.problems import (
    NOT_FOUND,
    TOO_MANY_WEBHOOKS,
    VALIDATION_FAILED,
    WEBHOOK_EXISTS,
    FieldError,
    Problem,
    shown,
)
from assistance.api.status import request_id_of
from assistance.configuration.webhooks import CALLED_BACK, event_types
from assistance.domain.caller import Scope
from assistance.runtime.clock import Deadline

_MEMBERS = ("url", "events")


def add_routes(app: flask.Flask, door: Door) -> None:
    """Serve the webhooks of the caller."""

    @app.post("/webhooks")
    def register() -> flask.Response:
        client = needs(Scope.SUBMIT).client
        url, events = _parse(read_json(flask.request))
        made = _desk(door).register(client, url, events, _deadline(door))
        return json_answer({**_shown(made), "secret": made["secret"]}, http_status=201)

    @app.get("/webhooks")
    def webhooks() -> flask.Response:
        client = needs(Scope.SUBMIT).client
        return json_answer({"webhooks": [_shown(webhook) for webhook in _desk(door).list(client, _deadline(door))]})

    @app.post("/webhooks/secret")
    def new_secret() -> flask.Response:
        client = needs(Scope.SUBMIT).client
        made = _desk(door).new_secret(client, _deadline(door))
        return json_answer({"secret": made["secret"], "previous_until": instant(made["previous_until"])})

    _add_single(app, door)


def _add_single(app: flask.Flask, door: Door) -> None:
    @app.delete("/webhooks/<webhook_id>")
    def remove(webhook_id: str) -> flask.Response:
        client = needs(Scope.SUBMIT).client
        if not _desk(door).remove(client, _id_of(webhook_id), _deadline(door)):
            raise _not_found()
        return flask.Response(status=204)

    @app.post("/webhooks/<webhook_id>/rotate")
    def rotate(webhook_id: str) -> flask.Response:
        client = needs(Scope.SUBMIT).client
        changed = _desk(door).rotate(client, _id_of(webhook_id), _deadline(door))
        if changed is None:
            raise _not_found()
        return json_answer({**_shown(changed), "secret": changed["secret"]})

    @app.post("/webhooks/<webhook_id>/test")
    def test(webhook_id: str) -> flask.Response:
        client = needs(Scope.SUBMIT).client
        result = _desk(door).test(client, _id_of(webhook_id), _deadline(door))
        if result is None:
            raise _not_found()
        return json_answer(dict(result))


def _deadline(door: Door) -> Deadline:
    return Deadline.after(door.deadline_seconds)


def _desk(door: Door) -> Webhooks:
    if door.webhooks is None:
        raise Problem(NOT_FOUND, "Nothing is served at this path.")
    return door.webhooks


def _id_of(text: str) -> UUID:
    found = request_id_of(text)
    if found is None:
        raise _not_found()
    return found


def _not_found() -> Problem:
    return Problem(NOT_FOUND, "No webhook has this id.")


def _parse(body: Any) -> tuple[str, tuple[str, ...] | None]:
    """The URL, and the types of events or none for all. Raises `Problem` with every mistake."""
    if not isinstance(body, dict):
        error = FieldError(pointer="", code="not-an-object", message="The body has to be a JSON object.")
        raise Problem(VALIDATION_FAILED, error.message, errors=[error])
    errors = [
        FieldError(pointer="", code="unknown-member", message=f"No member {shown(name)} is known.")
        for name in body
        if name not in _MEMBERS
    ]
    url, events = body.get("url"), body.get("events")
    if not isinstance(url, str):
        errors.append(FieldError(pointer="/url", code="not-a-string", message="The url has to be a string."))
    try:
        types = None if events is None else event_types(events)
    except ValueError:
        known = ", ".join(CALLED_BACK)
        message = f"The events have to be a list of one or more of {known}."
        errors.append(FieldError(pointer="/events", code="not-allowed", message=message))
    if errors or not isinstance(url, str):
        raise Problem(VALIDATION_FAILED, " ".join(error.message for error in errors[:3]), errors=errors[:20])
    return url, types


def _shown(webhook: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": str(webhook["id"]),
        "url": webhook["url"],
        "events": webhook["events"],
        "created_at": instant(webhook["created_at"]),
        "previous_until": instant(webhook["previous_until"]),
        "disabled_at": instant(webhook["disabled_at"]),
        "disabled_reason": webhook["disabled_reason"],
    }


class WebhookBody(BaseModel):
    """Where to be called back."""

    url: str = Field(
        description="An https URL on the open internet, on port 443, of 2,048 characters at most.",
        json_schema_extra={"format": "uri", "pattern": "^https://", "maxLength": 2_048},
    )
    events: list[str] | None = Field(
        default=None,
        description="The types of events that are sent; all of them when it is left out.",
        json_schema_extra={"items": {"enum": list(CALLED_BACK)}, "minItems": 1},
    )


class WebhookAnswer(BaseModel):
    """A webhook without its secret."""

    id: str
    url: str
    events: list[str] | None = Field(description="The types of events that are sent; none means all of them.")
    created_at: datetime
    previous_until: datetime | None = Field(description="Until when the secret before the current one signs as well.")
    disabled_at: datetime | None
    disabled_reason: str | None = Field(description="Why nothing is sent there any more.")


class NewWebhookAnswer(WebhookAnswer):
    """A webhook with its secret, which is shown this once."""

    secret: str = Field(description="The key of the signatures, in the form of Standard Webhooks.")


class WebhooksAnswer(BaseModel):
    """The caller's webhooks, the oldest first."""

    webhooks: list[WebhookAnswer]


class SecretAnswer(BaseModel):
    """The secret for the `callback_url` of requests, which is shown this once."""

    secret: str
    previous_until: datetime | None = Field(description="Until when the secret before it signs as well.")


class TestAnswer(BaseModel):
    """How a test went."""

    __test__ = False

    delivered: bool
    http_status: int | None = Field(description="What your server answered, if it did.")
    detail: str | None = Field(description="Why there was no answer.")


_WEBHOOK_ID = Parameter(
    name="webhook_id",
    place="path",
    description="The id from the answer to the registration.",
    schema={"type": "string", "format": "uuid"},
    example="01a1fc7e-4a11-7c02-9d7e-0b6a4f2f9a55",
)
_EXAMPLE = {
    "id": _WEBHOOK_ID.example,
    "url": "https://bot.example.com/callbacks",
    "events": None,
    "created_at": "2026-03-04T14:02:00.000000Z",
    "previous_until": None,
    "disabled_at": None,
    "disabled_reason": None,
}
_SECRET = {"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
_GROUP = "Callbacks"
OPERATIONS = (
    Operation(
        method="POST",
        path="/webhooks",
        name="register_webhook",
        group=_GROUP,
        scope=Scope.SUBMIT,
        summary="Be called back when something happens to your requests",
        body=WebhookBody,
        example={"url": "https://bot.example.com/callbacks"},
        answers=(
            Answer(
                http_status=201,
                description="The webhook, with the secret of its signatures.",
                model=NewWebhookAnswer,
                example={**_EXAMPLE, **_SECRET},
                names="webhook_id",
            ),
        ),
        problems=(WEBHOOK_EXISTS, TOO_MANY_WEBHOOKS),
    ),
    Operation(
        method="GET",
        path="/webhooks",
        name="webhooks",
        group=_GROUP,
        scope=Scope.SUBMIT,
        summary="See your webhooks",
        answers=(
            Answer(http_status=200, description="All of them.", model=WebhooksAnswer, example={"webhooks": [_EXAMPLE]}),
        ),
    ),
    Operation(
        method="DELETE",
        path="/webhooks/<webhook_id>",
        name="delete_webhook",
        group=_GROUP,
        scope=Scope.SUBMIT,
        summary="Be called back there no more",
        parameters=(_WEBHOOK_ID,),
        answers=(Answer(http_status=204, description="It is deleted; what waited is not sent.", media_type=None),),
    ),
    Operation(
        method="POST",
        path="/webhooks/<webhook_id>/rotate",
        name="rotate_webhook_secret",
        group=_GROUP,
        scope=Scope.SUBMIT,
        summary="Get a new secret for a webhook",
        description="For 24 hours callbacks carry two signatures, with the new secret and with the one before.",
        parameters=(_WEBHOOK_ID,),
        answers=(
            Answer(
                http_status=200,
                description="The webhook with its new secret.",
                model=NewWebhookAnswer,
                example={**_EXAMPLE, "previous_until": "2026-03-05T14:02:00.000000Z", **_SECRET},
            ),
        ),
    ),
    Operation(
        method="POST",
        path="/webhooks/<webhook_id>/test",
        name="test_webhook",
        group=_GROUP,
        scope=Scope.SUBMIT,
        summary="Send a callback now to try a webhook out",
        description="Its type is `assistance.test`. It is sent once, while you wait, also to a disabled webhook.",
        parameters=(_WEBHOOK_ID,),
        answers=(
            Answer(
                http_status=200,
                description="How it went.",
                model=TestAnswer,
                example={"delivered": True, "http_status": 204, "detail": None},
            ),
        ),
    ),
    Operation(
        method="POST",
        path="/webhooks/secret",
        name="new_callback_secret",
        group=_GROUP,
        scope=Scope.SUBMIT,
        summary="Get a new secret for the callback_url of requests",
        description="Callbacks to the `callback_url` of any of your requests are signed with it. One that you had "
        "signs as well for 24 hours.",
        answers=(
            Answer(
                http_status=200,
                description="The new secret.",
                model=SecretAnswer,
                example={**_SECRET, "previous_until": None},
            ),
        ),
    ),
)
