"""A bot's side of the API, in the standard library alone.

    from assistance.client import Client

    accepted = Client("http://127.0.0.1:8080").ask("sales", "A customer wants an offer for 40 seats.")
    print(accepted.ref, accepted.url)

Whatever happens on the way, a call that was not refused for good is made again with the same `Idempotency-Key`: nobody
is told twice.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from http.client import HTTPException
from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit
from urllib.request import Request, urlopen

from assistance.runtime.clock import Backoff, Deadline, random_fraction, sleep
from assistance.runtime.retry_after import seconds_asked_for

Result = TypeVar("Result")

_CALL_SECONDS = 10.0
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


class Client:
    """Calls one API. Thread-safe.

    `patience_seconds` is how long a call is made again while the API is away, busy or out of order. Raises `ValueError`
    for a URL that is none.
    """

    def __init__(self, url: str = "http://127.0.0.1:8080", *, patience_seconds: float = 60.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or not url.isprintable() or " " in url:
            raise ValueError(f"{url!r} is no address such as http://127.0.0.1:8080")
        self.url = url.rstrip("/")
        self._patience = patience_seconds

    def ask(self, topic: str, description: str, *, idempotency_key: str | None = None) -> Accepted:
        """Ask for assistance; returns once the request is on disk.

        A bot that may crash itself gives a key of its own, to ask again with it. Raises `Refused`, `NotAccepted`, and
        `ValueError` for a key that no header can hold.
        """
        key = str(uuid.uuid4()) if idempotency_key is None else idempotency_key
        if not (key.isascii() and key.isprintable()):
            raise ValueError("an idempotency key has printable ASCII characters only")
        quoted = key.replace("\\", "\\\\").replace('"', '\\"')
        headers = {"Content-Type": "application/json", "Idempotency-Key": f'"{quoted}"'}
        body = json.dumps({"topic": topic, "description": description}).encode()
        return self._call("/assistance", body, headers, self._accepted)

    def look(self, request_id: str) -> dict[str, Any]:
        """Where a request is, as docs/api.md says. Raises `Refused` (`not-found`, for one) and `NotAccepted`."""
        return self._call(f"/assistance/{quote(request_id, safe='')}", None, {}, dict)

    def _accepted(self, answer: Mapping[str, Any]) -> Accepted:
        return Accepted(
            id=answer["id"],
            ref=answer["ref"],
            topic=answer["topic"],
            status=answer["status"],
            created_at=datetime.fromisoformat(answer["created_at"]),
            url=self.url + answer["links"]["self"],
        )

    def _call(self, path: str, body: bytes | None, headers: Mapping[str, str], read: Callable[[Any], Result]) -> Result:
        deadline = Deadline.after(self._patience)
        backoff = Backoff(first=_FIRST_PAUSE_SECONDS, most=_LONGEST_PAUSE_SECONDS)
        while True:
            asked = None
            call = Request(self.url + path, body, dict(headers))  # noqa: S310 (the caller names the URL)
            try:
                with urlopen(call, timeout=max(0.1, min(_CALL_SECONDS, deadline.remaining()))) as answer:  # noqa: S310
                    return read(json.load(answer))
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
