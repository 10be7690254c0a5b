"""A bot's side of the API, in the standard library alone.

    from assistance.client import Client

    client = Client("http://127.0.0.1:8080", key="asst_…")
    accepted = client.ask("sales", "A customer wants an offer for 40 seats.", customer={"name": "Ada"})
    print(accepted.ref, client.wait(accepted.id, seconds=20)["status"])

Whatever happens on the way, a call that was not refused for good is made again with the same `Idempotency-Key`: nobody
is told twice.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from http.client import HTTPException, HTTPResponse
from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from assistance.runtime.clock import Backoff, Deadline, random_fraction, sleep
from assistance.runtime.retry_after import seconds_asked_for

Result = TypeVar("Result")

_CALL_SECONDS = 10.0
#: The API holds a call that waits for so long, and sends at least a comment so often while it streams.
_LONGEST_WAIT_SECONDS = 60
_QUIET_SECONDS = 15.0
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 30.0


class Failed(Exception):
    """A call had no success; the text says why, for people."""


class Refused(Failed):
    """The API refused the call for good: it has to be mended. `problem` is the whole problem document (RFC 9457)."""

    def __init__(self, http_status: int, problem: Mapping[str, Any]) -> None:
        super().__init__(_words_of(problem))
        self.http_status = http_status
        self.problem = problem

    @property
    def code(self) -> str:
        """What kind of refusal it is, such as `unknown-topic`; docs/problems.md lists them."""
        return str(self.problem.get("code", "unknown"))


class NotAccepted(Failed):
    """No useful answer came as long as there was patience.

    The request may have been accepted all the same: asking again with the same key finds out.
    """


@dataclass(frozen=True, kw_only=True, slots=True)
class Accepted:
    """A request that is on disk and will be told to people."""

    id: str
    ref: str  # the short code that people see
    topic: str
    status: str
    created_at: datetime
    url: str  # where to look at it
    joined: bool = False  # it was added to the open request with the same `dedup_key`


class Client:
    """Calls one API. Thread-safe.

    `key` is an API key, or a JSON Web Token that the API knows. `patience_seconds` is how long a call is made again
    while the API is away, busy or out of order. Raises `ValueError` for a URL or a key that is none.
    """

    def __init__(
        self, url: str = "http://127.0.0.1:8080", *, key: str | None = None, patience_seconds: float = 60.0
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or not url.isprintable() or " " in url:
            raise ValueError(f"{url!r} is no address such as http://127.0.0.1:8080")
        if key is not None and not (key.isascii() and key.isprintable() and key.strip() == key != ""):
            raise ValueError("an API key has printable ASCII characters only")
        self.url = url.rstrip("/")
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._patience = patience_seconds
        self._open = build_opener(_NoRedirects).open

    def ask(self, topic: str, description: str, *, idempotency_key: str | None = None, **members: Any) -> Accepted:
        """Ask for assistance; returns once the request is on disk. `members` are those of docs/api.md, such as `title`.

        A bot that may crash itself gives a key of its own, to ask again with it. Raises `Refused`, `NotAccepted`, and
        `ValueError` for a key that no header can hold.
        """
        body = {"topic": topic, "description": description, **members}
        return self._call("POST", "/assistance", self._accepted, body=body, headers=_once(idempotency_key))

    def look(self, request_id: str) -> dict[str, Any]:
        """Where a request is, as docs/api.md says. Raises `Refused` (`not-found`, for one) and `NotAccepted`."""
        return self._call("GET", _path(request_id), _object)

    def follow_up(
        self, request_id: str, text: str, *, author: str = "bot", idempotency_key: str | None = None
    ) -> dict[str, Any]:
        """Add to a request; returns once it is on disk. People read it where they read the request.

        `author` may be `customer`. Raises as `ask` does.
        """
        path, body = f"{_path(request_id)}/messages", {"text": text, "from": author}
        return self._call("POST", path, _object, body=body, headers=_once(idempotency_key))

    def cancel(self, request_id: str, reason: str | None = None) -> dict[str, Any]:
        """Call a request off; where it is then. A second time changes nothing. Raises `Refused` and `NotAccepted`."""
        return self._call("POST", f"{_path(request_id)}/cancel", _object, body={"reason": reason})

    def wait(self, request_id: str, seconds: float = 60.0) -> dict[str, Any]:
        """Where a request is, once it is known whether people were told, or else after so many seconds.

        Raises as `look` does.
        """
        deadline = Deadline.after(seconds)
        while True:
            left = max(0.0, deadline.remaining())
            held = min(_LONGEST_WAIT_SECONDS, round(left))
            found, asked = self._call(
                "GET",
                _path(request_id),
                lambda answer: (_object(answer), seconds_asked_for(answer.headers.get("Retry-After"))),
                headers={"Prefer": f"wait={held}"} if held else {},
                waits=held,
            )
            if found["status"] not in ("scheduled", "accepted") or deadline.remaining() < 1:
                return found
            # Too many wait at the API already: then it says when to ask again.
            sleep(min(asked or 0.0, max(0.0, deadline.remaining())))

    def events(self, request_id: str, *, after: int = 0) -> Iterator[dict[str, Any]]:
        """What happened to a request, oldest first, and what happens from now on, until it has ended.

        Each event comes once, whatever happens on the way; `after` is the version of the last one that is known.
        Raises as `look` does.
        """
        more = True
        while more:
            headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
            stream = self._call("GET", f"{_path(request_id)}/events", _as_it_is, headers=headers, waits=_QUIET_SECONDS)
            more, again = stream.status != 204, 1.0
            with stream:
                for name, value in _fields(stream):
                    if name == "retry":
                        again = float(value) / 1000
                    elif name == "data" and (event := json.loads(value))["version"] > after:
                        after = event["version"]
                        yield event
            if more:
                sleep(again)

    def requests(self, **filters: str | int) -> Iterator[dict[str, Any]]:
        """The requests of this client, newest first; `filters` such as `status` are those of docs/api.md.

        Raises `Refused` and `NotAccepted`.
        """
        while True:
            page = self._call("GET", f"/assistance?{urlencode(filters)}", _object)
            yield from page["data"]
            if page["next_cursor"] is None:
                return
            filters["cursor"] = page["next_cursor"]

    def topics(self) -> list[dict[str, Any]]:
        """What requests may be about, and who is told then. Raises `Refused` and `NotAccepted`."""
        found: list[dict[str, Any]] = self._call("GET", "/topics", _object)["data"]
        return found

    def _accepted(self, response: HTTPResponse) -> Accepted:
        answer = _object(response)
        return Accepted(
            id=answer["id"],
            ref=answer["ref"],
            topic=answer["topic"],
            status=answer["status"],
            created_at=datetime.fromisoformat(answer["created_at"]),
            url=self.url + answer["links"]["self"],
            joined=bool(answer.get("joined", False)),
        )

    def _call(
        self,
        method: str,
        path: str,
        read: Callable[[HTTPResponse], Result],
        *,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        waits: float = 0.0,
    ) -> Result:
        """Make a call until it has an answer, which the API may hold back for so many seconds when it `waits`."""
        deadline = Deadline.after(self._patience + waits)
        backoff = Backoff(first=_FIRST_PAUSE_SECONDS, most=_LONGEST_PAUSE_SECONDS)
        call = Request(self.url + path, method=method, headers={**self._headers, **(headers or {})})  # noqa: S310 (the caller names the URL)
        if body is not None:
            call.data = json.dumps(body).encode()
            call.add_header("Content-Type", "application/json")
        while True:
            asked = None
            try:
                return read(self._open(call, timeout=max(0.1, min(_CALL_SECONDS + waits, deadline.remaining()))))
            except HTTPError as error:
                with error:
                    problem = _problem_in(error)
                if error.code < 500 and error.code not in (408, 429):
                    raise Refused(error.code, problem) from error
                reason, asked = _words_of(problem), seconds_asked_for(error.headers.get("Retry-After"))
            except (OSError, HTTPException, ValueError, KeyError, TypeError) as error:
                words = getattr(error, "reason", None) or str(error) or type(error).__name__
                reason = f"{self.url} gives no answer that could be understood: {words}."
            # Later than asked, and everybody at another moment: they all heard the same.
            pause = backoff.next_seconds() if asked is None else asked * (1 + 0.2 * random_fraction())
            if pause >= deadline.remaining():
                raise NotAccepted(reason)
            sleep(pause)


class _NoRedirects(HTTPRedirectHandler):
    """The API redirects nobody; whoever else does must not get the key."""

    def redirect_request(self, *_args: Any, **_more: Any) -> None:
        return None


def _path(request_id: str) -> str:
    return f"/assistance/{quote(request_id, safe='')}"


def _once(key: str | None) -> dict[str, str]:
    """The header by which a repeat of a call is known as one."""
    key = str(uuid.uuid4()) if key is None else key
    if not (key.isascii() and key.isprintable()):
        raise ValueError("an idempotency key has printable ASCII characters only")
    quoted = key.replace("\\", "\\\\").replace('"', '\\"')
    return {"Idempotency-Key": f'"{quoted}"'}


def _as_it_is(answer: HTTPResponse) -> HTTPResponse:
    return answer


def _object(answer: HTTPResponse) -> dict[str, Any]:
    with answer:
        return dict(json.load(answer))


def _fields(stream: HTTPResponse) -> Iterator[tuple[str, str]]:
    """The fields of server-sent events; a stream that breaks off is one that ends."""
    try:
        for line in stream:
            if not line.endswith(b"\n"):
                return
            name, _, value = line.decode().rstrip("\r\n").partition(":")
            if name:
                yield name, value.removeprefix(" ")
    except (OSError, HTTPException, ValueError):
        return


def _problem_in(error: HTTPError) -> Mapping[str, Any]:
    try:
        problem = json.load(error)
    except (OSError, HTTPException, ValueError):
        return {}
    return problem if isinstance(problem, dict) else {}


def _words_of(problem: Mapping[str, Any]) -> str:
    try:
        detail = str(problem["detail"])
        mistakes = [str(each["message"]) for each in problem.get("errors", ())]
    except (KeyError, TypeError):
        return "The API refused without saying why."
    return " ".join([detail, *(mistake for mistake in mistakes if mistake not in detail)])  # it tells the first of them
