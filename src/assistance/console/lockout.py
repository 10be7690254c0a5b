"""After five refused attempts to sign in, an address waits; what all processes know of it is in the database.

An attempt is counted before it is looked at, so that many at the same moment get no more than five looks.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

from assistance.runtime.addresses import network_of

MOST_REFUSED = 5
LOCKED_SECONDS = 15 * 60

#: One that is locked stays so until its time has come; older failures than that are forgotten.
_COUNT = text("""
INSERT INTO sign_in_failures AS known (address) VALUES (:address)
ON CONFLICT (address) DO UPDATE SET
    failures = CASE WHEN known.locked_until > now() THEN known.failures
        WHEN known.last_at < now() - make_interval(secs => :locked) OR known.locked_until IS NOT NULL THEN 1
        ELSE known.failures + 1 END,
    locked_until = CASE WHEN known.locked_until > now() THEN known.locked_until
        WHEN known.locked_until IS NULL AND known.failures >= :most
            AND known.last_at >= now() - make_interval(secs => :locked)
        THEN now() + make_interval(secs => :locked) END,
    last_at = CASE WHEN known.locked_until > now() THEN known.last_at ELSE now() END
RETURNING extract(epoch FROM locked_until - now())
""")
_FORGET = text("DELETE FROM sign_in_failures WHERE address = :address OR last_at < now() - interval '1 day'")


def count_attempt(connection: Connection, address: str) -> float:
    """Count an attempt: 0, or for how many seconds nobody from this address may try."""
    seconds = connection.scalar(
        _COUNT, {"address": network_of(address), "locked": LOCKED_SECONDS, "most": MOST_REFUSED}
    )
    return float(seconds or 0)


def forget_attempts(connection: Connection, address: str) -> None:
    """An attempt from this address succeeded."""
    connection.execute(_FORGET, {"address": network_of(address)})
