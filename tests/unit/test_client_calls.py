"""What a bot does with its request after it was accepted, through the client."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from assistance.client import Client, NotAccepted, Refused
from assistance.testing.behaviour import Trouble
from assistance.testing.http_server import FakeHttpServer, Reply
from tests.unit.test_client import ACCEPTED, ID


@pytest.fixture
def api() -> Iterator[FakeHttpServer]:
    with FakeHttpServer() as server:
        yield server


def says(body: Any, http_status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    return Reply(http_status=http_status, headers=headers or {}, body=json.dumps(body).encode())


def stream(*versions: int, end: str = "") -> Reply:
    events = [f"id: {v}\nevent: e\ndata: {json.dumps({'version': v})}\n\n" for v in versions]
    return Reply(body=("retry: 10\n\n" + ": nothing yet\n\n".join(events) + end).encode())


def test_the_key_goes_with_each_call_and_the_members_as_they_are(api: FakeHttpServer) -> None:
    api.script.upcoming = [says(ACCEPTED, 202), says({"status": "delivered"})]
    client = Client(api.url, key="asst_x")
    assert not client.ask("sales", "x", title="Offer", customer={"id": "cus_42"}).joined
    client.look(ID)
    assert [call.headers["authorization"] for call in api.received] == ["Bearer asst_x"] * 2
    assert api.received[0].json == {
        "topic": "sales",
        "description": "x",
        "title": "Offer",
        "customer": {"id": "cus_42"},
    }


@pytest.mark.parametrize("key", ["", " k", "k\n", "schlüssel"])
def test_a_key_that_cannot_be_one_is_a_mistake_at_once(key: str) -> None:
    with pytest.raises(ValueError, match="an API key"):
        Client(key=key)


def test_the_key_follows_no_redirect(api: FakeHttpServer) -> None:
    with FakeHttpServer() as stranger:
        api.script.upcoming = [Reply(http_status=302, headers={"Location": stranger.url})]
        with pytest.raises(Refused):
            Client(api.url, key="asst_x").look(ID)
        assert stranger.connections == 0


def test_a_request_that_joined_another_says_so(api: FakeHttpServer) -> None:
    api.script.upcoming = [says({**ACCEPTED, "joined": True, "event_version": 3})]
    assert Client(api.url).ask("sales", "x", dedup_key="k").joined


def test_a_follow_up_without_an_answer_is_sent_again_as_the_same_one(api: FakeHttpServer) -> None:
    api.script.upcoming = [Trouble.CUT_BY_RST, says({"event_version": 2}, 202)]
    assert Client(api.url).follow_up(ID, "The customer asks again.", author="customer")["event_version"] == 2
    first, second = api.received
    assert (first.method, first.target) == ("POST", f"/assistance/{ID}/messages")
    assert first.json == {"text": "The customer asks again.", "from": "customer"}
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]


def test_a_request_is_cancelled_with_its_reason(api: FakeHttpServer) -> None:
    api.script.upcoming = [says({"status": "cancelled"})]
    assert Client(api.url).cancel(ID, "Found it.")["status"] == "cancelled"
    assert (api.received[0].target, api.received[0].json) == (f"/assistance/{ID}/cancel", {"reason": "Found it."})


def test_waiting_ends_with_the_first_news_and_obeys_an_api_where_too_many_wait(api: FakeHttpServer) -> None:
    waiting = {"status": "accepted"}
    api.script.upcoming = [says(waiting, headers={"Retry-After": "1"}), says(waiting), says({"status": "delivered"})]
    assert Client(api.url).wait(ID, seconds=90)["status"] == "delivered"
    assert [call.headers["prefer"] for call in api.received] == ["wait=60"] * 3


def test_waiting_ends_when_its_time_is_over(api: FakeHttpServer) -> None:
    api.script.upcoming = [says({"status": "accepted"})] * 9
    assert Client(api.url).wait(ID, seconds=0)["status"] == "accepted"
    (call,) = api.received
    assert "prefer" not in call.headers


def test_events_come_once_each_over_streams_that_break_off_or_repeat(api: FakeHttpServer) -> None:
    cut = 'id: 3\nevent: e\ndata: {"vers'
    api.script.upcoming = [stream(1, 2, end=cut), Trouble.CUT_BY_RST, stream(2, 3), Reply(http_status=204)]
    assert [event["version"] for event in Client(api.url).events(ID)] == [1, 2, 3]
    asked = [call.headers["last-event-id"] for call in api.received]
    assert asked == ["0", "2", "2", "3"]
    assert {call.headers["accept"] for call in api.received} == {"text/event-stream"}


def test_events_of_an_api_that_is_gone_end_with_an_error_when_patience_is_over(api: FakeHttpServer) -> None:
    api.script.upcoming = [stream(1), *([Trouble.CUT_BY_RST] * 20)]
    events = Client(api.url, patience_seconds=0.5).events(ID)
    assert next(events)["version"] == 1
    with pytest.raises(NotAccepted):
        next(events)


def test_requests_come_from_every_page(api: FakeHttpServer) -> None:
    api.script.upcoming = [
        says({"data": [{"ref": "A"}, {"ref": "B"}], "next_cursor": "c+1"}),
        says({"data": [{"ref": "C"}], "next_cursor": None}),
    ]
    assert [each["ref"] for each in Client(api.url).requests(status="delivered", limit=2)] == ["A", "B", "C"]
    assert [call.target for call in api.received] == [
        "/assistance?status=delivered&limit=2",
        "/assistance?status=delivered&limit=2&cursor=c%2B1",
    ]
