"""Submit: request, deliveries, outbox rows and idempotency key in one transaction, then a wake-up for the relay.

Plain calls that come together share their transaction; a call that needs a look at what is stored, because it may be a
repeat or join an open request, has one of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from assistance.configuration import Configuration
from assistance.domain.answers import Accepted, IdempotencyKey
from assistance.domain.request import Submission
from assistance.intake.alone import Also, take_in
from assistance.intake.backlog import Backlog
from assistance.intake.call import Call
from assistance.intake.callbacks import callbacks_of
from assistance.intake.quota import OpenRequests
from assistance.intake.routing import Plan, plan
from assistance.intake.together import store_together
from assistance.runtime.clock import Deadline
from assistance.runtime.faults import fault_point
from assistance.runtime.group_commit import GroupCommit
from assistance.storage.database import Database
from assistance.tracing.spans import Beginning, current, step

#: More callers make the groups larger, not the number of connections.
_LARGEST_GROUP, _LANES = 100, 2
_STORING = Beginning(name="store")


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
        self._together = GroupCommit(self._store, most=_LARGEST_GROUP, lanes=_LANES)

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
        trace = current().context
        call = Call(
            client=client,
            submission=submission,
            plan=found,
            key=idempotency,
            traceparent=str(trace) if trace else None,
        )
        has_room = self._open_requests.has_room(client, deadline)
        fault_point("api.before_begin")
        with step(_STORING) as span:
            accepted = self._together.submit(call, deadline) if call.is_plain and has_room and also is None else None
            if accepted is None:
                accepted = take_in(
                    self._database, call, deadline, check_after=self._check_after, has_room=has_room, also=also
                )
            span.note(
                {
                    "assistance.request.id": str(accepted.id),
                    "assistance.topic": accepted.topic,
                    "assistance.replayed": accepted.replayed,
                }
            )
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

    def _store(self, calls: Sequence[Call], deadline: Deadline) -> Sequence[Accepted | None]:
        return store_together(self._database, calls, deadline, check_after=self._check_after)
