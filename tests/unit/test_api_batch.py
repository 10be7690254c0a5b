"""What batches, dry runs and the list of topics promise."""

from __future__ import annotations

import json
from typing import Any

import pytest
import structlog
from flask.testing import FlaskClient

from assistance.domain.errors import CommitUnknown, DatabaseUnavailable, OutboxFull
from tests.memory_door import MemoryDoor

GOOD = {"topic": "sales", "description": "x"}
STEPS = [{"to": ["sales-team"], "after_seconds": 0.0}, {"to": ["pager"], "after_seconds": None}]


@pytest.fixture
def door() -> MemoryDoor:
    return MemoryDoor()


@pytest.fixture
def client(door: MemoryDoor) -> FlaskClient:
    return door.app().test_client()


def results(client: FlaskClient, *items: Any) -> list[dict[str, Any]]:
    response = client.post("/assistance/batch", json={"requests": items})
    assert response.status_code == 200
    found: list[dict[str, Any]] = response.get_json()["results"]
    assert [result["index"] for result in found] == list(range(len(items)))
    return found


def test_a_bad_request_in_a_batch_fails_alone_and_says_why(door: MemoryDoor, client: FlaskClient) -> None:
    found = results(
        client, GOOD, {**GOOD, "topic": "sails"}, 7, {**GOOD, "descripton": "y"}, {**GOOD, "topic": "SALES"}
    )
    assert [result["status"] for result in found] == [202, 422, 422, 422, 202]
    codes = [result["body"].get("code") for result in found]
    assert codes == [None, "unknown-topic", "validation-failed", "validation-failed", None]
    assert all(result["body"]["status"] == result["status"] for result in found[1:4])
    assert found[3]["body"]["errors"][0]["pointer"] == "/descripton"
    assert [client.get(found[n]["body"]["links"]["self"]).status_code for n in (0, 4)] == [200, 200]
    assert len(door.submitted) == 2


def test_a_key_in_a_batch_is_the_key_of_the_same_call_made_alone(door: MemoryDoor, client: FlaskClient) -> None:
    item = {**GOOD, "idempotency_key": "a key"}
    found = results(client, item, item, {**item, "description": "y"})
    assert [result["status"] for result in found] == [202, 202, 422]
    assert found[0]["body"]["id"] == found[1]["body"]["id"]
    assert found[2]["body"]["code"] == "idempotency-key-reused"
    alone = client.post("/assistance", json=GOOD, headers={"Idempotency-Key": '"a key"'})
    assert alone.get_json()["id"] == found[0]["body"]["id"]
    assert len(door.submitted) == 1


@pytest.mark.parametrize("key", ["", 7, None, "é", "a\n", "x" * 256, ["a"]])
def test_a_key_that_cannot_be_one_is_refused_and_nothing_stored(
    door: MemoryDoor, client: FlaskClient, key: Any
) -> None:
    (found,) = results(client, {**GOOD, "idempotency_key": key})
    assert (found["status"], found["body"]["code"]) == (400, "idempotency-key-invalid")
    assert door.submitted == []


@pytest.mark.parametrize(
    ("failure", "tried", "code", "wait"),
    [
        (DatabaseUnavailable(), 1, "storage-unavailable", "2"),
        (CommitUnknown(), 3, "commit-unknown", "2"),
        (OutboxFull(30), 3, "outbox-full", "30"),
        (RuntimeError("hunter2"), 3, "internal-error", None),
    ],
)
def test_without_a_database_the_rest_of_a_batch_is_not_tried_and_every_one_is_told(
    door: MemoryDoor, client: FlaskClient, failure: Exception, tried: int, code: str, wait: str | None
) -> None:
    door.failure = failure
    with structlog.testing.capture_logs():
        response = client.post("/assistance/batch", json={"requests": [GOOD] * 3})
    assert {result["body"]["code"] for result in response.get_json()["results"]} == {code}
    assert response.headers.get("Retry-After") == wait
    assert len(door.deadlines) == tried
    assert len({deadline.at for deadline in door.deadlines}) == 1
    assert "hunter2" not in response.get_data(as_text=True)


@pytest.mark.parametrize(
    "body",
    [
        *("x", [], [GOOD], {}),
        *({"requests": None}, {"requests": {}}, {"requests": []}, {"requests": [GOOD] * 101}),
        {"requests": [GOOD], "idempotency_key": "a"},
    ],
    ids=range(9),
)
def test_what_is_no_batch_is_refused_as_a_whole(door: MemoryDoor, client: FlaskClient, body: Any) -> None:
    response = client.post("/assistance/batch", json=body)
    assert (response.status_code, response.get_json()["code"]) == (422, "validation-failed")
    assert door.submitted == []


def test_a_batch_may_be_larger_than_one_request_but_not_boundless(door: MemoryDoor, client: FlaskClient) -> None:
    large = json.dumps({"requests": [{**GOOD, "description": "é" * 4000}] * 40}, ensure_ascii=False).encode()
    response = client.post("/assistance/batch", data=large, content_type="application/json")
    assert [result["status"] for result in response.get_json()["results"]] == [202] * 40
    over = large + b" " * (1024 * 1024 + 1 - len(large))
    for path, body in (("/assistance/batch", over), ("/assistance", large)):
        response = client.post(path, data=body, content_type="application/json")
        assert (response.status_code, response.get_json()["code"]) == (413, "body-too-large")


def test_one_key_for_a_whole_batch_is_refused_because_it_would_protect_nothing(
    door: MemoryDoor, client: FlaskClient
) -> None:
    response = client.post("/assistance/batch", json={"requests": [GOOD]}, headers={"Idempotency-Key": "a"})
    assert (response.status_code, response.get_json()["code"]) == (400, "idempotency-key-invalid")
    assert door.submitted == []


def test_a_dry_run_tells_the_plan_and_stores_nothing(door: MemoryDoor, client: FlaskClient) -> None:
    key = {"Idempotency-Key": "a"}
    response = client.post("/assistance?dry_run=true", json=GOOD, headers=key)
    assert response.status_code == 200
    assert response.get_json() == {"topic": "sales", "steps": STEPS, "would": "accept"}
    assert (door.submitted, door.keys) == ([], {})
    assert client.post("/assistance?dry_run=false", json={**GOOD, "description": "y"}, headers=key).status_code == 202


def test_a_dry_run_refuses_what_the_call_would_refuse(door: MemoryDoor, client: FlaskClient) -> None:
    assert client.post("/assistance?dry_run=true", json={**GOOD, "topic": "sails"}).status_code == 422
    assert client.post("/assistance?dry_run=true", json=GOOD, headers={"Idempotency-Key": '"'}).status_code == 400
    door.failure = OutboxFull(3)
    assert client.post("/assistance?dry_run=true", json=GOOD).status_code == 429


@pytest.mark.parametrize("query", ["dryrun=true", "dry_run=yes", "dry_run", "dry_run=true&dry_run=true"])
def test_a_misspelt_dry_run_is_refused_instead_of_told_to_people(
    door: MemoryDoor, client: FlaskClient, query: str
) -> None:
    response = client.post(f"/assistance?{query}", json=GOOD)
    assert (response.status_code, response.get_json()["code"]) == (400, "invalid-parameter")
    assert door.submitted == []


def test_the_topics_are_listed_with_who_is_told_and_when(client: FlaskClient) -> None:
    listed = client.get("/topics").get_json()["data"]
    assert listed == [{"topic": topic, "steps": STEPS} for topic in ("pricing", "sales", "strasse")]
