"""One HTTP request on one connection: no redirects, no proxies, no second try, over by the deadline.

Channel types that speak HTTP share it, so that the line between "certainly not sent" (`NotConnected`) and "may have
been sent" (`NoAnswer`) is drawn in one place.
"""

from __future__ import annotations

import base64
import http.client
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from assistance.channels.wire import NotConnected, connect, ended_at, explain, secure
from assistance.domain.outcome import NO_TIME
from assistance.runtime.clock import Deadline
from assistance.runtime.retry_after import seconds_asked_for

_MOST_BODY_BYTES = 1024 * 1024


class NoAnswer(Exception):
    """The request went out, at least in part, and no answer could be understood."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """A checked http or https address; credentials of the URL become `authorization`."""

    scheme: str
    host: str
    port: int
    authority: str
    target: str
    authorization: str | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A status and headers that came back; `is_whole` is false when the body was cut short or is over 1 MiB."""

    http_status: int
    headers: Mapping[str, str]
    body: bytes
    is_whole: bool

    def header(self, name: str) -> str | None:
        """A header's value, whatever its case."""
        return self.headers.get(name.lower())


def parse_endpoint(url: str) -> Endpoint:
    """Check and split a URL.

    Raises `ValueError` with a sentence that quotes nothing of it.
    """
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("the URL may only hold printable ASCII characters and no spaces")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("the URL must look like https://host/path")
    if parts.fragment:
        raise ValueError("the URL may not have a fragment (#)")
    authorization = None
    if parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(credentials.encode()).decode()
    return Endpoint(
        scheme=parts.scheme,
        host=parts.hostname,
        port=parts.port or (443 if parts.scheme == "https" else 80),
        authority=parts.netloc.rpartition("@")[2],
        target=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
        authorization=authorization,
    )


def post(endpoint: Endpoint, body: bytes, headers: Mapping[str, str], deadline: Deadline) -> Answer:
    """Send one POST and read the answer.

    Raises `NotConnected` when nothing was sent, and `NoAnswer` when something was and no status came back.
    """
    if deadline.has_passed:
        raise NotConnected(NO_TIME, "no time was left to send")
    sock = connect(endpoint.host, endpoint.port, deadline)
    with sock, ended_at(sock, deadline):
        if endpoint.scheme == "https":
            sock = secure(sock, endpoint.host)
        with sock:
            return _exchange(_Connection(endpoint, sock), endpoint, body, headers, deadline)


class _Connection(http.client.HTTPConnection):
    """Keeps what the library sends in pieces, so that it goes out at one instant, and nothing of it later."""

    def __init__(self, endpoint: Endpoint, sock: socket.socket) -> None:
        super().__init__(endpoint.host, endpoint.port)
        self.sock = sock
        self._kept = bytearray()

    def send(self, data: Any) -> None:
        """Keep it."""
        self._kept += data

    def send_everything(self, deadline: Deadline) -> None:
        """Send what was kept; raises `NotConnected` when it is too late for that.

        A process that was stopped for a while must not send after its lease: nothing may stand between looking at the
        clock and sending. (The watchdog may be a moment late then.)
        """
        if deadline.has_passed:
            raise NotConnected(NO_TIME, "no time was left to send")
        self.sock.sendall(self._kept)


def open_connection(endpoint: Endpoint, deadline: Deadline) -> None:
    """Prove that the endpoint takes connections, and proves who it is when it is https.

    Raises `NotConnected`.
    """
    sock = connect(endpoint.host, endpoint.port, deadline)
    with sock, ended_at(sock, deadline):
        if endpoint.scheme == "https":
            secure(sock, endpoint.host).close()


def retry_after_seconds(answer: Answer, *, otherwise: float | None) -> float | None:
    """The waiting time that the answer asks for, in seconds; `otherwise` when it names none.

    Of several `Retry-After` headers the last counts.
    """
    asked = seconds_asked_for(answer.header("retry-after"))
    return otherwise if asked is None else asked


def _exchange(
    connection: _Connection, endpoint: Endpoint, body: bytes, headers: Mapping[str, str], deadline: Deadline
) -> Answer:
    own = {"Host": endpoint.authority, "Connection": "close"}
    if endpoint.authorization:
        own["Authorization"] = endpoint.authorization
    try:
        connection.request("POST", endpoint.target, body, {**headers, **own})
        connection.send_everything(deadline)
        response = connection.getresponse()
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NoAnswer("no_answer", f"{endpoint.host} gave no answer ({explain(error)})") from error
    with response:
        content, is_whole = _read(response)
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(http_status=response.status, headers=found, body=content, is_whole=is_whole)


def _read(response: http.client.HTTPResponse) -> tuple[bytes, bool]:
    announced = response.length  # None when the body is chunked or ends with the connection
    try:
        content = response.read(_MOST_BODY_BYTES + 1)
    except (OSError, http.client.HTTPException, ValueError):
        return b"", False
    is_whole = len(content) <= _MOST_BODY_BYTES and announced in (None, len(content))
    return content[:_MOST_BODY_BYTES], is_whole
