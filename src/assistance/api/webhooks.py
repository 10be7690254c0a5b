"""`/webhooks`: where a client wants to be called back when something happens to its requests."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

import flask

from assistance.api.answers import instant, json_answer
from assistance.api.callers import needs
from assistance.api.door import Door, Webhooks
from assistance.api.limits import too_many_calls
from assistance.api.operations import Answer, Operation, Parameter
from assistance.api.parsing import read_json
from assistance.api.problem_types import NOT_FOUND, TOO_MANY_WEBHOOKS, WEBHOOK_EXISTS
from assistance.api.problems import Problem
from assistance.api.schema.flat import parse_flat
from assistance.api.webhook_models import NewWebhookAnswer, SecretAnswer, TestAnswer, WebhookBody, WebhooksAnswer
from assistance.domain.caller import Scope
from assistance.runtime.clock import Deadline

_RETRY_AFTER_SECONDS = 2


def add_routes(app: flask.Flask, door: Door) -> None:
    """Serve the webhooks of the caller."""

    @app.post("/webhooks")
    def register() -> flask.Response:
        client = needs(Scope.SUBMIT).client
        body = parse_flat(read_json(flask.request), WebhookBody)
        events = body.events and tuple(dict.fromkeys(body.events))
        with _seat(door, client):
            made = _desk(door).register(client, body.url, events, _deadline(door))
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
    @app.delete("/webhooks/<uuid:webhook_id>")
    def remove(webhook_id: UUID) -> flask.Response:
        client = needs(Scope.SUBMIT).client
        if not _desk(door).remove(client, webhook_id, _deadline(door)):
            raise _not_found()
        return flask.Response(status=204)

    @app.post("/webhooks/<uuid:webhook_id>/rotate")
    def rotate(webhook_id: UUID) -> flask.Response:
        client = needs(Scope.SUBMIT).client
        changed = _desk(door).rotate(client, webhook_id, _deadline(door))
        if changed is None:
            raise _not_found()
        return json_answer({**_shown(changed), "secret": changed["secret"]})

    @app.post("/webhooks/<uuid:webhook_id>/test")
    def test(webhook_id: UUID) -> flask.Response:
        client = needs(Scope.SUBMIT).client
        with _seat(door, client):
            result = _desk(door).test(client, webhook_id, _deadline(door))
        if result is None:
            raise _not_found()
        return json_answer(dict(result))


@contextlib.contextmanager
def _seat(door: Door, client: str) -> Iterator[None]:
    """Room for a call that waits for servers which a client chose: a slow one must not cost others their threads.

    Raises `Problem` (rate-limited).
    """
    seat = door.waiting.take_seat(client)
    if seat is None:
        raise too_many_calls("Too many calls wait for other servers at the moment.", _RETRY_AFTER_SECONDS)
    try:
        yield
    finally:
        seat.leave()


def _deadline(door: Door) -> Deadline:
    return Deadline.after(door.deadline_seconds)


def _desk(door: Door) -> Webhooks:
    if door.webhooks is None:
        raise Problem(NOT_FOUND, "Nothing is served at this path.")
    return door.webhooks


def _not_found() -> Problem:
    return Problem(NOT_FOUND, "No webhook has this id.")


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
        path="/webhooks/<uuid:webhook_id>",
        name="delete_webhook",
        group=_GROUP,
        scope=Scope.SUBMIT,
        summary="Be called back there no more",
        parameters=(_WEBHOOK_ID,),
        answers=(Answer(http_status=204, description="It is deleted; what waited is not sent.", media_type=None),),
    ),
    Operation(
        method="POST",
        path="/webhooks/<uuid:webhook_id>/rotate",
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
        path="/webhooks/<uuid:webhook_id>/test",
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
