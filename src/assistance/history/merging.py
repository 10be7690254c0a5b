"""One statement that merges spans into the coarser ones that hold them.

What was counted is added up. What stood at the end of each is taken from the worst: the most that waited, the longest,
and the state in which the channel sent least. A span is made anew from all its parts, so that it may be done any number
of times.
"""

from __future__ import annotations

from sqlalchemy import text

MERGE = text(
    """
    WITH parts AS MATERIALIZED (
        SELECT CAST(:coarser AS integer) AS span, date_bin(:length, begins_at, 'epoch') AS begins_at, channel, accepted,
               delivered, dead, attempts, latency, backlog, oldest_seconds, outbox, outbox_oldest_seconds, breaker
        FROM history
        WHERE span_seconds = :finer AND begins_at >= date_bin(:length, :begin, 'epoch')
          AND begins_at < date_bin(:length, :end - interval '1 minute', 'epoch') + :length
    ), sums AS (
        SELECT span, begins_at, channel, sum(accepted) AS accepted, sum(delivered) AS delivered, sum(dead) AS dead,
               max(oldest_seconds) AS oldest, max(outbox) AS outbox, max(outbox_oldest_seconds) AS outbox_oldest,
               max(array_position(ARRAY['closed', 'half_open', 'open', 'paused'], breaker)) AS breaker
        FROM parts GROUP BY span, begins_at, channel
    ), latencies AS (
        SELECT span, begins_at, channel, array_agg(number ORDER BY place) AS counts
        FROM (SELECT span, begins_at, channel, place, CAST(sum(number) AS integer) AS number
              FROM parts, unnest(latency) WITH ORDINALITY AS one (number, place)
              GROUP BY span, begins_at, channel, place) AS added
        GROUP BY span, begins_at, channel
    ), outcomes AS (
        SELECT span, begins_at, channel, jsonb_object_agg(outcome, number) AS numbers
        FROM (SELECT span, begins_at, channel, outcome, sum(CAST(number AS integer)) AS number
              FROM parts, jsonb_each(attempts) AS one (outcome, number)
              GROUP BY span, begins_at, channel, outcome) AS added
        GROUP BY span, begins_at, channel
    ), backlogs AS (
        SELECT span, begins_at, channel, jsonb_object_agg(state, number) AS numbers
        FROM (SELECT span, begins_at, channel, state, max(CAST(number AS integer)) AS number
              FROM parts, jsonb_each(backlog) AS one (state, number)
              GROUP BY span, begins_at, channel, state) AS worst
        GROUP BY span, begins_at, channel
    )
    INSERT INTO history (span_seconds, begins_at, channel, accepted, delivered, dead, attempts, latency, backlog,
                         oldest_seconds, outbox, outbox_oldest_seconds, breaker)
    SELECT span, begins_at, channel, accepted, delivered, dead, coalesce(outcomes.numbers, '{}'),
           coalesce(latencies.counts, '{}'), coalesce(backlogs.numbers, '{}'), oldest, outbox, outbox_oldest,
           (ARRAY['closed', 'half_open', 'open', 'paused'])[breaker]
    FROM sums
    LEFT JOIN latencies USING (span, begins_at, channel)
    LEFT JOIN outcomes USING (span, begins_at, channel)
    LEFT JOIN backlogs USING (span, begins_at, channel)
    ON CONFLICT (span_seconds, channel, begins_at) DO UPDATE
    SET accepted = excluded.accepted, delivered = excluded.delivered, dead = excluded.dead,
        attempts = excluded.attempts, latency = excluded.latency, backlog = excluded.backlog,
        oldest_seconds = excluded.oldest_seconds, outbox = excluded.outbox,
        outbox_oldest_seconds = excluded.outbox_oldest_seconds, breaker = excluded.breaker
    """
)
