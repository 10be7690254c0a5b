"""Deletes what has been kept long enough, in batches, so that no lock is held for long."""

from __future__ import annotations

from dataclasses import dataclass

import structlog
from sqlalchemy import Connection, text

from assistance.storage.database import Database

log = structlog.get_logger()

_BATCH = 1000
_IDEMPOTENCY_DAYS = 7
#: A client that did not call for a minute has its whole budget, with or without a row.
_BUDGETS_DAYS = 1
#: No sender that we know repeats a message for longer than a week.
_SOURCE_MESSAGES_DAYS = 30
#: Somebody who looks once a year still finds who did what since the last time.
_AUDIT_DAYS = 400
_OPERATIONS_DAYS = 90

#: The cheap ones first. A row that somebody holds, such as a request that is being replayed, is passed over.
_BATCH_OF = {
    "idempotency_keys": """
        DELETE FROM idempotency_keys WHERE (client, key) IN (
            SELECT client, key FROM idempotency_keys
            WHERE created_at < now() - make_interval(days => :days) LIMIT :batch)""",
    "source_messages": """
        DELETE FROM source_messages WHERE (source, message_id) IN (
            SELECT source, message_id FROM source_messages
            WHERE received_at < now() - make_interval(days => :days) LIMIT :batch)""",
    "budgets": """
        DELETE FROM budgets WHERE client IN (
            SELECT client FROM budgets
            WHERE free_at < now() - make_interval(days => :days) LIMIT :batch)""",
    "audit": """
        DELETE FROM audit WHERE id IN (
            SELECT id FROM audit
            WHERE at < now() - make_interval(days => :days) ORDER BY at LIMIT :batch)""",
    "operations": """
        DELETE FROM operations WHERE id IN (
            SELECT id FROM operations
            WHERE ended_at < now() - make_interval(days => :days) LIMIT :batch)""",
    "dead_letters": """
        DELETE FROM dead_letters WHERE id IN (
            SELECT l.id FROM dead_letters l
            LEFT JOIN deliveries d ON d.id = l.delivery_id AND d.series = l.series AND d.state = 'dead'
            WHERE l.resolved_at < now() - make_interval(days => :days) AND d.id IS NULL LIMIT :batch)""",
    "attempts": """
        DELETE FROM attempts WHERE ctid IN (
            SELECT a.ctid FROM attempts a JOIN deliveries d ON d.id = a.delivery_id AND d.check_at IS NULL
            WHERE a.finished_at < now() - make_interval(days => :days) LIMIT :batch)""",
    "requests": """
        DELETE FROM requests WHERE id IN (
            SELECT id FROM requests r WHERE ended_at < now() - make_interval(days => :days)
              AND NOT EXISTS (SELECT FROM deliveries d WHERE d.request_id = r.id AND d.check_at IS NOT NULL)
            LIMIT :batch FOR UPDATE SKIP LOCKED)""",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Retention:
    """How many days ended requests, the attempts of finished deliveries and resolved dead letters are kept."""

    requests_days: int
    attempts_days: int
    dead_letters_days: int

    def purge(self, database: Database) -> bool:
        """Delete one batch of each kind; true when there may be more."""
        days = {
            "requests": self.requests_days,
            "attempts": self.attempts_days,
            "dead_letters": self.dead_letters_days,
            "idempotency_keys": _IDEMPOTENCY_DAYS,
            "budgets": _BUDGETS_DAYS,
            "source_messages": _SOURCE_MESSAGES_DAYS,
            "audit": _AUDIT_DAYS,
            "operations": _OPERATIONS_DAYS,
        }

        def delete_batch(connection: Connection, table: str) -> int:
            return connection.execute(text(_BATCH_OF[table]), {"days": days[table], "batch": _BATCH}).rowcount

        deleted = {table: database.run(lambda connection, t=table: delete_batch(connection, t)) for table in days}  # type: ignore[misc]  # mypy cannot infer a lambda with a default
        if any(deleted.values()):
            log.info("conciliation.purged", **deleted)
        return any(count == _BATCH for count in deleted.values())
