"""What `Prefer: wait` and streams of events promise: news at once, nothing missed, and nobody else delayed."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from prometheus_client import REGISTRY

from assistance.api import events
from assistance.domain.errors import DatabaseUnavailable
from assistance.runtime.clock import Deadline
from assistance.status.watching import Glance, Watcher
from tests.builders import eventually
from tests.memory_door import MemoryDoor

GOOD = {"topic": "sales", "description": "x"}
#: So long that a test which really waits for it fails.
LONG = {"Prefer": "wait=50"}


@pytest.fixture
def door() -> Iterator[MemoryDoor]:
    door = MemoryDoor()
    yield door
    door.watcher.stop()


@pytest.fixture
def client(door: MemoryDoor) -> FlaskClient:
    return door.app().test_client()


@pytest.fixture
def accepted(client: FlaskClient) -> UUID:
    return UUID(client.post("/assistance", json=GOOD).get_json()["id"])


def soon(action: Callable[[], Any], seconds: float = 0.15) -> None:
    threading.Timer(seconds, action).start()


def test_a_submission_that_waits_tells_what_became_of_it(door: MemoryDoor, client: FlaskClient) -> None:
    def deliver() -> None:
        door.reading.happen(next(iter(door.requests)), "assistance.delivered", status="delivered")

    soon(deliver)
    began = time.monotonic()
    response = client.post("/assistance", json=GOOD, headers=LONG)
    assert (response.status_code, response.get_json()["status"]) == (202, "delivered")
    assert response.headers["Preference-Applied"] == "wait=50"
    assert 0.1 < time.monotonic() - began < 10


def test_a_submission_nobody_delivers_in_time_is_accepted_all_the_same(client: FlaskClient) -> None:
    response = client.post("/assistance", json=GOOD, headers={"Prefer": "wait=1"})
    assert (response.status_code, response.get_json()["status"]) == (202, "accepted")
    assert response.headers["Preference-Applied"] == "wait=1"


def test_time_that_a_caller_chose_to_wait_is_not_counted_as_ours(client: FlaskClient) -> None:
    def spent() -> list[float]:
        names = ("assistance_accept_duration_seconds_sum", "http_request_duration_seconds_sum")
        return [REGISTRY.get_sample_value(name) or 0.0 for name in names]

    before = spent()
    client.post("/assistance", json=GOOD, headers={"Prefer": "wait=1"})
    assert all(now - then < 0.9 for now, then in zip(spent(), before, strict=True))


def test_a_reader_who_knows_the_newest_state_is_woken_by_the_next(
    door: MemoryDoor, client: FlaskClient, accepted: UUID
) -> None:
    path = f"/assistance/{accepted}"
    etag = client.get(path).headers["ETag"]
    soon(lambda: door.reading.happen(accepted, "assistance.fallback"))
    response = client.get(path, headers={**LONG, "If-None-Match": etag})
    assert (response.status_code, response.get_json()["state_version"]) == (200, 2)
    assert response.headers["Preference-Applied"] == "wait=50"
    again = client.get(path, headers={**LONG, "If-None-Match": etag})
    assert (again.status_code, again.get_data()) == (200, response.get_data())


def test_a_reader_who_knows_nothing_waits_until_the_telling_is_settled(
    door: MemoryDoor, client: FlaskClient, accepted: UUID
) -> None:
    soon(lambda: door.reading.happen(accepted, "assistance.fallback"), 0.1)
    soon(lambda: door.reading.happen(accepted, "assistance.undeliverable", status="undeliverable"), 0.4)
    response = client.get(f"/assistance/{accepted}", headers=LONG)
    assert (response.get_json()["status"], response.get_json()["state_version"]) == ("undeliverable", 3)


def test_nobody_waits_for_news_of_a_request_that_has_ended(
    door: MemoryDoor, client: FlaskClient, accepted: UUID
) -> None:
    door.reading.happen(accepted, "assistance.delivered", status="delivered", ended_at=datetime.now(UTC))
    etag = client.get(f"/assistance/{accepted}").headers["ETag"]
    response = client.get(f"/assistance/{accepted}", headers={**LONG, "If-None-Match": etag})
    assert (response.status_code, response.headers["Preference-Applied"]) == (304, "wait=50")
    assert door.reading.looks == []


def test_a_reader_without_news_is_told_so_when_the_time_is_up(client: FlaskClient, accepted: UUID) -> None:
    etag = client.get(f"/assistance/{accepted}").headers["ETag"]
    response = client.get(f"/assistance/{accepted}", headers={"Prefer": "wait=1", "If-None-Match": etag})
    assert (response.status_code, response.headers["Preference-Applied"]) == (304, "wait=1")


def test_who_finds_every_seat_taken_is_answered_at_once(door: MemoryDoor, client: FlaskClient, accepted: UUID) -> None:
    door.seats = 0
    client = door.app().test_client()
    response = client.get(f"/assistance/{accepted}", headers=LONG)
    assert (response.status_code, response.get_json()["status"]) == (200, "accepted")
    assert int(response.headers["Retry-After"]) >= 1
    assert "Preference-Applied" not in response.headers
    assert "Preference-Applied" not in client.post("/assistance", json=GOOD, headers=LONG).headers
    stream = client.get(f"/assistance/{accepted}/events", headers={"Accept": "text/event-stream"})
    assert parsed(stream.get_data(as_text=True)) == [1]


@pytest.mark.parametrize(
    ("prefer", "applied"),
    [
        ("wait=50", "wait=50"),
        ("WAIT=50", "wait=50"),
        ('wait="50"', "wait=50"),
        ("wait = 50", "wait=50"),
        ("respond-async, wait=50", "wait=50"),
        ('foo="a, wait=1"; x=y, wait=50', "wait=50"),
        ("wait=50, wait=10", "wait=50"),
        ("wait=50;foo=bar", "wait=50"),
        ("wait=61", "wait=60"),
        ("wait=999999999", "wait=60"),
        ("wait=0", None),
        ("wait=", None),
        ("wait", None),
        ("wait=-1", None),
        ("wait=1.5", None),
        ("wait=ten", None),
        ("wait=٣", None),
        ("wait=" + "9" * 5000, None),
        ("await=5", None),
        (";;,,==", None),
        ('"', None),
    ],
)
def test_a_preference_is_read_as_the_rfc_has_it_and_never_refused(
    door: MemoryDoor, client: FlaskClient, accepted: UUID, prefer: str, applied: str | None
) -> None:
    door.requests[accepted]["status"] = "delivered"
    response = client.get(f"/assistance/{accepted}", environ_overrides={"HTTP_PREFER": prefer})
    assert (response.status_code, response.headers.get("Preference-Applied")) == (200, applied)


def test_everybody_who_waits_is_asked_for_together_and_nobody_when_nobody_waits(door: MemoryDoor) -> None:
    app = door.app()
    ids = [UUID(app.test_client().post("/assistance", json=GOOD).get_json()["id"]) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(app.test_client().get, f"/assistance/{name}", headers=LONG) for name in ids]
        # A call that ended early, or failed, says why when its result is asked for.
        eventually(lambda: frozenset(ids) in door.reading.looks or [call.result() for call in waiting if call.done()])
        for name in ids:
            door.reading.happen(name, "assistance.delivered", status="delivered")
        assert {answer.result().get_json()["status"] for answer in waiting} == {"delivered"}
    looks = len(door.reading.looks)
    time.sleep(0.3)
    assert len(door.reading.looks) == looks


def test_an_outage_of_the_database_is_no_failure_of_those_who_wait(
    door: MemoryDoor, client: FlaskClient, accepted: UUID
) -> None:
    soon(lambda: setattr(door, "failure", DatabaseUnavailable()), 0.1)
    response = client.get(f"/assistance/{accepted}", headers={"Prefer": "wait=1"})
    assert (response.status_code, response.get_json()["status"]) == (200, "accepted")
    door.failure = None
    soon(lambda: door.reading.happen(accepted, "assistance.delivered", status="delivered"))
    assert client.get(f"/assistance/{accepted}", headers=LONG).get_json()["status"] == "delivered"


def test_those_who_wait_are_sent_away_when_the_process_stops(
    door: MemoryDoor, client: FlaskClient, accepted: UUID
) -> None:
    soon(door.watcher.stop)
    assert client.get(f"/assistance/{accepted}", headers=LONG).get_json()["status"] == "accepted"
    assert client.get(f"/assistance/{accepted}", headers=LONG).get_json()["status"] == "accepted"


def test_a_request_that_is_deleted_meanwhile_keeps_nobody_waiting() -> None:
    watcher = Watcher(lambda _ids: {})
    began = time.monotonic()
    assert watcher.wait(UUID(int=1), lambda _glance: False, Deadline.after(50)) is None
    assert time.monotonic() - began < 10
    watcher.stop()


def test_a_glance_that_is_no_news_wakes_nobody() -> None:
    name, seen = UUID(int=1), [1, 1, 2]
    watcher = Watcher(lambda _ids: {name: Glance(version=seen.pop(0), status="accepted", has_ended=False)})
    found = watcher.wait(name, lambda glance: glance.version > 1, Deadline.after(50))
    assert (found and found.version, seen) == (2, [])
    watcher.stop()


def parsed(stream: str) -> list[int]:
    """The versions of the events in a stream, after checking that each is whole."""
    versions = []
    for block in stream.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "id" in fields:
            event = json.loads(fields["data"])
            assert (str(event["version"]), event["type"]) == (fields["id"], fields["event"])
            versions.append(event["version"])
    return versions


def test_the_timeline_begins_with_the_request_and_names_roles_not_people(
    door: MemoryDoor, client: FlaskClient, accepted: UUID
) -> None:
    door.reading.happen(accepted, "assistance.undeliverable", status="undeliverable")
    door.reading.happen(accepted, "assistance.replayed", actor="cli:dana", status="accepted")
    body = client.get(f"/assistance/{accepted}/events").get_json()
    assert [(event["version"], event["type"], event["actor"]) for event in body["data"]] == [
        (1, "assistance.accepted", "bot"),
        (2, "assistance.undeliverable", "service"),
        (3, "assistance.replayed", "operator"),
    ]
    assert body["data"][0]["at"] == client.get(f"/assistance/{accepted}").get_json()["created_at"]
    assert body["next_after"] is None
    later = client.get(f"/assistance/{accepted}/events?after=2").get_json()["data"]
    assert [event["version"] for event in later] == [3]


def test_a_long_timeline_is_read_in_pages(door: MemoryDoor, client: FlaskClient, accepted: UUID) -> None:
    for _ in range(450):
        door.reading.happen(accepted, "assistance.fallback")
    seen, after = [], 0
    while after is not None:
        page = client.get(f"/assistance/{accepted}/events?after={after}").get_json()
        seen += [event["version"] for event in page["data"]]
        after = page["next_after"]
    assert seen == list(range(1, 452))
    door.reading.happen(accepted, "assistance.delivered", ended_at=datetime.now(UTC))
    stream = client.get(f"/assistance/{accepted}/events", headers={"Accept": "text/event-stream"})
    assert parsed(stream.get_data(as_text=True)) == list(range(1, 453))


def test_no_event_is_missed_or_told_twice_however_often_the_listener_comes_again(
    door: MemoryDoor, client: FlaskClient, accepted: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Streams that end all the time, while events come all the time.
    monkeypatch.setattr(events, "_STREAM_SECONDS", 0.05)

    def tell() -> None:
        for _ in range(200):
            door.reading.happen(accepted, "assistance.fallback")
            time.sleep(0.003)
        door.reading.happen(accepted, "assistance.delivered", status="delivered", ended_at=datetime.now(UTC))

    telling = threading.Thread(target=tell)
    telling.start()
    heard: list[int] = []
    connections = 0
    path = f"/assistance/{accepted}/events"
    while True:
        last = {"Last-Event-ID": str(heard[-1])} if heard else {}
        response = client.get(path, headers={"Accept": "text/event-stream", **last})
        if response.status_code == 204:
            break
        assert response.content_type == "text/event-stream; charset=utf-8"
        heard += parsed(response.get_data(as_text=True))
        response.close()
        connections += 1
    telling.join()
    assert heard == list(range(1, 203))
    assert connections > 3


def test_a_stream_goes_on_until_the_request_has_ended_and_frees_its_seat(
    door: MemoryDoor, client: FlaskClient, accepted: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_COMMENT_SECONDS", 0.05)
    soon(lambda: door.reading.happen(accepted, "assistance.fallback"))
    soon(lambda: door.requests[accepted].update(ended_at=datetime.now(UTC)), 0.4)
    waiting = "assistance_waiting_calls"
    response = client.get(f"/assistance/{accepted}/events", headers={"Accept": "text/event-stream"})
    assert REGISTRY.get_sample_value(waiting) == 1
    text = response.get_data(as_text=True)
    assert parsed(text) == [1, 2]
    assert ": nothing yet\n\n" in text
    assert response.headers["X-Accel-Buffering"] == "no"
    response.close()
    assert REGISTRY.get_sample_value(waiting) == 0


def test_a_stream_that_nobody_begins_to_read_frees_its_seat(door: MemoryDoor, accepted: UUID) -> None:
    door.seats = 1
    client = door.app().test_client()
    path = f"/assistance/{accepted}/events"
    client.head(path, headers={"Accept": "text/event-stream"})
    client.get(path, headers={"Accept": "text/event-stream"}).close()
    assert REGISTRY.get_sample_value("assistance_waiting_calls") == 0


def test_a_stream_ends_when_the_database_goes_away(
    door: MemoryDoor, client: FlaskClient, accepted: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_COMMENT_SECONDS", 0.05)
    response = client.get(f"/assistance/{accepted}/events", headers={"Accept": "text/event-stream"})
    door.failure = DatabaseUnavailable()
    assert parsed(response.get_data(as_text=True)) == [1]
    assert client.get(f"/assistance/{accepted}/events").status_code == 503


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/event-stream;q=0.5, application/json", ""])
def test_who_does_not_ask_for_a_stream_gets_json(client: FlaskClient, accepted: UUID, accept: str) -> None:
    response = client.get(f"/assistance/{accepted}/events", headers={"Accept": accept})
    assert response.content_type == "application/json"


@pytest.mark.parametrize(("after", "last"), [("-1", None), ("x", None), ("1" * 10, None), ("0", "x"), ("0", "٣")])
def test_a_place_in_the_timeline_that_makes_no_sense_is_refused(
    client: FlaskClient, accepted: UUID, after: str, last: str | None
) -> None:
    headers = {} if last is None else {"HTTP_LAST_EVENT_ID": last}
    response = client.get(f"/assistance/{accepted}/events?after={after}", environ_overrides=headers)
    assert (response.status_code, response.get_json()["code"]) == (400, "invalid-parameter")


def test_the_timeline_of_another_request_is_not_found(client: FlaskClient) -> None:
    for name in ("01a1fc6b-b2f4-4506-9315-a5516b447d1a", "x"):
        for path in (f"/assistance/{name}", f"/assistance/{name}/events"):
            assert client.get(path).get_json()["code"] == "not-found"
