"""Long polls and streams: calls that wait for news (`Prefer: wait=N`, RFC 7240) without getting into others' way.

A call that waits holds a thread of the server and nothing else. Only so many may do so at once; who comes after them
is answered at once. No client may have more of the seats than are left for others.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

import flask

from assistance.api.operations import Header, Parameter
from assistance.domain.request import RequestStatus
from assistance.runtime.clock import Deadline, monotonic
from assistance.runtime.metrics import waiting_calls
from assistance.status.watching import Glance, Watcher

_MOST_SECONDS = 60
#: When a call that found no place is worth repeating.
_RETRY_AFTER_SECONDS = 2
#: One preference: a name, perhaps a value in quotes or without, perhaps parameters, which `wait` has none of.
_PREFERENCE = re.compile(r"""([!#$%&'*+\-.^_`|~0-9A-Za-z]+)\s*(?:=\s*("[^"]*"|[^\s;,"]*))?\s*(?:;[^,]*)?""")
_SECONDS = re.compile(r"[0-9]{1,9}")


class Seat:
    """The right of one call to wait, until it leaves."""

    def __init__(self, watcher: Watcher, leave: Callable[[], None]) -> None:
        self._watcher = watcher
        self._leave = leave
        self._left = False

    @property
    def must_leave(self) -> bool:
        """Whether the process is being stopped, so that waiting is over."""
        return self._watcher.is_stopped

    def wait(self, request_id: UUID, done: Callable[[Glance], bool], seconds: float) -> Glance | None:
        """See `Watcher.wait`."""
        return self._watcher.wait(request_id, done, Deadline.after(seconds))

    def leave(self) -> None:
        """Make room for another call; once is enough, and twice does no harm."""
        if not self._left:
            self._left = True
            self._leave()


class WaitingRoom:
    """As many seats as calls may wait at once in this process. Thread-safe."""

    def __init__(self, watcher: Watcher, seats: int) -> None:
        self._watcher = watcher
        self._free = seats
        self._taken: Counter[str] = Counter()
        self._lock = threading.Lock()

    def take_seat(self, client: str) -> Seat | None:
        """A seat, to be left again; none when all are taken, or when this client has as many as are free.

        So one client gets half of them at most, two get a third each, and so on: there is always one for the next.
        Callers without a name are nobody's neighbours, and may take them all.
        """
        with self._lock:
            if not self._free or (client and self._taken[client] >= self._free):
                return None
            self._free -= 1
            self._taken[client] += 1
        waiting_calls.inc()
        return Seat(self._watcher, lambda: self._make_free(client))

    def _make_free(self, client: str) -> None:
        with self._lock:
            self._free += 1
            self._taken[client] -= 1
            self._taken += Counter()  # forgets who has none
        waiting_calls.dec()


@dataclass(frozen=True, kw_only=True, slots=True)
class Waited:
    """What became of a wish to wait: the newest glance, whether time went by, and what the answer says about it."""

    glance: Glance
    time_passed: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)


def wait_as_preferred(
    room: WaitingRoom, client: str, request_id: UUID, now: Glance, is_news: Callable[[Glance], bool]
) -> Waited:
    """Wait for news of a request, if the call being answered, of `client`, prefers to, and if `now` is none.

    When time is up, or the database is away for so long, or the request is gone, the newest glance is still `now`.
    """
    seconds = _preferred_seconds()
    if seconds is None:
        return Waited(glance=now)
    applied = {"Preference-Applied": f"wait={seconds}"}
    if is_news(now):
        return Waited(glance=now, headers=applied)
    seat = room.take_seat(client)
    if seat is None:
        return Waited(glance=now, headers={"Retry-After": str(_RETRY_AFTER_SECONDS)})
    began_at = monotonic()
    try:
        news = seat.wait(request_id, is_news, seconds)
    finally:
        seat.leave()
        # What a caller waited by his own wish is no delay of ours: the metrics leave it out.
        flask.g.waited_seconds = monotonic() - began_at
    return Waited(glance=news or now, time_passed=True, headers=applied)


def is_settled(glance: Glance) -> bool:
    """Whether it is known what became of the telling, for the time being."""
    return glance.status not in (RequestStatus.SCHEDULED, RequestStatus.ACCEPTED)


def _preferred_seconds() -> int | None:
    """For how long the call being answered prefers to wait, or none.

    As RFC 7240 has it, the first mention counts, and what cannot be understood is as if it were not there.
    """
    for preference in _PREFERENCE.finditer(flask.request.headers.get("Prefer", "")):
        if preference[1].lower() == "wait":
            value = (preference[2] or "").strip('"')
            return min(_MOST_SECONDS, int(value)) or None if _SECONDS.fullmatch(value) else None
    return None


#: What every operation that waits declares.
PREFER = Parameter(
    name="Prefer",
    place="header",
    description=f"`wait=N`: answer only when there is news, N seconds later at most ({_MOST_SECONDS} at most).",
    example="wait=20",
)
PREFERENCE_APPLIED = Header(
    name="Preference-Applied", description="`wait=N` when the call was answered as `Prefer` asked.", always=False
)
