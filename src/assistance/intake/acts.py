"""What a bot does with a request that it made before: it adds to it, or cancels it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, select

from assistance.deliveries.called_off import cancel
from assistance.deliveries.follow_ups import add_follow_up
from assistance.domain.answers import Accepted, IdempotencyKey
from assistance.domain.errors import NotOpen
from assistance.domain.operator import Actor
from assistance.domain.request import Author
from assistance.intake.idempotency import KeyTaken, first_answer, remember
from assistance.runtime.clock import Deadline
from assistance.storage.database import Database
from assistance.storage.tables import requests

#: Writes into the audit log that an operator cancelled a request, which had this status before, and why.
RecordCancel = Callable[[Connection, UUID, str, Actor, str | None], None]

#: The one who acts, in the timeline.
_BOT = "bot"
_COLUMNS = (
    requests.c.id,
    requests.c.ref,
    requests.c.topic,
    requests.c.created_at,
    requests.c.status,
    requests.c.called_off,
)


class Acts:
    """Acts on requests that `client` (none: anybody) made; none is the answer where there is no such request.

    Thread-safe.
    """

    def __init__(
        self,
        database: Database,
        *,
        wake_relay: Callable[[], None],
        check_after_seconds: float,
        record_cancel: RecordCancel,
    ) -> None:
        self._database = database
        self._record_cancel = record_cancel
        self._wake_relay = wake_relay
        self._check_after = check_after_seconds

    def add(
        self,
        request_id: UUID,
        text: str,
        author: Author,
        idempotency: IdempotencyKey | None,
        deadline: Deadline,
        *,
        client: str | None,
    ) -> Accepted | None:
        """Add to a request: people are told where they were told of it.

        Raises `NotOpen`, `IdempotencyKeyReused`, `DatabaseUnavailable` and `CommitUnknown`.
        """

        def work(connection: Connection) -> Accepted | None:
            row = _lock(connection, request_id, client)
            if row is None:
                return None
            known = first_answer(connection, row.client, idempotency) if idempotency else None
            if known is not None:
                return known
            if row.called_off is not None:
                raise NotOpen(f"The request is {row.status}: nobody is told anything more of it.")
            version = add_follow_up(connection, request_id, text, author, actor=_BOT, check_after=self._check_after)
            if idempotency:
                remember(connection, row.client, idempotency, request_id, version)
            return Accepted(
                id=row.id,
                ref=row.ref,
                topic=row.topic,
                created_at=row.created_at,
                status=row.status,
                event_version=version,
            )

        while True:
            try:
                added = self._database.run(work, deadline)
            except KeyTaken:
                continue  # its call is committed, and its answer is there now
            if added is not None and not added.replayed:
                self._wake_relay()
            return added

    def cancel(
        self,
        request_id: UUID,
        reason: str | None,
        deadline: Deadline,
        *,
        client: str | None,
        operator: Actor | None = None,
    ) -> bool:
        """Call a request off; false when there is no such request. A second time changes nothing.

        `operator` acts where the request is not his own, and the audit log says so. Raises `NotCancellable`,
        `DatabaseUnavailable` and `CommitUnknown`.
        """

        def work(connection: Connection) -> bool:
            row = _lock(connection, request_id, client)
            if row is None:
                return False
            by = operator if operator is not None and operator.name != row.client else None
            cancel(
                connection,
                request_id,
                actor=_BOT if by is None else by.name,
                reason=reason,
                check_after=self._check_after,
                by_operator=by is not None,
            )
            if by is not None and row.called_off is None:
                self._record_cancel(connection, request_id, row.status, by, reason)
            return True

        found = self._database.run(work, deadline)
        if found:
            self._wake_relay()
        return found


def _lock(connection: Connection, request_id: UUID, client: str | None) -> Any:
    """The request, locked; none when the client has no such request."""
    this = select(*_COLUMNS, requests.c.client).where(requests.c.id == request_id)
    if client is not None:
        this = this.where(requests.c.client == client)
    return connection.execute(this.with_for_update(key_share=True)).one_or_none()
