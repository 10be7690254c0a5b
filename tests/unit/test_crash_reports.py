"""Crash reports say what broke, and nothing that a customer wrote."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import Any

import flask
import pytest

from assistance.domain.errors import SettingsError
from assistance.runtime.crash_reports import report_crashes

sentry_sdk = pytest.importorskip("sentry_sdk")


@pytest.fixture
def sent() -> Iterator[list[Any]]:
    events: list[Any] = []
    report_crashes("http://key@127.0.0.1:9/1", "api", "1.2.3")
    client = sentry_sdk.get_client()
    client.transport.capture_envelope = lambda envelope: events.append(envelope.get_event())
    yield events
    client.close(timeout=0)
    sentry_sdk.init()


def test_a_crash_is_reported_without_the_request_body_or_local_variables(sent: list[Any]) -> None:
    app = flask.Flask("crashing")

    @app.post("/")
    def crash() -> str:
        description = flask.request.get_json()["description"]
        raise RuntimeError(f"{len(description)} characters")

    canary = secrets.token_hex(3)  # made at run time: a report shows lines of source
    app.test_client().post("/", json={"description": canary}, headers={"Authorization": f"Bearer {canary}"})
    sentry_sdk.flush()
    (event,) = [event for event in sent if event and event.get("exception")]
    assert event["exception"]["values"][0]["value"] == "6 characters"
    assert event["tags"]["service"] == "api"
    assert event["release"] == "1.2.3"
    assert canary not in json.dumps(event, default=str)


def test_neither_what_an_exception_quotes_nor_whose_data_were_asked_for_is_reported(sent: list[Any]) -> None:
    app = flask.Flask("crashing")

    @app.get("/customers/<name>")
    def crash(name: str) -> str:
        sentry_sdk.add_breadcrumb(category="httplib", data={"url": f"https://hooks.example.com/{name}"})
        return str(int(name))

    canary = secrets.token_hex(3) + "x"
    app.test_client().get(f"/customers/{canary}?client={canary}")
    sentry_sdk.flush()
    (event,) = [event for event in sent if event and event.get("exception")]
    assert event["exception"]["values"][-1]["type"] == "ValueError"
    assert canary not in json.dumps(event, default=str)


def test_a_wrong_address_is_refused_in_a_sentence() -> None:
    with pytest.raises(SettingsError, match="ASSISTANCE_SENTRY_DSN is wrong"):
        report_crashes("nonsense", "api", "1")
