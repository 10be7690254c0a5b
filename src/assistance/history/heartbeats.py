"""Who is at work: every worker process says every ten seconds that it is there, and what it has in hand."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from assistance import __version__
from assistance.runtime.clock import Deadline
from assistance.storage.database import Database
from assistance.storage.plain import plain_json

EVERY_SECONDS = 10.0
_SECONDS = 5.0
#: One statement, because it is said all day long. Whoever was not seen for an hour will not come back under this name.
_BEAT = """
WITH gone AS (
    DELETE FROM heartbeats WHERE seen_at < now() - interval '1 hour' AND worker <> %(worker)s
)
INSERT INTO heartbeats (worker, role, host, pid, version, in_flight, state, started_at)
VALUES (%(worker)s, %(role)s, %(host)s, %(pid)s, %(version)s, %(in_flight)s, CAST(%(state)s AS jsonb), now())
ON CONFLICT (worker) DO UPDATE
SET in_flight = excluded.in_flight, state = excluded.state, seen_at = now(),
    started_at = CASE WHEN %(is_first)s THEN now() ELSE heartbeats.started_at END
RETURNING worker
"""
_LEAVE = "DELETE FROM heartbeats WHERE worker = %(worker)s RETURNING worker"


class Heart:
    """One process' place among those at work.

    `in_flight` answers how many deliveries it has in hand, `state` what else there is to say about it, as JSON.
    """

    def __init__(
        self,
        database: Database,
        worker: str,
        role: str,
        *,
        in_flight: Callable[[], int],
        state: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._database = database
        self._in_flight = in_flight
        self._state = state
        self._is_first = True
        self._who = {
            "worker": worker,
            "role": role,
            "host": os.uname().nodename,
            "pid": os.getpid(),
            "version": __version__,
        }

    def beat(self) -> bool:
        """Say that it is there; always false. Raises `DatabaseUnavailable`."""
        said = {"in_flight": self._in_flight(), "state": json.dumps(plain_json(self._state()))}
        self._database.run_at_once(_BEAT, {**self._who, **said, "is_first": self._is_first}, Deadline.after(_SECONDS))
        self._is_first = False
        return False

    def leave(self) -> None:
        """Say that it ends as it should: only those that did not are missed. Raises `DatabaseUnavailable`."""
        self._database.run_at_once(_LEAVE, {"worker": self._who["worker"]}, Deadline.after(_SECONDS))
