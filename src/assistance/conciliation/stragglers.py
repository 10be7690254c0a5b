"""One pass of conciliation: end the leases of the dead, then re-arm whatever is past its `check_at`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import structlog
from sqlalchemy import Connection, func, text, true

from assistance.deliveries.transition import expire_leases
from assistance.runtime import metrics
from assistance.runtime.faults import fault_point
from assistance.storage.database import Database
from assistance.storage.tables import deliveries

log = structlog.get_logger()

_LIMIT = 500
_LONGEST_PAUSE_SECONDS = 6 * 3600

#: A delivery that has a hint in the outbox needs no other one: while the broker is away nothing is inserted. Each time
#: doubles the pause, so that a deep queue is not flooded with copies of what waits in it already. The hints of a
#: channel that is out wait in its queue. When they are lost, there is nothing to probe with: a half-open breaker that
#: saw no message for so long must not keep them from being made again, or it would stay half-open for ever.
_REARM = text(
    """
    WITH straggler AS (
        SELECT id FROM deliveries d
        WHERE check_at <= now() AND lease_token IS NULL AND held_at IS NULL AND channel = ANY(:channels)
          AND NOT EXISTS (SELECT FROM outbox o WHERE o.delivery_id = d.id)
          AND (:with_those_out OR NOT EXISTS (
              SELECT FROM channel_states s WHERE s.channel = d.channel AND (
                  s.paused_at IS NOT NULL OR s.breaker = 'open'
                  OR (s.breaker = 'half_open' AND s.breaker_since > now() - make_interval(secs => :check_after)))))
        ORDER BY check_at LIMIT :limit FOR UPDATE SKIP LOCKED
    ), moved AS (
        UPDATE deliveries d
        SET reconciled = reconciled + 1, updated_at = now(),
            check_at = now() + make_interval(secs => least(:longest, :check_after * power(2, least(reconciled, 7))))
        FROM straggler WHERE d.id = straggler.id
        RETURNING d.id, d.series, d.attempt, d.state, d.request_id, d.channel, d.next_attempt_at
    )
    INSERT INTO outbox (delivery_id, series, attempt, request_id, channel, available_at, headers)
    SELECT id, series, greatest(1, attempt + (state = 'pending')::int), request_id, channel,
           greatest(now(), next_attempt_at),
           coalesce((SELECT jsonb_strip_nulls(jsonb_build_object('traceparent', r.route->'traceparent'))
                     FROM requests r WHERE r.id = moved.request_id), '{}')
    FROM moved
    ON CONFLICT (delivery_id, series, attempt) DO UPDATE SET available_at = excluded.available_at
    RETURNING channel
    """
)


class Conciliation:
    """Re-arms stragglers. Any number may run at once, in any process.

    Deliveries of channels that are out or left the configuration are left alone: they wait until the channel is back.
    """

    def __init__(self, database: Database, channels: Collection[str], *, check_after_seconds: float) -> None:
        self._database = database
        self._channels = list(channels)
        self._check_after = check_after_seconds

    def one_pass(self) -> bool:
        """Work on one batch; true when there may be more."""
        return self._pass(with_those_out=False)

    def rearm_everything(self) -> None:
        """End every lease and re-arm every unfinished delivery now, those of channels that are out included.

        Only for a caller who knows that no other worker is alive, as the embedded one does under its lock.
        """
        while self._database.run(lambda connection: expire_leases(connection, true())):
            pass
        self._database.run(
            lambda connection: connection.execute(
                deliveries.update().where(deliveries.c.check_at.is_not(None)).values(check_at=func.now())
            )
        )
        while self._pass(with_those_out=True):
            pass

    def _pass(self, *, with_those_out: bool) -> bool:
        expired = self._database.run(
            lambda connection: expire_leases(connection, deliveries.c.lease_until < func.now())
        )
        fault_point("conciliation.before_rearm")
        rearmed = self._database.run(lambda connection: self._rearm(connection, with_those_out=with_those_out))
        for channel, count in rearmed.items():
            metrics.conciliation_repaired.labels(channel).inc(count)
        if expired or rearmed:
            log.warning("conciliation.rearmed", expired_leases=expired, rearmed=dict(rearmed))
            fault_point("conciliation.after_rearm")
        return expired >= _LIMIT or rearmed.total() >= _LIMIT

    def _rearm(self, connection: Connection, *, with_those_out: bool) -> Counter[str]:
        rows = connection.execute(
            _REARM,
            {
                "channels": self._channels,
                "limit": _LIMIT,
                "longest": _LONGEST_PAUSE_SECONDS,
                "check_after": self._check_after,
                "with_those_out": with_those_out,
            },
        ).all()
        if rows:
            fault_point("conciliation.before_commit")
        return Counter(row.channel for row in rows)
