"""Drains the dead letter queue into PostgreSQL, where looking at a message does not use it up.

In comes a message that a consumer rejected or the broker gave up on, out goes a row. A crash leaves the message in the
queue, and writing it down twice is the same as once.
"""

from __future__ import annotations

import threading

import structlog
from sqlalchemy import Connection, select, update

from assistance.broker.contract import Answer, Received
from assistance.deliveries.bury import record_stray
from assistance.deliveries.transition import hint_for
from assistance.domain.delivery import DeliveryState
from assistance.domain.errors import UndecodableMessage
from assistance.domain.hint import Hint, decode
from assistance.outbox.append import append
from assistance.runtime import metrics
from assistance.runtime.faults import fault_point
from assistance.runtime.loop import Stopped, patiently
from assistance.storage.database import Database
from assistance.storage.plain import plain_json
from assistance.storage.tables import dead_letters, deliveries

log = structlog.get_logger()

#: A message that the broker gave up on although its delivery lives is offered again after this pause.
_PAUSE_SECONDS = 30.0


class Recorder:
    """Handles the messages of the dead letter queue."""

    def __init__(self, database: Database, stop: threading.Event) -> None:
        self._database = database
        self._stop = stop

    def handle(self, received: Received) -> Answer:
        """Write one message down."""

        def work(connection: Connection) -> str:
            reason = _record(connection, received)
            fault_point("recorder.before_commit")
            return reason

        try:
            reason = patiently(lambda: self._database.run(work), self._stop, waiting_for="database")
        except Stopped:
            return Answer.LEAVE
        fault_point("recorder.after_commit")
        metrics.dead_letters_recorded.labels(reason).inc()
        log.warning("deadletters.recorded", reason=reason, message_id=received.message_id)
        return Answer.ACK


def _record(connection: Connection, received: Received) -> str:
    try:
        hint = decode(received.body, received.type)
    except UndecodableMessage as error:
        return _stray(connection, received, "undecodable", str(error))
    # Locked before the outbox is touched, as everywhere; a replay meanwhile would make the hint a stale one.
    this = select(deliveries).where(deliveries.c.id == hint.delivery_id).with_for_update(key_share=True)
    row = connection.execute(this).one_or_none()
    if row is None:
        return _stray(connection, received, "unknown_delivery", "The database does not know this delivery.")
    if row.series != hint.series:
        return "stale"
    if row.state == DeliveryState.DEAD:
        _complete_letter(connection, hint, received)
        return "dead"
    if not DeliveryState(row.state).is_finished:
        append(connection, [hint_for(row)], delay_seconds=_PAUSE_SECONDS)
        return "offered_again"
    return "finished"


def _stray(connection: Connection, received: Received, reason: str, error: str) -> str:
    record_stray(
        connection,
        source="broker",
        reason=reason,
        error=error,
        message_id=received.message_id,
        body=received.body,
        headers=plain_json(received.headers),
    )
    return reason


def _complete_letter(connection: Connection, hint: Hint, received: Received) -> None:
    connection.execute(
        update(dead_letters)
        .where(dead_letters.c.delivery_id == hint.delivery_id, dead_letters.c.series == hint.series)
        .values(body=received.body, headers=plain_json(received.headers))
    )
