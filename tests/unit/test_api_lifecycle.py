"""What a bot may do with its request afterwards: `POST /assistance/<id>/messages` and `/cancel`."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
from werkzeug.test import TestResponse

from assistance.domain.errors import CommitUnknown, DatabaseUnavailable
from assistance.domain.request import Author
from tests.memory_door import MemoryDoor

GOOD = {"topic": "sales", "description": "A customer wants an offer for 40 seats."}


@pytest.fixture
def door() -> MemoryDoor:
    return MemoryDoor()


def post(door: MemoryDoor, path: str, body: Any = None, **headers: str) -> TestResponse:
    words = {} if body is None else {"data": json.dumps(body), "content_type": "application/json"}
    return (
        door.app()
        .test_client()
        .post(path, headers={name.replace("_", "-"): value for name, value in headers.items()}, **words)
    )


@pytest.fixture
def request_id(door: MemoryDoor) -> str:
    accepted: str = post(door, "/assistance", GOOD).get_json()["id"]
    return accepted


def test_a_message_is_stored_and_numbered_among_the_events(door: MemoryDoor, request_id: str) -> None:
    answer = post(door, f"/assistance/{request_id}/messages", {"text": "Again.", "from": "customer"})
    assert answer.status_code == 202
    assert answer.get_json()["event_version"] == 2
    assert answer.headers["Location"] == f"/assistance/{request_id}"
    assert door.messages == [(UUID(request_id), "Again.", Author.CUSTOMER)]


def test_a_message_is_the_bots_unless_it_says_otherwise(door: MemoryDoor, request_id: str) -> None:
    post(door, f"/assistance/{request_id}/messages", {"text": "Again."})
    assert door.messages[0][2] is Author.BOT


def test_a_repeated_message_with_the_same_key_is_added_once(door: MemoryDoor, request_id: str) -> None:
    first, second = (
        post(door, f"/assistance/{request_id}/messages", {"text": "Again."}, Idempotency_Key="k-1") for _ in range(2)
    )
    assert first.get_json() == second.get_json()
    assert second.headers["Idempotency-Replayed"] == "true"
    assert len(door.messages) == 1


def test_a_key_of_a_message_is_none_for_another_request(door: MemoryDoor, request_id: str) -> None:
    other = post(door, "/assistance", GOOD).get_json()["id"]
    post(door, f"/assistance/{request_id}/messages", {"text": "Again."}, Idempotency_Key="k-1")
    answer = post(door, f"/assistance/{other}/messages", {"text": "Again."}, Idempotency_Key="k-1")
    assert (answer.status_code, answer.get_json()["code"]) == (422, "idempotency-key-reused")


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({}, "/text", "required"),
        ({"text": ""}, "/text", "empty"),
        ({"text": " \n"}, "/text", "empty"),
        ({"text": 1}, "/text", "not-a-string"),
        ({"text": "a\x00b"}, "/text", "character"),
        ({"text": "\ud800"}, "/text", "character"),
        ({"text": "x" * 4001}, "/text", "too-long"),
        ({"text": "x", "from": "stranger"}, "/from", "not-allowed"),
        ({"text": "x", "txt": "y"}, "/txt", "unknown-member"),
        ([], "", "not-an-object"),
    ],
    ids=str,
)
def test_a_wrong_message_is_refused_with_the_place(
    door: MemoryDoor, request_id: str, body: Any, pointer: str, code: str
) -> None:
    answer = post(door, f"/assistance/{request_id}/messages", body)
    assert answer.status_code == 422
    assert [(error["pointer"], error["code"]) for error in answer.get_json()["errors"]] == [(pointer, code)]
    assert door.messages == []


@pytest.mark.parametrize("act", ["messages", "cancel"])
@pytest.mark.parametrize("name", ["0190f3a1-7c3e-7d4b-9a51-3f6c2b1d8e07", "nonsense", "1 OR 1=1"])
def test_a_request_that_does_not_exist_is_not_found(door: MemoryDoor, act: str, name: str) -> None:
    answer = post(door, f"/assistance/{name}/{act}", {"text": "x"} if act == "messages" else None)
    assert (answer.status_code, answer.get_json()["code"]) == (404, "not-found")


def test_a_request_is_cancelled_without_a_body_and_shows_it(door: MemoryDoor, request_id: str) -> None:
    answer = post(door, f"/assistance/{request_id}/cancel")
    assert (answer.status_code, answer.get_json()["status"]) == (200, "cancelled")


def test_a_reason_may_be_given(door: MemoryDoor, request_id: str) -> None:
    assert post(door, f"/assistance/{request_id}/cancel", {"reason": "The customer found it."}).status_code == 200
    answer = post(door, f"/assistance/{request_id}/cancel", {"reason": "x" * 501})
    assert answer.get_json()["errors"][0]["pointer"] == "/reason"


def test_nothing_is_added_to_a_cancelled_request(door: MemoryDoor, request_id: str) -> None:
    post(door, f"/assistance/{request_id}/cancel")
    answer = post(door, f"/assistance/{request_id}/messages", {"text": "x"})
    assert (answer.status_code, answer.get_json()["code"]) == (409, "not-open")


@pytest.mark.parametrize("act", ["messages", "cancel"])
@pytest.mark.parametrize(
    "failure", [DatabaseUnavailable(), CommitUnknown()], ids=lambda failure: type(failure).__name__
)
def test_a_database_that_is_away_is_told(door: MemoryDoor, request_id: str, act: str, failure: Exception) -> None:
    door.failure = failure
    answer = post(door, f"/assistance/{request_id}/{act}", {"text": "x"} if act == "messages" else None)
    assert answer.status_code == 503
    assert "Retry-After" in answer.headers
