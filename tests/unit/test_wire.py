"""Connections end by the deadline, whatever the name service does."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest

from assistance.channels.wire import NotConnected, connect, ended_at, peer_has_left
from assistance.runtime.clock import Deadline, monotonic


def looked_up(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    real = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, **named: Any) -> Any:
        if host == "name.test" and not named.get("flags"):
            return answer()
        return real(host, port, **named)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_an_unknown_name_is_not_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    looked_up(monkeypatch, unknown)
    with pytest.raises(NotConnected, match=r"name\.test") as problem:
        connect("name.test", 80, Deadline.after(5))
    assert problem.value.code == "dns_failed"


def test_a_name_service_that_hangs_does_not_outlast_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    looked_up(monkeypatch, lambda: ended.wait(10) and [])
    started = monotonic()
    with pytest.raises(NotConnected) as problem:
        connect("name.test", 80, Deadline.after(0.2))
    ended.set()
    assert problem.value.code == "dns_timeout"
    assert monotonic() - started < 1.2


def test_the_next_address_is_tried_when_nobody_listens_on_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        kind = (socket.AF_INET, socket.SOCK_STREAM, 0, "")
        port = server.getsockname()[1]
        looked_up(monkeypatch, lambda: [(*kind, ("127.0.0.2", port)), (*kind, ("127.0.0.1", port))])
        with connect("name.test", port, Deadline.after(5)) as sock:
            assert sock.getpeername() == ("127.0.0.1", port)


def test_a_blocked_read_ends_at_the_deadline_and_a_peer_that_left_is_noticed() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert not peer_has_left(ours)
        theirs.sendall(b"x")
        assert not peer_has_left(ours)
        started = monotonic()
        with ended_at(ours, Deadline.after(0.2)):
            assert ours.recv(1) == b"x"
            assert ours.recv(1) == b""
        assert monotonic() - started < 1.2
        theirs.close()
        assert peer_has_left(ours)
