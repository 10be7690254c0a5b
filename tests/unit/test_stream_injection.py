"""Nothing that somebody wrote becomes a line of a stream of events, and no odd place in it is guessed at."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient

from assistance.status.timeline import Event
from tests.memory_door import MemoryDoor
from tests.unit.corpora import naughty_strings

STREAM = {"Accept": "text/event-stream"}
HOSTILE = [
    "a\n\nid: 99\nevent: evil\ndata: {}\n\n",
    "a\r\n\r\nid: 99\r\n\r\n",
    "a\r\rdata: evil\r\r",
    "a\u2028\u2029\x85\x0b\x0cdata: evil",
    "retry: 1\n",
    ": comment\n\n",
    "\x00\ufeff\ud800",
]


@pytest.fixture
def door() -> MemoryDoor:
    return MemoryDoor()


def told(door: MemoryDoor, *texts: str) -> list[dict[str, str]]:
    """What a browser would make of the stream of a request to which these texts were added: fields of each event."""
    client = door.app().test_client()
    accepted = UUID(client.post("/assistance", json={"topic": "sales", "description": "x"}).get_json()["id"])
    added = [
        Event(
            version=number, type="assistance.follow_up", at=datetime.now(UTC), actor=f"bot:{text}", data={"text": text}
        )
        for number, text in enumerate(texts, 2)
    ]
    door.reading.events[accepted] = added
    door.requests[accepted]["ended_at"] = datetime.now(UTC)
    raw = client.get(f"/assistance/{accepted}/events", headers=STREAM).get_data()
    # A line ends with CR, LF or both, and nothing else; an empty line ends an event.
    text = raw.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    events = [block for block in text.split("\n\n") if block and not block.startswith("retry: ")]
    return [dict(line.split(": ", 1) for line in event.split("\n")) for event in events]


def test_no_text_ends_its_line_or_begins_an_event_of_its_own(door: MemoryDoor) -> None:
    texts = [*HOSTILE, *naughty_strings()[:150]]
    events = told(door, *texts)
    assert [event["id"] for event in events] == [str(number) for number in range(1, len(texts) + 2)]
    assert all(event.keys() == {"id", "event", "data"} for event in events)
    assert {event["event"] for event in events} == {"assistance.accepted", "assistance.follow_up"}
    assert [json.loads(event["data"])["data"].get("text") for event in events[1:]] == texts
    assert all(event["data"].isascii() and event["data"].isprintable() for event in events)


ODD = ["", "+1", "-1", "-0", "1.0", "1e3", "1,2", "1 2", "0x1", "null", "\u0661", "1\u0661", "1" * 10, "9" * 400, "1;2"]


@pytest.mark.parametrize("text", ODD)
def test_a_last_event_that_is_none_is_refused_and_not_guessed(door: MemoryDoor, text: str) -> None:
    client: FlaskClient = door.app().test_client()
    path = client.post("/assistance", json={"topic": "sales", "description": "x"}).get_json()["links"]["events"]
    environ: dict[str, Any] = {"HTTP_LAST_EVENT_ID": text.encode("utf-8").decode("latin-1")}
    for headers in (STREAM, {}):
        answer = client.get(path, headers=headers, environ_overrides=environ)
        assert (answer.status_code, answer.get_json()["code"]) == (400, "invalid-parameter")
    twice = client.get(path, headers=[*STREAM.items(), ("Last-Event-ID", "1"), ("Last-Event-ID", "2")])
    assert twice.status_code == 400
