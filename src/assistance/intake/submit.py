"""Submit: request, deliveries, outbox rows and idempotency key in one transaction, then a wake-up for the relay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from psycopg.errors import UniqueViolation
from sqlalchemy import Connection, exc
from sqlalchemy.dialects.postgresql import insert

from assistance.configuration import Configuration
from assistance.deliveries.fallback import set_timer
from assistance.deliveries.start import start_deliveries
from assistance.domain.answers import Accepted, IdempotencyKey
from assistance.domain.request import Submission
from assistance.domain.route import freeze_steps
from assistance.intake.backlog import Backlog
from assistance.intake.idempotency import first_answer, remember
from assistance.intake.routing import Plan, plan
from assistance.runtime import ids
from assistance.runtime.clock import Deadline
from assistance.runtime.faults import fault_point
from assistance.storage.database import Database
from assistance.storage.tables import requests

_REF_TRIES = 5


class _KeyTaken(Exception):
    """Another call with the same key was committed while ours was under way: ours is rolled back."""


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
    ) -> None:
        self._database = database
        self._configuration = configuration
        self._wake_relay = wake_relay
        self._check_after = check_after_seconds
        self._backlog = Backlog(database, configuration.channels, outbox_limit)

    def submit(
        self, submission: Submission, idempotency: IdempotencyKey | None, deadline: Deadline, *, client: str
    ) -> Accepted:
        """Store a submission; returns after the commit.

        Raises `UnknownTopic`, `OutboxFull`, `IdempotencyKeyReused`, `DatabaseUnavailable` and `CommitUnknown`.
        """
        found = plan(self._configuration, submission.topic)
        self._backlog.check(found.route.to, deadline)
        fault_point("api.before_begin")
        accepted = None
        while accepted is None:
            # None: a call with the same key was committed at the same time; its answer is there now.
            accepted = self._store(client, submission, found, idempotency, deadline)
        fault_point("api.after_commit")
        if not accepted.replayed:
            self._wake_relay()
        fault_point("api.before_answer")
        return accepted

    def _store(
        self, client: str, submission: Submission, found: Plan, key: IdempotencyKey | None, deadline: Deadline
    ) -> Accepted | None:
        def work(connection: Connection) -> Accepted:
            known = first_answer(connection, client, key) if key else None
            if known is not None:
                return known
            accepted = self._insert(connection, client, submission, found)
            if key and not remember(connection, client, key, accepted.id):
                raise _KeyTaken
            fault_point("api.before_commit")
            return accepted

        for _ in range(_REF_TRIES):
            try:
                return self._database.run(work, deadline)
            except _KeyTaken:
                return None
            except exc.IntegrityError as error:
                if not _is_taken_ref(error):
                    raise
        raise AssertionError(f"{_REF_TRIES} random refs in a row were taken")

    def _insert(self, connection: Connection, client: str, submission: Submission, found: Plan) -> Accepted:
        request_id, ref = ids.uuid7(), ids.new_ref()
        created_at = connection.scalar(
            insert(requests)
            .values(
                id=request_id,
                ref=ref,
                client=client,
                topic=found.topic,
                route=_frozen(found),
                **_said(submission),
            )
            .returning(requests.c.created_at)
        )
        fault_point("api.after_request_insert")
        start_deliveries(connection, request_id, found.route.to, step=0, check_after=self._check_after)
        set_timer(connection, request_id, found.route.steps)
        assert created_at is not None
        return Accepted(id=request_id, ref=ref, topic=found.topic, created_at=created_at)


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
        "not_before": submission.not_before,
        "expires_at": submission.expires_at,
        "callback_url": submission.callback_url,
    }


def _frozen(found: Plan) -> dict[str, Any]:
    """What the request keeps of its plan; the steps only where there are several."""
    steps = found.route.steps
    plan_of_steps = {"steps": freeze_steps(steps)} if len(steps) > 1 else {}
    return {"topic": found.topic, "configuration": found.digest, **plan_of_steps}


def _is_taken_ref(error: exc.IntegrityError) -> bool:
    original = error.orig
    return isinstance(original, UniqueViolation) and original.diag.constraint_name == "requests_ref_uq"
