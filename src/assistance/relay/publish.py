"""One pass of the relay: claim due rows, publish them, delete what the broker confirmed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import structlog

from assistance.broker.contract import Confirmation, ConnectionState, Message, Publisher
from assistance.domain.errors import BrokerUnavailable
from assistance.domain.hint import HINT_TYPE, encode
from assistance.outbox.claim import OutboxRow, claim, delete_rows, postpone_rows, refuse_rows, seconds_to_next
from assistance.runtime import metrics
from assistance.runtime.clock import Deadline, monotonic
from assistance.runtime.faults import fault_point
from assistance.storage.database import Database

log = structlog.get_logger()

_BATCH = 200
_CONFIRM_SECONDS = 5.0
#: The whole pass: claiming, waiting for the confirms, committing.
_PASS_SECONDS = 12.0
_POSTPONE_SECONDS = 5.0
_STALL_SECONDS = 60.0
_STUCK_SECONDS = 180.0


class Relay:
    """Publishes what is due. Any number of relays may run: row locks keep them out of each other's way."""

    def __init__(self, database: Database, publisher: Publisher, channels: Collection[str]) -> None:
        self._database = database
        self._publisher = publisher
        self._channels = tuple(channels)
        self._unconfirmed_since: float | None = None  # rows are due since then, and none was confirmed
        #: How soon after the last pass another row becomes due: what has a slot goes out at it, not at the next poll.
        self.next_due_seconds: float | None = None
        self._tried_at = self._reconnected_at = float("-inf")

    def one_pass(self) -> bool:
        """Publish one batch; true when more may be due at once.

        Raises `BrokerUnavailable`, before claiming anything, while the broker takes no messages.
        """
        state = self._publisher.state
        metrics.relay_ready.set(state is ConnectionState.READY)
        if state is not ConnectionState.READY:
            raise BrokerUnavailable(f"The broker connection is {state}.")
        with self._database.transaction(Deadline.after(_PASS_SECONDS)) as connection:
            rows = claim(connection, self._channels, _BATCH)
            if rows:
                fault_point("relay.after_claim")
            answers = self._publisher.publish([_message(row) for row in rows], _CONFIRM_SECONDS) if rows else []
            by_answer = {kind: [r.id for r, a in zip(rows, answers, strict=True) if a is kind] for kind in Confirmation}
            if by_answer[Confirmation.CONFIRMED]:
                fault_point("relay.after_confirm")
                delete_rows(connection, by_answer[Confirmation.CONFIRMED])
                fault_point("relay.before_commit")
            for kind in (Confirmation.RETURNED, Confirmation.NACKED):
                if by_answer[kind]:
                    refuse_rows(connection, by_answer[kind], f"The broker answered: {kind}.")
            if by_answer[Confirmation.UNKNOWN] and self._publisher.state is ConnectionState.READY:
                # The connection lives, so that one queue must be stuck: its rows make way for those of the others.
                postpone_rows(connection, by_answer[Confirmation.UNKNOWN], _POSTPONE_SECONDS)
            self.next_due_seconds = seconds_to_next(connection, self._channels)
        self._report(Counter(answers))
        if by_answer[Confirmation.CONFIRMED]:
            fault_point("relay.after_commit")
            self._unconfirmed_since = None
        elif rows:
            self._watch_for_stall()
            return False
        return len(rows) == _BATCH

    def is_alive(self) -> bool:
        """False once rows were due and nothing was confirmed for three minutes."""
        now, since = monotonic(), self._unconfirmed_since
        is_trying = now - self._tried_at < _STALL_SECONDS  # else the rows are gone, and nothing is known to be stuck
        return since is None or not is_trying or now - since < _STUCK_SECONDS

    def _watch_for_stall(self) -> None:
        """A connection that says READY and confirms nothing for a minute is replaced."""
        now = self._tried_at = monotonic()
        since = self._unconfirmed_since = self._unconfirmed_since or now
        if now - max(since, self._reconnected_at) > _STALL_SECONDS:
            log.error("relay.stalled", seconds=round(now - since))
            self._reconnected_at = now
            self._publisher.reconnect("nothing was confirmed for a minute")

    def _report(self, answers: Counter[Confirmation]) -> None:
        for kind, count in answers.items():
            metrics.outbox_publish.labels(kind).inc(count)
        if len(answers) > 1 or (answers and Confirmation.CONFIRMED not in answers):
            log.warning("relay.not_confirmed", **{str(kind): count for kind, count in answers.items()})
        elif answers:
            log.debug("relay.published", count=answers[Confirmation.CONFIRMED])


def _message(row: OutboxRow) -> Message:
    return Message(
        routing_key=row.hint.channel,
        message_id=str(row.hint.delivery_id),
        correlation_id=str(row.hint.request_id),
        type=HINT_TYPE,
        body=encode(row.hint),
        timestamp=row.created_at,
    )
