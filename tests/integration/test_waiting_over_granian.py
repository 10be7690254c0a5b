"""Long polls and streams behind the server that the API really runs on."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from assistance.embedded.ports import free_port
from tests.builders import eventually
from tests.integration.test_api_over_granian import wait_until_it_answers
from tests.integration.waiting_app import SEATS

ROOT = Path(__file__).resolve().parents[2]
LONG = {"Prefer": "wait=50"}


class Api:
    """A granian with twice as many threads as there are seats."""

    def __init__(self) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "granian", "--interface", "wsgi", "--http", "1", "--no-ws"]
        command += ["--host", "127.0.0.1", "--port", str(self.port), "--blocking-threads", str(2 * SEATS)]
        self.process = subprocess.Popen(
            [*command, "tests.integration.waiting_app:wsgi"],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until_it_answers(self.port, self.process)

    def open(self, method: str, path: str, body: Any = None, **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        sent = None if body is None else json.dumps(body)
        connection.request(method, path, sent, {"Content-Type": "application/json", "Connection": "close"} | headers)
        return connection.getresponse()

    def submit(self) -> str:
        body = json.loads(self.open("POST", "/assistance", {"topic": "sales", "description": "x"}).read())
        return str(body["id"])

    def tell(self, name: str, event: str) -> None:
        assert self.open("POST", f"/news/{name}/{event}", {}).read() == b"told"

    def waiting(self) -> int:
        found = re.search(rb"^assistance_waiting_calls (\S+)$", self.open("GET", "/metrics").read(), re.MULTILINE)
        return int(float(found[1])) if found else 0


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    api = Api()
    yield api
    api.process.kill()
    api.process.wait()


def test_calls_that_wait_leave_half_of_the_threads_to_the_others(api: Api) -> None:
    name = api.submit()

    def look(_number: int) -> tuple[Any, dict[str, str]]:
        response = api.open("GET", f"/assistance/{name}", **LONG)
        return json.loads(response.read())["status"], dict(response.getheaders())

    with ThreadPoolExecutor(40) as pool:
        looks = [pool.submit(look, number) for number in range(40)]
        eventually(lambda: sum(future.done() for future in looks) == 40 - SEATS and api.waiting() == SEATS)
        began = time.monotonic()
        assert api.open("GET", "/livez").status == 200
        assert time.monotonic() - began < 5
        api.tell(name, "delivered")
        answers = [future.result() for future in looks]
    sent_away = [headers for status, headers in answers if status == "accepted"]
    served = [headers for status, headers in answers if status == "delivered"]
    assert (len(sent_away), len(served)) == (40 - SEATS, SEATS)
    assert all("preference-applied" not in headers and headers["retry-after"] == "2" for headers in sent_away)
    assert all(headers["preference-applied"] == "wait=50" for headers in served)
    assert api.waiting() == 0


def event_after(stream: http.client.HTTPResponse) -> int:
    """The id of the next event on the stream."""
    while line := stream.readline():
        if line.startswith(b"id: "):
            return int(line[4:])
    raise AssertionError("the stream ended")


def test_events_arrive_while_the_stream_is_open_and_a_listener_who_leaves_frees_its_seat(api: Api) -> None:
    name = api.submit()
    stream = api.open("GET", f"/assistance/{name}/events", Accept="text/event-stream")
    assert stream.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert event_after(stream) == 1
    api.tell(name, "fallback")
    assert event_after(stream) == 2
    assert api.waiting() == 1
    stream.close()
    eventually(lambda: api.waiting() == 0)
    api.tell(name, "fallback")
    again = api.open("GET", f"/assistance/{name}/events", Accept="text/event-stream", **{"Last-Event-ID": "2"})
    assert event_after(again) == 3
    api.tell(name, "delivered")
    assert event_after(again) == 4
    assert b"id: " not in again.read()
    last = api.open("GET", f"/assistance/{name}/events", Accept="text/event-stream", **{"Last-Event-ID": "4"})
    assert (last.status, last.read()) == (204, b"")


def test_a_process_that_is_asked_to_stop_answers_those_who_wait_and_ends(api: Api) -> None:
    name = api.submit()
    stream = api.open("GET", f"/assistance/{name}/events", Accept="text/event-stream")
    with ThreadPoolExecutor(1) as pool:
        look = pool.submit(lambda: json.loads(api.open("GET", f"/assistance/{name}", **LONG).read()))
        eventually(lambda: api.waiting() == 2)
        began = time.monotonic()
        api.process.terminate()
        assert look.result()["status"] == "accepted"
        assert b"id: 1\n" in stream.read()
        api.process.wait(20)
    assert time.monotonic() - began < 20
