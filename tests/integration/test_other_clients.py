"""A client cannot tell what belongs to another from what never was: the whole application, every path with an id."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from assistance.clients import store
from assistance.deliveries import webhooks
from assistance.domain.caller import Scope
from assistance.settings import load_settings
from assistance.storage.database import Database
from assistance.wsgi import build_app
from tests.terminal import Terminal

BODY = {
    "topic": "help",
    "description": "A customer wants an offer for 40 seats.",
    "dedup_key": "theirs-open",
    "customer": {"id": "theirs-customer"},
    "metadata": {"order": "theirs-order"},
}
UNKNOWN = "01a1fc7e-2ccd-784a-8c72-549b47e809ff"
STREAM = {"Accept": "text/event-stream"}


@dataclass(frozen=True, kw_only=True)
class Call:
    """A call in which `{id}` stands for something that is theirs, or for nothing."""

    method: str
    path: str
    about: str = "request"
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None


CALLS = [
    *(Call(method=method, path="/assistance/{id}") for method in ("GET", "HEAD", "OPTIONS", "DELETE")),
    *(
        Call(method="GET", path="/assistance/{id}", headers=headers)
        for headers in (
            {"If-None-Match": "{etag}"},
            {"If-None-Match": "*"},
            {"Prefer": "wait=20"},
            {"Prefer": "wait=20", "If-None-Match": "{etag}"},
        )
    ),
    Call(method="GET", path="/assistance/{id}/events"),
    Call(method="HEAD", path="/assistance/{id}/events", headers=STREAM),
    Call(method="GET", path="/assistance/{id}/events?after=1"),
    Call(method="GET", path="/assistance/{id}/events?after=x"),
    Call(method="GET", path="/assistance/{id}/events", headers=STREAM),
    Call(method="GET", path="/assistance/{id}/events", headers={**STREAM, "Last-Event-ID": "1"}),
    *(
        Call(method="POST", path="/assistance/{id}/messages", headers=headers, body=body)
        for headers in ({}, {"Idempotency-Key": "mine"}, {"Idempotency-Key": "theirs"})
        for body in ({"text": "Hello?"}, {"text": ""}, None)
    ),
    *(Call(method="POST", path="/assistance/{id}/cancel", body=body) for body in (None, {"reason": "x"}, {"x": 1})),
    Call(method="DELETE", path="/webhooks/{id}", about="webhook"),
    Call(method="POST", path="/webhooks/{id}/rotate", about="webhook"),
    Call(method="POST", path="/webhooks/{id}/test", about="webhook"),
    Call(method="GET", path="/customers/{id}/export", about="customer"),
    Call(method="GET", path="/customers/{id}/export?client=theirs", about="customer"),
    Call(method="POST", path="/customers/{id}/erase", about="customer"),
    Call(method="POST", path="/customers/{id}/erase?client=theirs", about="customer"),
    Call(method="GET", path="/assistance?dedup_key={id}", about="dedup_key"),
    Call(method="GET", path="/assistance?customer={id}", about="customer"),
    Call(method="GET", path="/assistance?cursor={id}", about="cursor"),
]


@dataclass
class Scene:
    """The application, two clients of it, and what the other one has."""

    app: Flask
    mine: dict[str, str]
    theirs: dict[str, str]
    names: dict[str, tuple[str, str]]  # what is theirs, and what is nobody's
    etag: str

    def call(self, call: Call, name: str) -> tuple[Any, ...]:
        """The whole answer, but for what differs between any two calls, with the name taken out."""
        headers = {key: text.replace("{etag}", self.etag) for key, text in call.headers.items()}
        answer = self.app.test_client().open(
            call.path.replace("{id}", name), method=call.method, headers={**self.mine, **headers}, json=call.body
        )
        return told(answer, name)


def told(answer: TestResponse, name: str) -> tuple[Any, ...]:
    shown = [
        (key, text.replace(name, "{id}")) for key, text in answer.headers if key not in ("X-Request-Id", "RateLimit")
    ]
    text = re.sub(r'"request_id":"[^"]+"', "", answer.get_data(as_text=True))
    return answer.status_code, sorted(shown), text.replace(name, "{id}")


@pytest.fixture
def scene(terminal: Terminal, database_url: str) -> Iterator[Scene]:
    database = Database(database_url, pool_size=2)
    app = build_app(load_settings())

    def key_of(name: str) -> dict[str, str]:
        key = database.run(lambda it: store.create(it, name, scopes=[Scope.SUBMIT, Scope.READ]))
        return {"Authorization": f"Bearer {key.text}"}

    mine, theirs = key_of("mine"), key_of("theirs")
    caller = app.test_client()
    made = caller.post("/assistance", json=BODY, headers={**theirs, "Idempotency-Key": "theirs"})
    caller.post("/assistance", json={**BODY, "dedup_key": None}, headers=theirs)
    webhook = database.run(lambda it: webhooks.register(it, "theirs", "https://bot.example.com/callbacks", None))
    cursor = caller.get("/assistance?limit=1", headers=theirs).get_json()["next_cursor"]
    names = {
        "request": (made.get_json()["id"], UNKNOWN),
        "webhook": (str(webhook.id), UNKNOWN),
        "customer": ("theirs-customer", "nobody-customer"),
        "dedup_key": ("theirs-open", "nobody-open"),
        "cursor": (cursor, "AAXx" + cursor[4:]),
    }
    yield Scene(app, mine, theirs, names, caller.get(made.headers["Location"], headers=theirs).headers["ETag"])
    database.close()


def test_what_belongs_to_another_client_answers_exactly_like_what_never_was(scene: Scene, database_url: str) -> None:
    database = Database(database_url, pool_size=2)

    def everything() -> list[str]:
        tables = ("requests", "events", "deliveries", "outbox", "timers", "webhooks", "idempotency_keys")
        with database.transaction() as connection:
            return [
                row
                for table in tables
                for row in connection.exec_driver_sql(f"SELECT t::text FROM {table} t").scalars()
            ]

    before = everything()
    for call in CALLS:
        theirs, nobodys = (scene.call(call, name) for name in scene.names[call.about])
        assert theirs == nobodys, call
        assert theirs[0] in (200, 400, 403, 404, 405, 411, 415, 422), call
        assert "theirs-" not in theirs[2].replace("theirs-customer", ""), call
    assert everything() == before
    database.close()


def test_every_path_with_an_id_is_tried(scene: Scene) -> None:
    rules = {
        (method, re.sub(r"<[^>]+>", "{id}", rule.rule))
        for rule in scene.app.url_map.iter_rules()
        if rule.arguments & {"request_id", "webhook_id", "customer_id"}
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert rules - {(call.method, call.path.partition("?")[0]) for call in CALLS} == set()


def test_keys_of_another_client_are_free(scene: Scene) -> None:
    caller = scene.app.test_client()
    same = caller.post("/assistance", json=BODY, headers={**scene.mine, "Idempotency-Key": "theirs"})
    assert (same.status_code, "Idempotency-Replayed" in same.headers) == (202, False)
    assert same.get_json()["id"] != scene.names["request"][0]
    joined = caller.post("/assistance", json={**BODY, "description": "More."}, headers=scene.mine)
    assert (joined.status_code, joined.get_json()["id"]) == (200, same.get_json()["id"])
    listed = caller.get("/assistance", headers=scene.mine).get_json()["data"]
    assert [request["id"] for request in listed] == [same.get_json()["id"]]
    theirs = caller.get(f"/assistance/{scene.names['request'][0]}/events", headers=scene.theirs).get_json()["data"]
    assert [event["version"] for event in theirs] == [1]
