"""Fires what is due of requests: a step of their fallback, their beginning, their expiry, their end."""

from __future__ import annotations

from typing import Any

import structlog
from sqlalchemy import Connection, Row, func, select

from assistance.deliveries.fallback import FALLBACK_TIMER, begin_due_step
from assistance.deliveries.schedule import Timer, fire
from assistance.domain.request import RequestStatus
from assistance.runtime.faults import fault_point
from assistance.storage.database import Database
from assistance.storage.tables import requests, timers

log = structlog.get_logger()

#: Their requests stay locked until the transaction ends, and nobody can settle them meanwhile.
_LIMIT = 25


_IS_DUE = select(select(timers).where(timers.c.due_at <= func.now()).exists())


class Timers:
    """Fires what is due. Any number may run at once, in any process; a timer fires once."""

    def __init__(self, database: Database, *, worker: str, check_after_seconds: float) -> None:
        self._database = database
        self._worker = worker
        self._check_after = check_after_seconds

    def one_pass(self) -> bool:
        """Work on one batch, in one transaction; true when there may be more. While nothing is due, it only looks."""
        with self._database.look() as connection:
            if not connection.scalar(_IS_DUE):
                return False
        found, fired = self._database.run(self._fire)
        if fired:
            log.info("conciliation.timers_fired", requests=fired)
            fault_point("timers.after_commit")
        return found >= _LIMIT

    def _fire(self, connection: Connection) -> tuple[int, int]:
        # Whoever holds the lock of a request is about to change it, perhaps to move the very timer: it is passed over
        # until the next pass. The timer is read again under the lock, because this snapshot is older than that.
        due = connection.execute(
            select(requests.c.id, timers.c.kind)
            .join(timers, timers.c.subject == requests.c.id)
            .where(timers.c.due_at <= func.now())
            .where((timers.c.kind != FALLBACK_TIMER) | (requests.c.status == RequestStatus.ACCEPTED))
            .order_by(timers.c.due_at)
            .limit(_LIMIT)
            .with_for_update(of=requests, key_share=True, skip_locked=True)
        ).all()
        fired = sum(self._fire_one(connection, row) for row in due)
        if fired:
            fault_point("timers.before_commit")
        return len(due), fired

    def _fire_one(self, connection: Connection, timer: Row[Any, Any]) -> bool:
        if timer.kind == FALLBACK_TIMER:
            return begin_due_step(connection, timer.id, actor=self._worker, check_after=self._check_after)
        return fire(connection, timer.id, Timer(timer.kind), actor=self._worker, check_after=self._check_after)
