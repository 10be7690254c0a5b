"""Writes many requests straight into the tables, where a row needs more of them than a bot could post in its time."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import text

from bench.stand import Stand

_OPEN = text("""
WITH asked AS (
    INSERT INTO requests (id, ref, client, topic, description, customer_id, customer, metadata)
    SELECT gen_random_uuid(), 'B-' || md5(random()::text || n), 'bench', 'sales', repeat('What does it cost? ', 9),
        'cus_42', '{"id": "cus_42", "name": "Ada"}', jsonb_build_object('order', n::text)
    FROM generate_series(1, :count) n
    RETURNING id
), told AS (
    INSERT INTO deliveries (id, request_id, channel, check_at)
    SELECT gen_random_uuid(), id, (CAST(:channels AS text[]))[1 + (row_number() OVER () % :width)::int],
        now() + interval '1 day'
    FROM asked
    RETURNING id, request_id, channel
)
INSERT INTO outbox (delivery_id, series, attempt, request_id, channel)
SELECT id, 1, 1, request_id, channel FROM told
""")
_HISTORY = text("""
WITH asked AS (
    INSERT INTO requests (id, ref, client, topic, description, customer_id, customer, metadata, status, state_version,
        created_at, updated_at, ended_at)
    SELECT gen_random_uuid(), 'H-' || md5(random()::text || n), 'bench', 'sales', repeat('What does it cost? ', 9),
        'cus_' || n % 10000, '{"name": "Ada"}', '{"order": "0"}', 'delivered', 2, at, at, at
    FROM generate_series(1, :count) n, LATERAL (SELECT now() - n * interval '1 second' AS at) moment
    RETURNING id, created_at
), known AS (
    INSERT INTO idempotency_keys (client, key, fingerprint, request_id, created_at)
    SELECT 'bench', 'history-' || id, '', id, created_at FROM asked
), happened AS (
    INSERT INTO events (request_id, version, type, at, actor)
    SELECT id, 2, 'assistance.delivered', created_at, 'system' FROM asked
), told AS (
    INSERT INTO deliveries (id, request_id, channel, state, attempt, receipt, created_at, updated_at, next_attempt_at,
        first_attempt_at)
    SELECT gen_random_uuid(), id, :channel, 'delivered', 1, '{"status": 200}', created_at, created_at, created_at,
        created_at
    FROM asked
    RETURNING id, created_at
)
INSERT INTO attempts (delivery_id, series, number, started_at, finished_at, outcome, worker)
SELECT id, 1, 1, created_at, created_at, 'delivered', 'bench' FROM told
""")
_WAKE_RELAY = "NOTIFY assistance_outbox"
_PORTION = 50_000


def add_open(stand: Stand, count: int, channels: Sequence[str], *, wake: bool = True) -> None:
    """Store requests that wait to be told, spread over the channels; then wake the relay."""
    with stand.database.transaction() as connection:
        connection.execute(_OPEN, {"count": count, "channels": list(channels), "width": len(channels)})
    if wake:
        stand.execute(_WAKE_RELAY)


def add_history(stand: Stand, count: int, channel: str) -> None:
    """Store requests that were delivered long ago, with all that belongs to them."""
    for done in range(0, count, _PORTION):
        with stand.database.transaction() as connection:
            connection.execute(_HISTORY, {"count": min(_PORTION, count - done), "channel": channel})
    stand.execute("ANALYZE")
