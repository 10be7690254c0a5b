"""How many requests of one client may be open at once, so that one client's backlog does not become everybody's."""

from __future__ import annotations

import threading

from sqlalchemy import Text, bindparam, func, literal, select

from assistance.domain.errors import DatabaseUnavailable
from assistance.runtime.clock import Deadline, monotonic
from assistance.storage.database import Database
from assistance.storage.tables import clients, requests

_FRESH_SECONDS = 1.0
_COUNT_SECONDS = 1.0
_MOST_CLIENTS = 10_000

_CLIENT = bindparam("client_name", type_=Text)
_MOST_OPEN = select(
    func.coalesce(
        select(clients.c.open_requests).where(clients.c.name == _CLIENT).scalar_subquery(), bindparam("otherwise")
    )
)
_COUNT = select(func.count()).select_from(
    select(literal(1))
    .where(requests.c.client == _CLIENT, requests.c.ended_at.is_(None))
    .limit(bindparam("most"))
    .subquery()
)


class OpenRequests:
    """Counts the open requests of each client, at most once a second however much it submits. Thread-safe.

    What this process has let in since is added, what others have is not: within a second a client may come by as many
    too many. `most` is the limit of a client that has none of its own. Callers without a name have none.
    """

    def __init__(self, database: Database, most: int) -> None:
        self._database = database
        self._most = most
        self._counted: dict[str, _Counted] = {}
        self._adding = threading.Lock()

    def has_room(self, client: str, deadline: Deadline) -> bool:
        """Whether the client may open another request now; true when nobody can say."""
        if not client:
            return True
        counted = self._counted.get(client) or self._add(client)
        if monotonic() - counted.at > _FRESH_SECONDS and counted.lock.acquire(blocking=False):
            try:
                counted.room = self._room(client, Deadline.after(min(_COUNT_SECONDS, deadline.remaining())))
            except DatabaseUnavailable:
                pass  # the caller is about to find out by itself
            finally:
                counted.at = monotonic()
                counted.lock.release()
        return counted.take()

    def _room(self, client: str, deadline: Deadline) -> int:
        with self._database.transaction(deadline) as connection:
            most: int = connection.execute(_MOST_OPEN, {"client_name": client, "otherwise": self._most}).scalar_one()
            return most - connection.execute(_COUNT, {"client_name": client, "most": most}).scalar_one()

    def _add(self, client: str) -> _Counted:
        with self._adding:
            if len(self._counted) >= _MOST_CLIENTS:
                long_ago = monotonic() - _FRESH_SECONDS
                self._counted = {name: known for name, known in self._counted.items() if known.at > long_ago}
            return self._counted.setdefault(client, _Counted(self._most))


class _Counted:
    """How much room a client had when it was last counted, less what was let in since."""

    def __init__(self, room: int) -> None:
        self.lock = threading.Lock()
        self.room = room
        self.at = float("-inf")
        self._taking = threading.Lock()

    def take(self) -> bool:
        with self._taking:
            self.room -= 1
            return self.room >= 0
