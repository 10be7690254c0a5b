"""Gauges that describe the database, read from it at the scrape."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from sqlalchemy import Connection, Row, func, select

from assistance.domain.errors import DatabaseUnavailable
from assistance.runtime.clock import Deadline
from assistance.runtime.metrics import LazyCollector
from assistance.status.channel_gauges import channel_gauges
from assistance.status.query import orphaned_channels
from assistance.storage.database import Database
from assistance.storage.expressions import seconds
from assistance.storage.tables import dead_letters, deliveries, outbox

_SCRAPE_SECONDS = 5.0


def database_gauges(database: Database, configured: Collection[str]) -> LazyCollector:
    """Outbox, queue depth, dead letters, and channels that are out or orphaned; nothing while the database is away."""

    def read() -> Iterable[Metric]:
        pending = GaugeMetricFamily("assistance_outbox_pending", "Due outbox rows.")
        backlog = GaugeMetricFamily("assistance_outbox_backlog", "Due outbox rows.", labels=["channel"])
        oldest = GaugeMetricFamily("assistance_outbox_oldest_age_seconds", "Age of the oldest due outbox row.")
        depth = GaugeMetricFamily("queue_depth", "Unfinished deliveries.", labels=["channel"])
        letters = GaugeMetricFamily("assistance_dead_letters_open", "Open dead letters.", labels=["channel"])
        orphans = GaugeMetricFamily(
            "assistance_orphaned_deliveries",
            "Unfinished deliveries of channels that left the configuration.",
            labels=["channel"],
        )
        held = GaugeMetricFamily(
            "assistance_held_deliveries", "Deliveries whose outcome an operator has to say.", labels=["channel"]
        )
        try:
            with database.transaction(Deadline.after(_SCRAPE_SECONDS)) as connection:
                waiting = _due_rows(connection)
                pending.add_metric([], sum(row.number for row in waiting))
                oldest.add_metric([], max((row.oldest for row in waiting), default=0.0))
                backlogs = dict.fromkeys(configured, 0) | {row.channel: row.number for row in waiting}
                for channel, number in backlogs.items():
                    backlog.add_metric([channel], number)
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
                for channel, number in (dict.fromkeys(configured, 0) | _held(connection)).items():
                    held.add_metric([channel], number)
                for channel, number in orphaned_channels(connection, configured).items():
                    orphans.add_metric([channel], number)
                channels = channel_gauges(connection, configured)
        except DatabaseUnavailable:
            return []
        return [pending, backlog, oldest, depth, letters, orphans, held, *channels]

    return LazyCollector(read)


def _held(connection: Connection) -> dict[str, int]:
    """How many deliveries wait for an operator, by channel."""
    waiting = deliveries.c.held_at.is_not(None)
    by_channel = select(deliveries.c.channel, func.count()).where(waiting).group_by(deliveries.c.channel)
    return {row[0]: row[1] for row in connection.execute(by_channel)}


def _due_rows(connection: Connection) -> list[Row[Any]]:
    """How many outbox rows are due for each channel, and the age of the oldest in seconds."""
    age = func.max(seconds(func.now() - outbox.c.available_at)).label("oldest")
    statement = select(outbox.c.channel, func.count().label("number"), age)
    return list(connection.execute(statement.where(outbox.c.available_at <= func.now()).group_by(outbox.c.channel)))
