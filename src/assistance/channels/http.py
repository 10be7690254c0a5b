"""One HTTP request: no redirects, no proxies, no second try, over by the deadline.

Channel types that speak HTTP share it, so that the line between "certainly not sent" (`NotConnected`) and "may have
been sent" (`NoAnswer`) is drawn in one place.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from assistance.channels.http_line import Line
from assistance.channels.kept import Kept
from assistance.channels.wire import NotConnected, Resolve, connect, ended_at, explain, resolve, secure, wait_until
from assistance.domain.outcome import NO_TIME
from assistance.runtime.clock import Deadline
from assistance.runtime.retry_after import LONGEST_WAIT_SECONDS, seconds_asked_for

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
    """A status and headers that came back; `is_whole` is false when the body was cut short or was too long."""

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


def post(
    endpoint: Endpoint,
    body: bytes,
    headers: Mapping[str, str],
    deadline: Deadline,
    *,
    find: Resolve = resolve,
    kept: Kept[Line] | None = None,
    most_body_bytes: int = _MOST_BODY_BYTES,
) -> Answer:
    """Send one POST and read the answer; it goes to one of the addresses that `find` answers.

    With `kept` it goes over a connection of an earlier call where there is one, and leaves its own for the next.
    Raises `NotConnected` when nothing was sent, and `NoAnswer` when something was and no status came back.
    """
    request = _Request(endpoint, "POST", body, headers, stays=kept is not None)
    with _line_to(endpoint, deadline, find, kept) as line:
        return _answer(line, _exchange(line, request, deadline), most_body_bytes)


def get(endpoint: Endpoint, headers: Mapping[str, str], deadline: Deadline) -> Answer:
    """Send one GET and read the answer. Raises `NotConnected` and `NoAnswer`."""
    request = _Request(endpoint, "GET", None, headers, stays=False)
    with _line_to(endpoint, deadline, resolve, None) as line:
        return _answer(line, _exchange(line, request, deadline), _MOST_BODY_BYTES)


@contextlib.contextmanager
def _line_to(endpoint: Endpoint, deadline: Deadline, find: Resolve, kept: Kept[Line] | None) -> Iterator[Line]:
    """A connection until the end of the block; it is kept when the answer allows it and nothing went wrong."""
    if deadline.has_passed:
        raise NotConnected(NO_TIME, "no time was left to send")
    server = (endpoint.scheme, endpoint.host, endpoint.port)
    line = kept.take(server) if kept is not None else None
    sock = line.sock if line is not None else connect(endpoint.host, endpoint.port, deadline, find)
    stays = False
    try:
        with ended_at(sock, deadline):
            if line is None:
                if endpoint.scheme == "https":
                    sock = secure(sock, endpoint.host)
                line = Line(sock)
            wait_until(sock, deadline)
            yield line
        stays = line.may_stay
    finally:
        if kept is not None and line is not None and stays:
            kept.put(server, line)
        else:
            sock.close()


class _Request(http.client.HTTPConnection):
    """What the library would send in pieces, as one piece, so that it goes out at one instant, and nothing later."""

    def __init__(
        self, endpoint: Endpoint, method: str, body: bytes | None, headers: Mapping[str, str], *, stays: bool
    ) -> None:
        super().__init__(endpoint.host, endpoint.port)
        self.method = method
        self.host_name = endpoint.host
        self.wire = bytearray()
        own = {"Host": endpoint.authority, "Connection": "keep-alive" if stays else "close"}
        if endpoint.authorization:
            own["Authorization"] = endpoint.authorization
        try:
            self.request(method, endpoint.target, body, {**headers, **own})
        except (http.client.HTTPException, ValueError) as error:
            raise NotConnected("bad_request", f"the request cannot be written ({explain(error)})") from error

    def send(self, data: Any) -> None:
        """Keep it."""
        self.wire += data


def open_connection(endpoint: Endpoint, deadline: Deadline) -> None:
    """Prove that the endpoint takes connections, and proves who it is when it is https.

    Raises `NotConnected`.
    """
    sock = connect(endpoint.host, endpoint.port, deadline)
    with sock, ended_at(sock, deadline):
        if endpoint.scheme == "https":
            secure(sock, endpoint.host).close()


def retry_after_seconds(answer: Answer, *, otherwise: float | None, most: float = LONGEST_WAIT_SECONDS) -> float | None:
    """The waiting time that the answer asks for, in seconds, `most` of them; `otherwise` when it names none.

    Of several `Retry-After` headers the last counts.
    """
    asked = seconds_asked_for(answer.header("retry-after"), most=most)
    return otherwise if asked is None else asked


def _exchange(line: Line, request: _Request, deadline: Deadline) -> http.client.HTTPResponse:
    """Send the request and read the head of the answer.

    A process that was stopped for a while must not send after its lease: nothing may stand between looking at the
    clock and sending. (The watchdog may be a moment late then.)
    """
    if deadline.has_passed:
        raise NotConnected(NO_TIME, "no time was left to send")
    try:
        line.sock.sendall(request.wire)
        return line.answer_to(request.method)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NoAnswer("no_answer", f"{request.host_name} gave no answer ({explain(error)})") from error


def _answer(line: Line, response: http.client.HTTPResponse, most_bytes: int) -> Answer:
    with response:
        content, is_whole = _read(response, most_bytes)
        line.may_stay = is_whole and line.is_between_calls(response)
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(http_status=response.status, headers=found, body=content, is_whole=is_whole)


def _read(response: http.client.HTTPResponse, most_bytes: int) -> tuple[bytes, bool]:
    announced = response.length  # None when the body is chunked or ends with the connection
    try:
        content = response.read(most_bytes + 1)
    except (OSError, http.client.HTTPException, ValueError):
        return b"", False
    is_whole = len(content) <= most_bytes and announced in (None, len(content))
    return content[:most_bytes], is_whole
