"""One statement that counts what happened in some minutes, and writes it down in place of what was counted before.

Every part looks at its table through an index over time: requests and dead letters by their creation, attempts by
their beginning. A delivery has arrived with its last attempt, or, where nobody knew the end of that, when it was found.
A channel on which nothing happened gets no row; requests as a whole get one for each minute.
"""

from __future__ import annotations

from sqlalchemy import text

from assistance.domain.delivery import AttemptOutcome, DeliveryState, Purpose
from assistance.domain.event import EventType
from assistance.history.latency import BOUNDS

#: The channel types call it by the names that their providers have for it. What none of these means is just a retry.
_THROTTLED = "code IN ('ratelimited', 'rate_limited', 'http_429', 'smtp_421', 'smtp_450', 'smtp_452')"
_TIMED_OUT = "code LIKE '%timeout' OR code IN ('no_time', 'http_408', 'http_504')"
_PLACES = ", ".join(f"coalesce(max(number) FILTER (WHERE place = {place}), 0)" for place in range(len(BOUNDS) + 1))

COUNT = text(
    f"""
    WITH minutes AS (
        SELECT generate_series(CAST(:begin AS timestamptz), :end - interval '1 minute', '1 minute') AS begins_at
    ), asked AS MATERIALIZED (
        SELECT id, date_trunc('minute', created_at) AS begins_at FROM requests
        WHERE created_at >= :begin AND created_at < :end
    ), accepted AS (
        SELECT begins_at, '' AS channel, count(*) AS number FROM asked GROUP BY begins_at
        UNION ALL
        SELECT a.begins_at, d.channel, count(*) FROM asked a CROSS JOIN LATERAL (
            SELECT channel FROM deliveries
            WHERE request_id = a.id AND event_version = 1 AND purpose = '{Purpose.NOTIFY}' AND step = 0
            OFFSET 0 -- each through the index: the planner would rather read the whole table
        ) AS d GROUP BY a.begins_at, d.channel
    ), tried AS MATERIALIZED (
        SELECT t.finished_at, t.outcome, t.code, d.channel, d.request_id,
               CASE WHEN t.outcome = '{AttemptOutcome.DELIVERED}' THEN t.finished_at ELSE d.updated_at END AS told_at,
               d.purpose = '{Purpose.NOTIFY}' AND d.state = '{DeliveryState.DELIVERED}'
                   AND d.series = t.series AND d.attempt = t.number AS is_told
        FROM attempts t JOIN deliveries d ON d.id = t.delivery_id
        WHERE t.started_at >= CAST(:begin AS timestamptz) - :look_back AND t.started_at < :end
          AND (t.finished_at >= :begin AND t.finished_at < :end OR t.outcome = '{AttemptOutcome.UNKNOWN}')
    ), ended AS (
        SELECT date_trunc('minute', finished_at) AS begins_at, channel,
               CASE WHEN outcome <> '{AttemptOutcome.RETRY_LATER}' THEN outcome
                    WHEN {_THROTTLED} THEN 'throttled' WHEN {_TIMED_OUT} THEN 'timeout' ELSE outcome END AS outcome
        FROM tried WHERE finished_at >= :begin AND finished_at < :end
    ), attempts_of AS (
        SELECT begins_at, channel, jsonb_object_agg(outcome, number) AS numbers
        FROM (SELECT begins_at, coalesce(channel, '') AS channel, outcome, count(*) AS number FROM ended
              GROUP BY GROUPING SETS ((begins_at, channel, outcome), (begins_at, outcome))) AS counted
        GROUP BY begins_at, channel
    ), told AS MATERIALIZED (
        SELECT t.channel, t.told_at, t.request_id, greatest(r.created_at, r.not_before) AS since
        FROM tried t JOIN requests r ON r.id = t.request_id
        WHERE t.is_told AND t.told_at >= :begin AND t.told_at < :end
    ), arrived AS (
        SELECT channel, told_at AS at, since FROM told
        UNION ALL
        SELECT '', e.at, t.since FROM (SELECT DISTINCT request_id, since FROM told) AS t
        JOIN events e ON e.request_id = t.request_id AND e.type = '{EventType.DELIVERED}'
        WHERE e.at >= :begin AND e.at < :end
    ), delivered AS (
        SELECT begins_at, channel, sum(number) AS number, CAST(ARRAY[{_PLACES}] AS integer[]) AS latency
        FROM (SELECT begins_at, channel, place, count(*) AS number
              FROM (SELECT date_trunc('minute', at) AS begins_at, channel,
                           width_bucket(CAST(extract(epoch FROM at - since) AS float8),
                                        CAST(:bounds AS float8[])) AS place
                    FROM arrived) AS placed
              GROUP BY begins_at, channel, place) AS counted
        GROUP BY begins_at, channel
    ), buried AS (
        SELECT date_trunc('minute', created_at) AS begins_at, channel FROM dead_letters
        WHERE created_at >= :begin AND created_at < :end
    ), dead AS (
        SELECT begins_at, '' AS channel, count(*) AS number FROM buried GROUP BY begins_at
        UNION ALL
        SELECT begins_at, channel, count(*) FROM buried WHERE channel IS NOT NULL GROUP BY begins_at, channel
    ), active AS (
        SELECT begins_at, '' AS channel FROM minutes
        UNION SELECT begins_at, channel FROM accepted
        UNION SELECT begins_at, channel FROM attempts_of
        UNION SELECT begins_at, channel FROM delivered
        UNION SELECT begins_at, channel FROM dead
    )
    INSERT INTO history (span_seconds, begins_at, channel, accepted, delivered, dead, attempts, latency)
    SELECT :minute, begins_at, channel, coalesce(accepted.number, 0), coalesce(delivered.number, 0),
           coalesce(dead.number, 0), coalesce(attempts_of.numbers, '{{}}'), coalesce(delivered.latency, '{{}}')
    FROM active
    LEFT JOIN accepted USING (begins_at, channel)
    LEFT JOIN attempts_of USING (begins_at, channel)
    LEFT JOIN delivered USING (begins_at, channel)
    LEFT JOIN dead USING (begins_at, channel)
    ON CONFLICT (span_seconds, channel, begins_at) DO UPDATE
    SET accepted = excluded.accepted, delivered = excluded.delivered, dead = excluded.dead,
        attempts = excluded.attempts, latency = excluded.latency
    """  # noqa: S608 (words and numbers of ours)
)
