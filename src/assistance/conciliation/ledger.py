"""The ledger: accepted = delivered + in flight + dead + cancelled, and what makes the sum mean something."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

_COUNTS = text("SELECT status, count(*) AS requests FROM requests GROUP BY status ORDER BY status")

#: Each query counts rows that must not exist.
_VIOLATIONS = {
    "requests without a delivery": "SELECT count(*) FROM requests r"
    " WHERE NOT EXISTS (SELECT FROM deliveries d WHERE d.request_id = r.id)",
    "requests whose status disagrees with their deliveries": """
        SELECT count(*) FROM requests r JOIN (
            SELECT request_id,
                   CASE WHEN bool_or(state = 'dead') THEN 'undeliverable'
                        WHEN bool_and(state = 'cancelled') THEN 'cancelled'
                        WHEN bool_and(state IN ('delivered', 'cancelled')) THEN 'delivered'
                        ELSE 'accepted' END AS status
            FROM deliveries WHERE purpose = 'notify' AND required GROUP BY request_id
        ) d ON d.request_id = r.id
        WHERE r.status IN ('accepted', 'delivered', 'undeliverable', 'cancelled') AND r.status <> d.status""",
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
    " WHERE check_at < now() - interval '10 minutes'"
    " AND NOT EXISTS (SELECT FROM outbox o WHERE o.delivery_id = d.id)",
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
