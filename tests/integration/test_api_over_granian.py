"""The API behind the server that it really runs on: what arrives broken on the wire stores nothing and breaks nothing.

The server imports this file for `wsgi`, so that the tests can ask it what it stored.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import flask
import pytest

from assistance.api.app import create_app
from tests.memory_door import MemoryDoor

ROOT = Path(__file__).resolve().parents[2]
BODY = b'{"topic":"sales","description":"Customer wants a quote"}'
_flow = MemoryDoor()
_counter = flask.Blueprint("counter", __name__)
_counter.add_url_rule("/submitted", endpoint="submitted", view_func=lambda: str(len(_flow.submitted)))
wsgi = create_app(_flow.door(), extra_blueprints=[_counter])


class Server:
    """A granian in its own process group on a free port of the loopback."""

    def __init__(self, port: int) -> None:
        self.port = port

    def exchange(self, sent: bytes, *, hang_up: bool = False) -> bytes:
        """Send bytes and read until the server closes or says nothing for a while; `hang_up` ends our side first."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=1.5) as connection:
            with contextlib.suppress(OSError):
                connection.sendall(sent)
                if hang_up:
                    connection.shutdown(socket.SHUT_WR)
            received = b""
            with contextlib.suppress(OSError):
                while piece := connection.recv(65536):
                    received += piece
            return received

    def submitted(self) -> int:
        answer = self.exchange(b"GET /submitted HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return int(answer.rpartition(b"\r\n\r\n")[2])


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "granian", "--interface", "wsgi", "--http", "1", "--no-ws"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--blocking-threads", "8"]
    command += ["--http1-buffer-size", "65536", "--http1-header-read-timeout", "2000"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])}
    process = subprocess.Popen(
        [*command, "tests.integration.test_api_over_granian:wsgi"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until_it_answers(port, process)
        yield Server(port)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_it_answers(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(0.05)
    raise AssertionError("granian did not start")


def post(*headers: bytes, body: bytes = BODY, length: bytes | None = b"exact", close: bool = True) -> bytes:
    lines = [b"POST /assistance HTTP/1.1", b"Host: localhost", b"Content-Type: application/json", *headers]
    if length is not None:
        lines.append(b"Content-Length: " + (str(len(body)).encode() if length == b"exact" else length))
    if close:
        lines.append(b"Connection: close")
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", answer)]


def test_a_whole_request_is_taken(server: Server) -> None:
    before = server.submitted()
    answer = server.exchange(post(b'Idempotency-Key: "granian"', b"X-Request-Id: mine"))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert statuses(answer) == [202]
    assert b"x-request-id: mine" in head.lower()
    assert json.loads(body)["status"] == "accepted"
    assert server.submitted() == before + 1


CHUNKED = b"Transfer-Encoding: chunked"
CHUNKS = b"%x\r\n%s\r\n" % (len(BODY), BODY)


@pytest.mark.parametrize(
    ("sent", "allowed"),
    [
        pytest.param(post(CHUNKED, body=CHUNKS + b"0\r\n\r\n", length=None), [[411]], id="chunked"),
        pytest.param(post(CHUNKED, body=CHUNKS + b"0\r\n\r\n"), [[400], [411]], id="both lengths"),
        pytest.param(post(CHUNKED, body=b"zz\r\n" + BODY, length=None), [[400], [411], []], id="bad chunk"),
        pytest.param(post(b"Transfer-Encoding: chunked, identity"), [[400], [411], []], id="odd coding"),
        pytest.param(post(b"Content-Length: 3"), [[400]], id="two lengths"),
        pytest.param(post(length=None), [[411], [411, 400]], id="no length"),
        pytest.param(post(b"Content_Length: 56", length=None), [[411], [411, 400]], id="underscore"),
        pytest.param(post(length=b"-1"), [[400]], id="negative length"),
        pytest.param(post(length=b"+56"), [[400]], id="signed length"),
        pytest.param(post(length=b"1000000000000"), [[413]], id="huge length"),
        pytest.param(post(length=b"9" * 30), [[400], [413]], id="length beyond integers"),
        pytest.param(post(b"Content-Encoding: gzip"), [[415]], id="compressed"),
        pytest.param(post(b"Idempotency-Key: a", b"Idempotency-Key: b"), [[400]], id="two keys"),
        pytest.param(post(b'Idempotency-Key: "\xc3\xa9"'), [[400]], id="key beyond ASCII"),
        pytest.param(post(b"Host: b"), [[400], []], id="two hosts"),
        pytest.param(post().replace(b"Host: localhost\r\n", b""), [[400], []], id="no host"),
        pytest.param(post(b"X-Long: " + b"a" * 200_000), [[431], [400], []], id="huge header"),
        pytest.param(post(*[b"X-%d: a" % n for n in range(200)]), [[431], [400], []], id="200 headers"),
        pytest.param(post().replace(b"/assistance", b"/" + b"a" * 200_000), [[414], [431], [404], []], id="long path"),
        pytest.param(post().replace(b"/assistance", b"//assistance"), [[404]], id="doubled slash"),
        pytest.param(b"\x16\x03\x01\x02\x00garbage\r\n\r\n", [[400], []], id="TLS on a plain port"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [[400], [505], []], id="HTTP/2"),
    ],
)
def test_what_is_broken_on_the_wire_is_refused_and_stores_nothing(
    server: Server, sent: bytes, allowed: list[list[int]]
) -> None:
    before = server.submitted()
    answer = server.exchange(sent)
    assert statuses(answer) in allowed, answer[:300]
    assert server.submitted() == before


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(post(length=b"1000", close=False), id="cut body that is whole JSON"),
        pytest.param(post(body=BODY[:20], length=b"56"), id="cut body"),
        pytest.param(post(CHUNKED, body=CHUNKS, length=None), id="no last chunk"),
        pytest.param(b"POST /assistance HTTP/1.1\r\nHost: localhost\r\nContent-Le", id="half a header"),
        pytest.param(b"POST /assist", id="half a line"),
    ],
)
def test_a_caller_who_hangs_up_half_way_stores_nothing(server: Server, sent: bytes) -> None:
    before = server.submitted()
    answer = server.exchange(sent, hang_up=True)
    assert statuses(answer) in ([], [400], [408], [411])
    assert server.submitted() == before


def test_a_request_hidden_in_a_body_is_not_answered(server: Server) -> None:
    hidden = b"GET /submitted HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer = server.exchange(post(body=hidden, close=False))
    assert statuses(answer) == [400]


def test_callers_who_stall_in_their_headers_do_not_keep_others_waiting(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=2))
            connection.sendall(b"POST /assistance HTTP/1.1\r\nHost: localhost\r\nContent-Le")
        assert statuses(server.exchange(post())) == [202]
