"""Gauges that describe the database, read from it at the scrape."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from sqlalchemy import func, select

from assistance.domain.errors import DatabaseUnavailable
from assistance.runtime.clock import Deadline
from assistance.runtime.metrics import LazyCollector
from assistance.status.query import orphaned_channels
from assistance.storage.database import Database
from assistance.storage.expressions import seconds
from assistance.storage.tables import dead_letters, deliveries, outbox

_SCRAPE_SECONDS = 5.0


def database_gauges(database: Database, configured: Collection[str]) -> LazyCollector:
    """Outbox, queue depth, dead letters and orphaned channels; nothing while the database is away."""

    def read() -> Iterable[Metric]:
        pending = GaugeMetricFamily("assistance_outbox_pending", "Due outbox rows.")
        oldest = GaugeMetricFamily("assistance_outbox_oldest_age_seconds", "Age of the oldest due outbox row.")
        depth = GaugeMetricFamily("queue_depth", "Unfinished deliveries.", labels=["channel"])
        letters = GaugeMetricFamily("assistance_dead_letters_open", "Open dead letters.", labels=["channel"])
        orphans = GaugeMetricFamily(
            "assistance_orphaned_deliveries",
            "Unfinished deliveries of channels that left the configuration.",
            labels=["channel"],
        )
        try:
            with database.transaction(Deadline.after(_SCRAPE_SECONDS)) as connection:
                due = outbox.c.available_at <= func.now()
                age = func.coalesce(func.max(seconds(func.now() - outbox.c.available_at)), 0.0)
                count, oldest_age = connection.execute(select(func.count(), age).where(due)).one()
                pending.add_metric([], count)
                oldest.add_metric([], oldest_age)
                unfinished = deliveries.c.check_at.is_not(None)
                by_channel = select(deliveries.c.channel, func.count()).where(unfinished).group_by(deliveries.c.channel)
                depths = dict.fromkeys(configured, 0) | {r[0]: r[1] for r in connection.execute(by_channel)}
                for channel, number in depths.items():
                    depth.add_metric([channel], number)
                open_letters = (
                    select(func.coalesce(dead_letters.c.channel, ""), func.count())
                    .where(dead_letters.c.resolved_at.is_(None))
                    .group_by(dead_letters.c.channel)
                )
                counted = dict.fromkeys(configured, 0) | {r[0]: r[1] for r in connection.execute(open_letters)}
                for channel, number in counted.items():
                    letters.add_metric([channel], number)
                for channel, number in orphaned_channels(connection, configured).items():
                    orphans.add_metric([channel], number)
        except DatabaseUnavailable:
            return []
        return [pending, oldest, depth, letters, orphans]

    return LazyCollector(read)
