"""Submit: request, deliveries, outbox rows and idempotency key in one transaction, then a wake-up for the relay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

from psycopg.errors import UniqueViolation
from sqlalchemy import Connection, exc, func, select
from sqlalchemy.dialects.postgresql import insert

from assistance.configuration import Configuration
from assistance.deliveries.fallback import set_timer
from assistance.deliveries.follow_ups import add_follow_up
from assistance.deliveries.schedule import Timer, set_due
from assistance.deliveries.start import start_deliveries
from assistance.domain.answers import Accepted, IdempotencyKey
from assistance.domain.errors import AlreadyExpired, QuotaExceeded
from assistance.domain.request import Author, RequestStatus, Submission
from assistance.domain.route import freeze_steps
from assistance.intake.backlog import Backlog
from assistance.intake.callbacks import callbacks_of
from assistance.intake.idempotency import KeyTaken, first_answer, remember
from assistance.intake.quota import OpenRequests
from assistance.intake.routing import Plan, plan
from assistance.runtime import ids
from assistance.runtime.clock import Deadline
from assistance.runtime.faults import fault_point
from assistance.storage.database import Database
from assistance.storage.tables import requests

#: What the caller wants to write in the transaction of its request; what it raises rolls everything back.
Also = Callable[[Connection, UUID], None]

_TRIES = 5
_QUOTA_RETRY_SECONDS = 5.0
#: Two random refs were the same, or two calls with one `dedup_key` came at the same moment: the next try succeeds.
_TRY_AGAIN = ("requests_ref_uq", "requests_dedup_ix")


class Intake:
    """Takes submissions in. Thread-safe."""

    def __init__(
        self,
        database: Database,
        configuration: Configuration,
        *,
        wake_relay: Callable[[], None],
        check_after_seconds: float,
        outbox_limit: int,
        client_open_requests: int,
    ) -> None:
        self._database = database
        self._configuration = configuration
        self._wake_relay = wake_relay
        self._check_after = check_after_seconds
        self._backlog = Backlog(database, configuration.channels, outbox_limit)
        self._open_requests = OpenRequests(database, client_open_requests)

    def submit(
        self,
        submission: Submission,
        idempotency: IdempotencyKey | None,
        deadline: Deadline,
        *,
        client: str,
        also: Also | None = None,
    ) -> Accepted:
        """Store a submission, or add it to the client's open request with its `dedup_key`; returns after the commit.

        Raises `UnknownTopic`, `UrlRefused`, `OutboxFull`, `QuotaExceeded`, `AlreadyExpired`, `IdempotencyKeyReused`,
        `DatabaseUnavailable` and `CommitUnknown`.
        """
        found = self.plan(submission, deadline, client=client)
        has_room = self._open_requests.has_room(client, deadline)
        fault_point("api.before_begin")

        def work(connection: Connection) -> Accepted:
            known = first_answer(connection, client, idempotency) if idempotency else None
            if known is not None:
                return known
            accepted = self._join(connection, client, submission)
            if accepted is None and not has_room:
                raise QuotaExceeded(_QUOTA_RETRY_SECONDS)
            accepted = accepted or self._insert(connection, client, submission, found)
            if also is not None:
                also(connection, accepted.id)
            if idempotency:
                remember(connection, client, idempotency, accepted.id, accepted.event_version)
            fault_point("api.before_commit")
            return accepted

        accepted = self._commit(work, deadline)
        fault_point("api.after_commit")
        if not accepted.replayed:
            self._wake_relay()
        fault_point("api.before_answer")
        return accepted

    def plan(self, submission: Submission, deadline: Deadline, *, client: str) -> Plan:
        """What would become of a submission.

        Raises `UnknownTopic`, `UrlRefused` and `OutboxFull`.
        """
        callbacks = callbacks_of(self._configuration, client, submission.callback_url)
        found = replace(plan(self._configuration, submission.topic), callbacks=callbacks)
        self._backlog.check(found.route.to, deadline)
        return found

    def _commit(self, work: Callable[[Connection], Accepted], deadline: Deadline) -> Accepted:
        for _ in range(_TRIES):
            try:
                return self._database.run(work, deadline)
            except KeyTaken:
                continue  # its call is committed, and its answer is there now
            except exc.IntegrityError as error:
                if not _is_chance(error):
                    raise
        raise AssertionError(f"{_TRIES} tries in a row met a call or a ref that was there before")

    def _join(self, connection: Connection, client: str, submission: Submission) -> Accepted | None:
        if submission.dedup_key is None:
            return None
        this = (requests.c.client == client, requests.c.open_dedup_key == submission.dedup_key)
        columns = (requests.c.id, requests.c.ref, requests.c.topic, requests.c.created_at, requests.c.status)
        row = connection.execute(select(*columns).where(*this).with_for_update(key_share=True)).one_or_none()
        if row is None:
            return None
        version = add_follow_up(
            connection, row.id, submission.description, Author.BOT, actor="bot", check_after=self._check_after
        )
        return Accepted(
            id=row.id,
            ref=row.ref,
            topic=row.topic,
            created_at=row.created_at,
            status=row.status,
            event_version=version,
        )

    def _insert(self, connection: Connection, client: str, submission: Submission, found: Plan) -> Accepted:
        request_id, ref = ids.uuid7(), ids.new_ref()
        begins_later = _lies_ahead(connection, submission)
        status = RequestStatus.SCHEDULED if begins_later else RequestStatus.ACCEPTED
        created_at = connection.scalar(
            insert(requests)
            .values(
                id=request_id,
                ref=ref,
                client=client,
                topic=found.topic,
                status=status,
                route=_frozen(found, with_steps=begins_later),
                **_said(submission),
            )
            .returning(requests.c.created_at)
        )
        fault_point("api.after_request_insert")
        if begins_later and submission.not_before is not None:
            set_due(connection, request_id, Timer.BEGIN, submission.not_before)
        else:
            start_deliveries(connection, request_id, found.route.to, step=0, check_after=self._check_after)
            set_timer(connection, request_id, found.route.steps)
        assert created_at is not None
        if submission.expires_at is not None:
            if submission.expires_at <= created_at:
                raise AlreadyExpired
            set_due(connection, request_id, Timer.EXPIRE, submission.expires_at)
        return Accepted(id=request_id, ref=ref, topic=found.topic, created_at=created_at, status=status)


def _lies_ahead(connection: Connection, submission: Submission) -> bool:
    """Whether the request begins later, on the clock that will begin it."""
    if submission.not_before is None:
        return False
    return bool(connection.scalar(select(func.now() < submission.not_before)))


def _said(submission: Submission) -> dict[str, Any]:
    """The columns that the bot filled."""
    return {
        "description": submission.description,
        "title": submission.title,
        "priority": submission.priority,
        "customer_id": submission.customer.get("id"),
        "customer": submission.customer,
        "bot": submission.bot,
        "conversation_id": submission.conversation.get("id"),
        "conversation": submission.conversation,
        "transcript": submission.transcript,
        "attachments": submission.attachments,
        "metadata": submission.metadata,
        "dedup_key": submission.dedup_key,
        "open_dedup_key": submission.dedup_key,
        "not_before": submission.not_before,
        "expires_at": submission.expires_at,
        "callback_url": submission.callback_url,
    }


def _frozen(found: Plan, *, with_steps: bool) -> dict[str, Any]:
    """What the request keeps of its plan; the steps only where there are several, or where none begins now."""
    steps = found.route.steps
    plan_of_steps = {"steps": freeze_steps(steps)} if with_steps or len(steps) > 1 else {}
    return {"topic": found.topic, "configuration": found.digest, **plan_of_steps, **found.callbacks}


def _is_chance(error: exc.IntegrityError) -> bool:
    original = error.orig
    return isinstance(original, UniqueViolation) and original.diag.constraint_name in _TRY_AGAIN
