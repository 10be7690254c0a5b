"""Operations that replay dead letters, while the process that carries them out is killed."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from uuid import UUID

from sqlalchemy import text

from assistance.domain.operator import Actor
from assistance.operating import jobs
from assistance.storage.database import Database
from tests.e2e.installation import wait_until

#: So slowly that a batch is one letter or two, and there are several batches.
_PER_SECOND = 5.0
_LETTERS = text(
    "SELECT l.id FROM dead_letters l JOIN deliveries d ON d.id = l.delivery_id JOIN requests r ON r.id = d.request_id"
    " WHERE r.description LIKE :mine"
)
_SERIES = text("SELECT series FROM deliveries d JOIN requests r ON r.id = d.request_id WHERE r.description LIKE :mine")
_LINES = text("SELECT count(DISTINCT subject) FROM audit WHERE operation_id = :operation AND action = 'replay'")


class Replays:
    """One operation for the dead letters of each visit."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._ordered: dict[str, UUID] = {}

    def order_once(self, mine: str, number: int) -> None:
        """Order the replay of all letters of these requests, of which there are so many."""
        if mine in self._ordered:
            return
        with self._database.transaction() as connection:
            letters = connection.scalars(_LETTERS, {"mine": f"{mine}%"}).all()
            self._ordered[mine] = jobs.begin(
                connection,
                "replay",
                {"ids": ",".join(map(str, letters))},
                shown=number,
                per_second=_PER_SECOND,
                actor=Actor(name="fault-loop", via="command"),
            )

    def problems(self, mine: str, number: int, seconds: float) -> list[str]:
        """Wait for the end of the operation; what is wrong with it, and with what it replayed."""
        if mine not in self._ordered:
            return ["no operation was ordered"]
        with suppress(AssertionError):
            wait_until(lambda: self._operation(mine).ended_at, seconds=seconds, what="the operation has ended")
        found, problems = self._operation(mine), []
        if (found.state, found.done, found.refused) != ("done", number, 0):
            problems.append(f"the operation is {found.state} with {found.done} done and {found.refused} refused")
        with self._database.transaction() as connection:
            series = connection.scalars(_SERIES, {"mine": f"{mine}%"}).all()
            lines = connection.scalar(_LINES, {"operation": found.id})
        if set(series) != {2} or lines != number:
            problems.append(f"the series are {series}, and the audit log tells of {lines} replays")
        return problems

    def _operation(self, mine: str) -> Any:
        with self._database.transaction() as connection:
            return jobs.show(connection, self._ordered[mine])
