"""One statement that writes down what stands at the end of a minute: the backlog, the outbox, and who is out.

A channel of which there is nothing to say but that its breaker is closed gets no row. What is counted is what is
unfinished now, through the indexes over that: how much was ever asked makes no difference.
"""

from __future__ import annotations

from sqlalchemy import text

#: What an unfinished delivery waits for, in the words of `status.situation`; `dead` counts open dead letters.
BACKLOG = ("ready", "sending", "retrying", "looked_up", "held", "dead")

STAND = text(
    """
    WITH unfinished AS MATERIALIZED (
        SELECT channel, count(*) FILTER (WHERE state = 'pending' AND attempt = 0) AS ready,
               count(*) FILTER (WHERE state = 'sending') AS sending,
               count(*) FILTER (WHERE state = 'pending' AND attempt > 0) AS retrying,
               count(*) FILTER (WHERE state = 'unknown' AND held_at IS NULL) AS looked_up,
               count(*) FILTER (WHERE held_at IS NOT NULL) AS held, 0 AS dead,
               max(extract(epoch FROM now() - created_at)) AS oldest
        FROM deliveries WHERE check_at IS NOT NULL GROUP BY channel
    ), letters AS (
        -- Two looks, because each is one at an index.
        SELECT channel FROM dead_letters WHERE resolved_at IS NULL AND delivery_id IS NOT NULL
        UNION ALL
        SELECT channel FROM dead_letters WHERE resolved_at IS NULL AND delivery_id IS NULL
    ), waiting AS (
        SELECT * FROM unfinished
        UNION ALL
        SELECT coalesce(channel, ''), 0, 0, 0, 0, 0, count(*), NULL FROM letters GROUP BY channel
    ), backlogs AS (
        SELECT coalesce(channel, '') AS channel, max(oldest) AS oldest,
               jsonb_strip_nulls(jsonb_build_object(
                   'ready', nullif(sum(ready), 0), 'sending', nullif(sum(sending), 0),
                   'retrying', nullif(sum(retrying), 0), 'looked_up', nullif(sum(looked_up), 0),
                   'held', nullif(sum(held), 0), 'dead', nullif(sum(dead), 0))) AS numbers
        FROM waiting GROUP BY GROUPING SETS ((channel), ()) HAVING grouping(channel) = 1 OR channel <> ''
    ), hints AS (
        SELECT coalesce(channel, '') AS channel, count(*) AS number,
               max(extract(epoch FROM now() - available_at)) AS oldest
        FROM outbox WHERE available_at <= now() GROUP BY GROUPING SETS ((channel), ())
    ), states AS (
        SELECT channel, CASE WHEN paused_at IS NULL THEN breaker ELSE 'paused' END AS breaker FROM channel_states
    ), known AS (
        SELECT '' AS channel
        UNION SELECT channel FROM backlogs
        UNION SELECT channel FROM hints
        UNION SELECT channel FROM states WHERE breaker <> 'closed'
    )
    INSERT INTO history (span_seconds, begins_at, channel, backlog, oldest_seconds, outbox, outbox_oldest_seconds,
                         breaker)
    SELECT :minute, :begins_at, channel, coalesce(backlogs.numbers, '{}'), backlogs.oldest, coalesce(hints.number, 0),
           hints.oldest, CASE WHEN channel <> '' THEN coalesce(states.breaker, 'closed') END
    FROM known
    LEFT JOIN backlogs USING (channel)
    LEFT JOIN hints USING (channel)
    LEFT JOIN states USING (channel)
    ON CONFLICT (span_seconds, channel, begins_at) DO UPDATE
    SET backlog = excluded.backlog, oldest_seconds = excluded.oldest_seconds, outbox = excluded.outbox,
        outbox_oldest_seconds = excluded.outbox_oldest_seconds, breaker = excluded.breaker
    """
)
