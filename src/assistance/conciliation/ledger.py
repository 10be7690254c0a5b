"""The ledger: accepted = delivered + in flight + dead + cancelled, and what makes the sum mean something."""

from __future__ import annotations

from dataclasses import dataclass

import structlog
from sqlalchemy import Connection, text

from assistance.domain.errors import DatabaseUnavailable
from assistance.runtime import metrics
from assistance.runtime.clock import Deadline
from assistance.storage.database import Database

log = structlog.get_logger()

#: Counting looks through whole tables; conciliation waits for it, and may be late by this much.
_COUNT_SECONDS = 60.0
_NOT_READ = "the ledger could not be read"

_COUNTS = text("SELECT status, count(*) AS requests FROM requests GROUP BY status ORDER BY status")

#: Each query counts rows that must not exist.
_VIOLATIONS = {
    "requests without a delivery": "SELECT count(*) FROM requests r"
    " WHERE r.status <> 'scheduled' AND r.called_off IS NULL"
    " AND NOT EXISTS (SELECT FROM deliveries d WHERE d.request_id = r.id)",
    "requests whose status disagrees with their deliveries": """
        SELECT count(*) FROM requests r JOIN (
            SELECT request_id, count(*) AS steps, bool_or(state = 'delivered') AS told,
                   bool_and(state = 'cancelled') AS called_off, bool_or(state = 'trying') AS trying
            FROM (
                SELECT request_id,
                       CASE WHEN bool_or(state = 'dead') THEN 'dead'
                            WHEN bool_and(state = 'cancelled') THEN 'cancelled'
                            WHEN bool_and(state IN ('delivered', 'cancelled')) THEN 'delivered'
                            ELSE 'trying' END AS state
                FROM deliveries WHERE purpose = 'notify' AND required GROUP BY request_id, step
            ) step GROUP BY request_id
        ) d ON d.request_id = r.id
        WHERE r.status IN ('accepted', 'delivered', 'undeliverable', 'cancelled') AND r.called_off IS NULL
          AND r.status <> CASE WHEN d.told THEN 'delivered'
                               WHEN d.called_off THEN 'cancelled'
                               WHEN d.trying OR d.steps < coalesce(jsonb_array_length(r.route->'steps'), 1)
                               THEN 'accepted'
                               ELSE 'undeliverable' END""",
    "accepted requests that nothing moves": """
        SELECT count(*) FROM requests r WHERE r.status = 'accepted' AND NOT EXISTS (
            SELECT FROM deliveries d
            WHERE d.request_id = r.id AND d.check_at IS NOT NULL AND d.purpose <> 'callback')""",
    "fallback timers of requests that are not accepted any more": """
        SELECT count(*) FROM timers t WHERE t.kind = 'fallback' AND NOT EXISTS (
            SELECT FROM requests r WHERE r.id = t.subject AND r.status = 'accepted')""",
    "timers that did not fire for over ten minutes": "SELECT count(*) FROM timers"
    " WHERE due_at < now() - interval '10 minutes'",
    "scheduled requests that nothing begins": """
        SELECT count(*) FROM requests r WHERE r.status = 'scheduled' AND NOT EXISTS (
            SELECT FROM timers t WHERE t.subject = r.id AND t.kind = 'begin')""",
    "requests that were called off and are told all the same": """
        SELECT count(*) FROM requests r JOIN deliveries d ON d.request_id = r.id
        WHERE r.called_off IS NOT NULL AND d.purpose = 'notify' AND d.state = 'pending'""",
    "dead deliveries without a dead letter": """
        SELECT count(*) FROM deliveries d WHERE d.state = 'dead' AND NOT EXISTS (
            SELECT FROM dead_letters l WHERE l.delivery_id = d.id AND l.series = d.series)""",
    "open dead letters whose delivery is not dead": """
        SELECT count(*) FROM dead_letters l JOIN deliveries d ON d.id = l.delivery_id
        WHERE l.resolved_at IS NULL AND (d.state <> 'dead' OR d.series <> l.series)""",
    "leases that ended over a minute ago": "SELECT count(*) FROM deliveries"
    " WHERE lease_until < now() - interval '1 minute'",
    "unfinished deliveries without check_at": "SELECT count(*) FROM deliveries"
    " WHERE state IN ('pending', 'sending', 'unknown') AND check_at IS NULL",
    "unfinished deliveries past their check_at for over ten minutes": "SELECT count(*) FROM deliveries d"
    " WHERE check_at < now() - interval '10 minutes' AND held_at IS NULL"
    " AND NOT EXISTS (SELECT FROM outbox o WHERE o.delivery_id = d.id)"
    # While a channel is out they wait in its queue; afterwards conciliation may take its time.
    " AND NOT EXISTS (SELECT FROM channel_states s WHERE s.channel = d.channel"
    " AND (s.out_since IS NOT NULL OR s.back_at > now() - interval '10 minutes'))",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Ledger:
    """Requests by status, and violations by name (only those that exist)."""

    requests: dict[str, int]
    violations: dict[str, int]

    @property
    def closes(self) -> bool:
        """Whether every accepted request is accounted for."""
        return not self.violations


def read_ledger(connection: Connection) -> Ledger:
    """Count, in one snapshot: the caller's transaction should be REPEATABLE READ on a busy system."""
    counts = {row.status: row.requests for row in connection.execute(_COUNTS)}
    found = {name: connection.scalar(text(query)) for name, query in _VIOLATIONS.items()}
    return Ledger(requests=counts, violations={name: count for name, count in found.items() if count})


def show_ledger(database: Database) -> None:
    """Count, and show every violation as a metric, those that do not exist as 0.

    A ledger that cannot be read within a minute is a violation too: silence must not look like a ledger that closes.
    """
    counts = dict.fromkeys((*_VIOLATIONS, _NOT_READ), 0)
    try:
        with database.transaction(Deadline.after(_COUNT_SECONDS)) as connection:
            counts.update(read_ledger(connection).violations)
    except DatabaseUnavailable as error:
        log.warning("conciliation.ledger_not_read", reason=str(error))
        counts = {_NOT_READ: 1}
    for violation, count in counts.items():
        metrics.ledger_violations.labels(violation).set(count)
