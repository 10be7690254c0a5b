"""An HTTP server that answers as it is told, byte by byte if need be, and remembers what it took."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from assistance.testing.behaviour import Script, Trouble, close
from assistance.testing.tcp_server import TcpServer


@dataclass(frozen=True, kw_only=True)
class Received:
    """A request that was read completely."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer to give; `accept` says whether the message was taken before it."""

    http_status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    accept: bool = True


@dataclass(frozen=True, kw_only=True)
class Raw:
    """Bytes to send instead of an answer, with a pause after each when `pause_seconds` is set."""

    wire: bytes
    pause_seconds: float = 0


class FakeHttpServer(TcpServer):
    """One request per connection. Subclasses say what taking a request means, and what is answered."""

    _DRIP: ClassVar[float] = 0.05

    def __init__(self) -> None:
        super().__init__()
        self.script = Script()
        self.received: list[Received] = []

    @property
    def url(self) -> str:
        """The address of the server."""
        return f"http://127.0.0.1:{self.port}/"

    @property
    def visible(self) -> list[Any]:
        """The requests that were taken."""
        return self.received

    def provoke(self, trouble: Trouble) -> None:
        """Let a trouble happen to the next connection."""
        if trouble is Trouble.REFUSED:
            self.refuse()
        elif trouble is Trouble.BUSY:
            self.script.upcoming.append(Reply(http_status=429, headers={"Retry-After": "7"}, accept=False))
        elif trouble is Trouble.DRIP:
            wire = b"HTTP/1.1 200 OK\r\nX-Padding: " + b"x" * 10_000
            self.script.upcoming.append(Raw(wire=wire, pause_seconds=self._DRIP))
        elif trouble is Trouble.GARBAGE:
            self.script.upcoming.append(Raw(wire=b"\x00\xff this is no HTTP\r\n\r\n"))
        else:
            self.script.upcoming.append(trouble)

    def take(self, request: Received) -> Reply:
        """Take a request and say what to answer."""
        self.received.append(request)
        return Reply()

    def serve(self, sock: socket.socket) -> None:
        """Read one request and treat it as the script says."""
        behaviour = self.script.next_or(None)
        if behaviour is Trouble.CUT_UNREAD:
            close(sock, reset=True)
            return
        request = _read(sock)
        if request is None:
            return
        usual = self.take(request) if not (isinstance(behaviour, Reply) and not behaviour.accept) else None
        if behaviour is None and usual is not None:
            _answer(sock, usual)
        elif isinstance(behaviour, Reply):
            _answer(sock, behaviour)
        elif isinstance(behaviour, Raw):
            self._drip(sock, behaviour)
        elif behaviour is Trouble.SILENT:
            self.stopped.wait()
        else:
            close(sock, reset=behaviour is Trouble.CUT_BY_RST)

    def _drip(self, sock: socket.socket, raw: Raw) -> None:
        if not raw.pause_seconds:
            sock.sendall(raw.wire)
            return
        for position in range(len(raw.wire)):
            sock.sendall(raw.wire[position : position + 1])
            if self.stopped.wait(raw.pause_seconds):
                return


def _read(sock: socket.socket) -> Received | None:
    """One request; none when the connection was only opened and closed."""
    with sock.makefile("rb") as stream:
        first = stream.readline()
        if not first:
            return None
        method, target, _ = first.decode("latin-1").split(" ", 2)
        headers = {}
        while (line := stream.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        body = stream.read(int(headers.get("content-length", "0")))
    return Received(method=method, target=target, headers=headers, body=body)


def _answer(sock: socket.socket, reply: Reply) -> None:
    headers = {"Content-Length": str(len(reply.body)), "Connection": "close", **reply.headers}
    head = f"HTTP/1.1 {reply.http_status} Told\r\n" + "".join(f"{name}: {headers[name]}\r\n" for name in headers)
    sock.sendall(head.encode("latin-1") + b"\r\n" + reply.body)
