"""What `GET /assistance/<id>` promises to a bot that polls."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient

from tests.memory_door import MemoryDoor

GOOD = {"topic": "sales", "description": "x"}

UNKNOWN_ID = "01a1fc6b-b2f4-4506-9315-a5516b447d1a"


@pytest.fixture
def door() -> MemoryDoor:
    return MemoryDoor()


@pytest.fixture
def client(door: MemoryDoor) -> FlaskClient:
    return door.app().test_client()


@pytest.fixture
def accepted(client: FlaskClient) -> str:
    location: str = client.post("/assistance", json=GOOD).headers["Location"]
    return location


def stored(door: MemoryDoor) -> dict[str, Any]:
    return next(iter(door.requests.values()))


def test_a_request_is_found_where_the_answer_to_its_submission_said(
    door: MemoryDoor, client: FlaskClient, accepted: str
) -> None:
    response = client.get(accepted)
    body = response.get_json()
    assert response.status_code == 200
    assert body["links"]["self"] == accepted
    assert set(body) == {
        *("id", "ref", "topic", "status", "state_version", "deliveries", "links"),
        *("created_at", "updated_at", "ended_at", "not_before", "expires_at"),
        *("title", "priority", "customer_id", "dedup_key", "metadata"),
    }
    assert (body["status"], body["state_version"], body["ended_at"]) == ("accepted", 1, None)
    delivery = stored(door)["deliveries"][0]
    at = delivery["next_attempt_at"].isoformat(timespec="microseconds").replace("+00:00", "Z")
    assert body["deliveries"] == [{**delivery, "next_attempt_at": at}]


def test_the_last_error_and_the_receipt_are_shown(door: MemoryDoor, client: FlaskClient, accepted: str) -> None:
    error = {"class": "retry_later", "code": "timeout", "detail": "no answer"}
    stored(door)["deliveries"][0].update(last_error=error, receipt={"ts": "1.2"})
    shown = client.get(accepted).get_json()["deliveries"][0]
    assert (shown["last_error"], shown["receipt"]) == (error, {"ts": "1.2"})


def test_what_people_did_is_the_status_once_they_did_something(
    door: MemoryDoor, client: FlaskClient, accepted: str
) -> None:
    stored(door).update(status="delivered", handling="acknowledged")
    assert client.get(accepted).get_json()["status"] == "acknowledged"


def test_instants_are_shown_in_utc_whatever_their_zone(door: MemoryDoor, client: FlaskClient, accepted: str) -> None:
    stored(door)["ended_at"] = datetime(2026, 1, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    assert client.get(accepted).get_json()["ended_at"] == "2025-12-31T23:30:00.000000Z"


CHANGES: list[dict[str, Any]] = [
    {"status": "delivered"},
    {"handling": "resolved"},
    {"state_version": 2},
    {"updated_at": datetime(2030, 1, 1, tzinfo=UTC)},
    {"ended_at": datetime(2030, 1, 1, tzinfo=UTC)},
]
DELIVERY_CHANGES: list[dict[str, Any]] = [
    {"state": "dead"},
    {"attempts": 3},
    {"next_attempt_at": datetime(2030, 1, 1, tzinfo=UTC)},
    {"receipt": {"ts": "1"}},
    {"last_error": {"class": "rejected", "code": "a", "detail": "b"}},
]


@pytest.mark.parametrize("change", CHANGES + DELIVERY_CHANGES, ids=lambda change: next(iter(change)))
def test_any_visible_change_changes_the_etag(
    door: MemoryDoor, client: FlaskClient, accepted: str, change: dict[str, Any]
) -> None:
    first = client.get(accepted)
    etag = first.headers["ETag"]
    assert etag.startswith('"')
    assert client.get(accepted).headers["ETag"] == etag
    assert client.get(accepted, headers={"If-None-Match": etag}).status_code == 304
    (stored(door)["deliveries"][0] if change in DELIVERY_CHANGES else stored(door)).update(change)
    second = client.get(accepted, headers={"If-None-Match": etag})
    assert second.status_code == 200
    assert second.headers["ETag"] != etag
    assert second.get_data() != first.get_data()


def test_an_unchanged_request_costs_a_poller_no_body(client: FlaskClient, accepted: str) -> None:
    etag = client.get(accepted).headers["ETag"]
    for condition in (etag, f'"other", {etag}', f"W/{etag}", "*"):
        response = client.get(accepted, headers={"If-None-Match": condition})
        assert (response.status_code, response.get_data()) == (304, b"")
        assert response.headers["ETag"] == etag
        assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("condition", ['"other"', "garbage", "", '"', ", ,", 'W/"x'])
def test_another_condition_gets_the_whole_answer(client: FlaskClient, accepted: str, condition: str) -> None:
    assert client.get(accepted, headers={"If-None-Match": condition}).status_code == 200


def test_head_gives_the_headers_of_get(client: FlaskClient, accepted: str) -> None:
    got, head = client.get(accepted), client.head(accepted)
    assert (head.status_code, head.get_data()) == (200, b"")
    assert head.headers["ETag"] == got.headers["ETag"]
    assert head.headers["Content-Length"] == got.headers["Content-Length"]


@pytest.mark.parametrize(
    "name",
    [
        UNKNOWN_ID,
        "x",
        "1",
        "..%2f..%2fetc",
        "%00",
        "%F0%9F%98%80",
        "'; DROP TABLE requests;--",
        "{" + UNKNOWN_ID + "}",
        "urn:uuid:" + UNKNOWN_ID,
        UNKNOWN_ID.replace("-", ""),
        UNKNOWN_ID + "%0a",
        "\u0660" * 8 + UNKNOWN_ID[8:],
        "A-7F3K9Q",
    ],
)
def test_an_id_that_is_unknown_or_no_id_is_not_found(client: FlaskClient, name: str) -> None:
    response = client.get(f"/assistance/{name}")
    assert (response.status_code, response.get_json()["code"]) == (404, "not-found")


def test_an_id_may_be_written_in_capitals(client: FlaskClient, accepted: str) -> None:
    prefix, _, name = accepted.rpartition("/")
    response = client.get(f"{prefix}/{name.upper()}")
    assert response.status_code == 200
    assert response.get_json()["links"]["self"] == accepted
    assert UUID(response.get_json()["id"])


def test_an_idempotency_key_on_get_is_ignored(client: FlaskClient, accepted: str) -> None:
    assert client.get(accepted, headers={"Idempotency-Key": '"'}).status_code == 200


def test_every_call_into_the_flow_has_a_deadline(door: MemoryDoor, client: FlaskClient, accepted: str) -> None:
    client.get(accepted)
    assert len(door.deadlines) == 2
    assert all(3 < deadline.remaining() <= 5 for deadline in door.deadlines)
