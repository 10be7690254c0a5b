"""The gateway as we ship it: slow and idle callers do not stop the others."""

from __future__ import annotations

import contextlib
import resource
import selectors
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from assistance.embedded.ports import free_port
from tests.builders import eventually
from tests.integration.test_api_over_granian import Server, post, server, statuses, wait_until_it_answers
from tests.servers.nginx import start_gateway

__all__ = ["server"]  # a fixture

HALF_HEADERS = b"POST /assistance HTTP/1.1\r\nHost: a\r\nContent-Le"
HALF_BODY = b"POST /assistance HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


@pytest.fixture
def gateway(nginx: Path, server: Server, tmp_path: Path) -> Iterator[Server]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    port = free_port()
    process = start_gateway(nginx, tmp_path, port=port, api_port=server.port)
    try:
        wait_until_it_answers(port, process)
        yield Server(port)
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def callers(stack: contextlib.ExitStack, port: int, number: int, address: str, sent: bytes) -> list[socket.socket]:
    """Connections from one address of this machine, each of which has sent this and no more."""
    made = []
    for _ in range(number):
        made.append(
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5, source_address=(address, 0)))
        )
        made[-1].sendall(sent)
    return made


def closed(connections: Sequence[socket.socket]) -> int:
    """How many of them the other side ended."""
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection, selectors.EVENT_READ)
        return sum(_is_over(key.fileobj) for key, _ in selector.select(0) if isinstance(key.fileobj, socket.socket))


def _is_over(connection: socket.socket) -> bool:
    try:
        return connection.recv(65536) == b""
    except OSError:
        return True


def test_slow_and_idle_callers_do_not_keep_others_waiting(gateway: Server) -> None:
    with contextlib.ExitStack() as stack:
        callers(stack, gateway.port, 1000, "127.0.0.4", b"")
        half_headers = callers(stack, gateway.port, 200, "127.0.0.4", HALF_HEADERS)
        half_bodies = [
            caller
            for address in ("127.0.0.2", "127.0.0.3")
            for caller in callers(stack, gateway.port, 100, address, HALF_BODY)
        ]
        took = []
        for number in range(100):
            if number % 25 == 0:  # they go on, ever so slowly
                for caller in half_bodies:
                    caller.sendall(b" ")
            began = time.monotonic()
            assert statuses(gateway.exchange(LIVEZ)) == [200]
            took.append(time.monotonic() - began)
        assert sorted(took)[98] < 1.0
        assert statuses(gateway.exchange(post())) == [202]
        assert closed(half_bodies) == 0
        deadline = time.monotonic() + 10
        over = 0
        while over < 200:
            assert time.monotonic() < deadline, f"{over} of 200 callers with half a header were sent away"
            gone = [caller for caller in half_headers if closed([caller])]
            over += len(gone)
            half_headers = [caller for caller in half_headers if caller not in gone]
            time.sleep(0.05)
        assert statuses(gateway.exchange(LIVEZ)) == [200]


def test_one_address_cannot_take_every_place(gateway: Server) -> None:
    with contextlib.ExitStack() as stack:
        # A hundred are let in; of the others each may have been sent away for a call of ours that was just under way.
        callers(stack, gateway.port, 120, "127.0.0.2", HALF_BODY)

        def is_refused() -> bool:
            (one_more,) = callers(stack, gateway.port, 1, "127.0.0.2", LIVEZ)
            return b" 429 " in one_more.recv(65536).splitlines()[0]

        eventually(is_refused)  # once the gateway has read what they sent
        assert statuses(gateway.exchange(LIVEZ)) == [200]
