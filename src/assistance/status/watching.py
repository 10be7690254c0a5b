"""Waiting for news of requests: one thread of the process asks the database for everybody who waits, together.

Nobody who waits holds a database connection, and while nobody waits nothing is asked.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import func, select

from assistance.runtime.clock import Deadline
from assistance.runtime.loop import run_passes
from assistance.storage.database import Database
from assistance.storage.tables import requests

#: How often the database is asked while somebody waits.
_EVERY_SECONDS = 0.1
_LOOK_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Glance:
    """As much of a request as tells whether there is news: its version, the API's one word for it, whether it ended."""

    version: int
    status: str
    has_ended: bool


#: What the requests look like now; those that are gone are left out. Raises `DatabaseUnavailable`.
Look = Callable[[Collection[UUID]], Mapping[UUID, Glance]]


def glances_at(database: Database, request_ids: Collection[UUID]) -> dict[UUID, Glance]:
    """What the requests look like now, in one statement; those that are gone are left out.

    Raises `DatabaseUnavailable`.
    """
    status = func.coalesce(requests.c.handling, requests.c.status).label("status")
    statement = select(requests.c.id, requests.c.state_version, status, requests.c.ended_at)
    with database.transaction(Deadline.after(_LOOK_SECONDS)) as connection:
        rows = connection.execute(statement.where(requests.c.id.in_(request_ids))).all()
    return {
        row.id: Glance(version=row.state_version, status=row.status, has_ended=row.ended_at is not None) for row in rows
    }


class _Waiter:
    """Somebody who waits for `done` to hold of a request."""

    def __init__(self, request_id: UUID, done: Callable[[Glance], bool]) -> None:
        self.request_id = request_id
        self.found: Glance | None = None
        self.answered = threading.Event()
        self._done = done

    def see(self, glance: Glance | None) -> None:
        if glance is None or self._done(glance):
            self.found = glance
            self.answered.set()


class Watcher:
    """Lets any number of threads wait for news. Thread-safe; its own thread begins with the first who waits."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._waiters: set[_Waiter] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    @property
    def is_stopped(self) -> bool:
        """Whether nobody can wait any more."""
        return self._stop.is_set()

    def wait(self, request_id: UUID, done: Callable[[Glance], bool], deadline: Deadline) -> Glance | None:
        """The first glance for which `done` holds.

        None when there was none by the deadline, which is also how an outage of the database ends, or when the request
        is gone; none at once when the process is being stopped.
        """
        waiter = _Waiter(request_id, done)
        with self._changed:
            if self._stop.is_set():
                return None
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="watching", daemon=True)
                self._thread.start()
            self._waiters.add(waiter)
            self._changed.notify_all()
        try:
            waiter.answered.wait(deadline.remaining())
        finally:
            with self._changed:
                self._waiters.discard(waiter)
        return waiter.found

    def stop(self) -> None:
        """Send everybody who waits away, and whoever comes after."""
        with self._changed:
            self._stop.set()
            for waiter in self._waiters:
                waiter.answered.set()
            self._changed.notify_all()

    def _run(self) -> None:
        run_passes("watching", self._one_pass, self._pause, self._stop)

    def _one_pass(self) -> bool:
        with self._changed:
            waiters = tuple(self._waiters)
        if waiters:
            glances = self._look({waiter.request_id for waiter in waiters})
            for waiter in waiters:
                waiter.see(glances.get(waiter.request_id))
        return False

    def _pause(self) -> None:
        self._stop.wait(_EVERY_SECONDS)
        with self._changed:
            self._changed.wait_for(lambda: self._waiters or self._stop.is_set())
