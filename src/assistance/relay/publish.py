"""One pass of the relay: claim due rows, publish them, delete what the broker confirmed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import structlog
from sqlalchemy import Connection

from assistance.broker.contract import Confirmation, ConnectionState, Message, Publisher
from assistance.domain.errors import BrokerUnavailable
from assistance.domain.hint import HINT_TYPE, body_of
from assistance.outbox.claim import OutboxRow, claim, delete_rows, postpone_rows, refuse_rows, seconds_to_next
from assistance.relay.traces import begin_spans, end_spans, headers_of
from assistance.runtime import metrics
from assistance.runtime.clock import Deadline, monotonic
from assistance.runtime.faults import fault_point
from assistance.storage.database import Database
from assistance.tracing.spans import is_on

log = structlog.get_logger()

#: How many rows one pass takes: doubled after each that was full and quick, up to the most, and few again after any
#: other. A long pass would hold its rows, and a broker that is slow already would get more than it can confirm.
_BATCH, _MOST = 200, 2_000
_QUICK_SECONDS = 1.0
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
        self._batch = _BATCH
        self._is_behind = False  # the last pass was full, so that more is due for certain
        self._unconfirmed_since: float | None = None  # rows are due since then, and none was confirmed
        #: Whether a wake-up came: something is due then, and need not be looked for.
        self.is_told = False
        self._next_due_at: float | None = None  # on the monotonic clock
        self._tried_at = self._reconnected_at = float("-inf")

    @property
    def next_due_seconds(self) -> float | None:
        """How soon to look again: what has a slot goes out at it, not at the next poll."""
        return None if self._next_due_at is None else self._next_due_at - monotonic()

    def one_pass(self) -> bool:
        """Publish one batch; true when more may be due at once.

        Raises `BrokerUnavailable`, before claiming anything, while the broker takes no messages.
        """
        state = self._publisher.state
        metrics.relay_ready.set(state is ConnectionState.READY)
        if state is not ConnectionState.READY:
            raise BrokerUnavailable(f"The broker connection is {state}.")
        if not self._is_behind and not self.is_told and not self._is_due():
            return False
        was_told, self.is_told = self.is_told, False
        began = monotonic()
        with self._database.transaction(Deadline.after(_PASS_SECONDS)) as connection:
            rows = claim(connection, self._channels, self._batch)
            if rows:
                fault_point("relay.after_claim")
            answers = self._publish(rows) if rows else []
            counts = Counter(answers)
            all_confirmed = counts[Confirmation.CONFIRMED] == len(rows)
            if counts[Confirmation.CONFIRMED]:
                fault_point("relay.after_confirm")
                delete_rows(connection, _ids(rows, answers, Confirmation.CONFIRMED))
                fault_point("relay.before_commit")
            if not all_confirmed:
                self._put_off(connection, rows, answers)
        is_full = len(rows) == self._batch
        self._is_behind = is_full and all_confirmed
        if not was_told or (self._next_due_at or began) <= began:
            # Rows that another relay holds are due and cannot be had: the next poll is soon enough for them.
            self._next_due_at = began if rows else None
        self._report(counts)
        is_quick = self._is_behind and monotonic() - began < _QUICK_SECONDS
        self._batch = min(self._batch * 2, max(_BATCH, _MOST)) if is_quick else _BATCH
        if counts[Confirmation.CONFIRMED]:
            fault_point("relay.after_commit")
            self._unconfirmed_since = None
        elif rows:
            self._watch_for_stall()
            return False
        return is_full

    def is_alive(self) -> bool:
        """False once rows were due and nothing was confirmed for three minutes."""
        now, since = monotonic(), self._unconfirmed_since
        is_trying = now - self._tried_at < _STALL_SECONDS  # else the rows are gone, and nothing is known to be stuck
        return since is None or not is_trying or now - since < _STUCK_SECONDS

    def _publish(self, rows: Sequence[OutboxRow]) -> list[Confirmation]:
        if not is_on():
            return self._publisher.publish(list(map(_message, rows)), _CONFIRM_SECONDS)
        spans = begin_spans(rows)
        messages = [replace(_message(row), headers=headers_of(span)) for row, span in zip(rows, spans, strict=True)]
        answers = self._publisher.publish(messages, _CONFIRM_SECONDS)
        end_spans(spans, answers)
        return answers

    def _is_due(self) -> bool:
        """Whether anything is to be published; one statement, which is all that an idle relay costs."""
        with self._database.look(Deadline.after(_PASS_SECONDS)) as connection:
            seconds = seconds_to_next(connection, self._channels)
        self._next_due_at = None if seconds is None else monotonic() + seconds
        return seconds is not None and seconds <= 0

    def _put_off(self, connection: Connection, rows: Sequence[OutboxRow], answers: Sequence[Confirmation]) -> None:
        """What was not confirmed comes later: refused rows ever later, unanswered ones in a moment or at once."""
        for kind in (Confirmation.RETURNED, Confirmation.NACKED):
            if refused := _ids(rows, answers, kind):
                refuse_rows(connection, refused, f"The broker answered: {kind}.")
        unknown = _ids(rows, answers, Confirmation.UNKNOWN)
        if unknown and self._publisher.state is ConnectionState.READY:
            # The connection lives, so that one queue must be stuck: its rows make way for those of the others.
            postpone_rows(connection, unknown, _POSTPONE_SECONDS)

    def _watch_for_stall(self) -> None:
        """A connection that says READY and confirms nothing for a minute is replaced."""
        now = self._tried_at = monotonic()
        since = self._unconfirmed_since = self._unconfirmed_since or now
        if now - max(since, self._reconnected_at) > _STALL_SECONDS:
            log.error("relay.stalled", seconds=round(now - since))
            self._reconnected_at = now
            self._publisher.reconnect("nothing was confirmed for a minute")

    def _report(self, answers: Mapping[Confirmation, int]) -> None:
        answers = {kind: count for kind, count in answers.items() if count}
        for kind, count in answers.items():
            metrics.outbox_publish.labels(kind).inc(count)
        if len(answers) > 1 or (answers and Confirmation.CONFIRMED not in answers):
            log.warning("relay.not_confirmed", **{str(kind): count for kind, count in answers.items()})
        elif answers:
            log.debug("relay.published", count=answers[Confirmation.CONFIRMED])


def _ids(rows: Sequence[OutboxRow], answers: Sequence[Confirmation], kind: Confirmation) -> list[int]:
    return [row.id for row, answer in zip(rows, answers, strict=True) if answer is kind]


def _message(row: OutboxRow) -> Message:
    return Message(
        routing_key=row.channel,
        message_id=row.delivery_id,
        correlation_id=row.request_id,
        type=HINT_TYPE,
        body=body_of(row.delivery_id, row.request_id, row.channel, row.series, row.attempt),
        timestamp=row.created_at,
    )
