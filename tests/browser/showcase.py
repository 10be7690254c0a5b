"""An installation as it may look on a busy day: an hour in which one channel was in trouble, and some requests."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import timedelta
from random import Random
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.sql import func

from assistance.domain.operator import Actor
from assistance.history.latency import BOUNDS
from assistance.operating import jobs
from assistance.operating.targets import Kind
from assistance.storage.tables import history
from tests.browser.installation import Installation, wait_until

_ASKED = (
    ("sales", "A customer wants an offer for 40 seats, and somebody who calls back today.", "Ada Lovelace"),
    ("pricing", "What does the large plan cost with yearly payment?", "Grace Hopper"),
    ("sales", "The trial ends tomorrow, and the customer asks for another week.", "Katherine Johnson"),
    ("pricing", "Is there a discount for schools?", "Mary Jackson"),
    ("repairs", "Door 3 of the warehouse does not open for deliveries.", "Hedy Lamarr"),
    ("sales", "Can the contract begin on the first of the month?", "Joan Clarke"),
)
_PER_MINUTE = {"sales-team": 14, "pricing-inbox": 6, "field-service": 5}
#: Minutes ago.
_TROUBLE, _DRAINING = range(22, 36), range(17, 22)
_HALF_OPEN = 14 * (_DRAINING.stop - 1 - _DRAINING.start)  # waiting, when the first probes go out


def fill(running: Installation) -> Mapping[str, Any]:
    """Fill an empty installation; the answer about a request that could not be told."""
    written = "SELECT 1 FROM history WHERE span_seconds = 60 AND begins_at >= now() - interval '2 minutes'"
    wait_until(lambda: running.rows(written), "the worker has written down that nothing happened yet")
    _write_hour(running)
    for topic, description, name in _ASKED:
        asked = running.post(topic, description, customer={"name": name, "email": "customer@example.com"})
        running.ended_as(asked["id"], "delivered")
    _replay_one(running)
    return running.dead_request(
        "The lift in Elm Street 4 stands still, with nobody in it.",
        customer={"id": "cus_42", "name": "Margaret Hamilton", "phone": "+45 12 34 56 78"},
        metadata={"building": "Elm Street 4", "lift": "2"},
        bot={"name": "house-bot", "reason": "The customer asked for a person."},
    )


def _replay_one(running: Installation) -> None:
    """A job, so that its list is not empty."""
    running.dead_request("A smoke detector chirps.", "alarms")
    who = Actor(name="olga", via="console")
    query = {"channel": "smoke-alarms"}
    begun = running.database.run(
        lambda connection: jobs.begin(
            connection, Kind.REPLAY, query, shown=1, per_second=10, actor=who, reason="They answer again."
        )
    )
    done = "SELECT 1 FROM operations WHERE id = :id AND state = 'done'"
    wait_until(lambda: running.rows(done, id=begun), "the job is done")


def _write_hour(running: Installation) -> None:
    chance = Random(6)  # the same hour each time
    with running.database.transaction() as connection:
        now = connection.execute(select(func.date_trunc("minute", func.now()))).scalar_one()
        rows = []
        for minutes_ago in range(59, 1, -1):
            begins_at = now - timedelta(minutes=minutes_ago)
            of_channels = list(_channels_at(minutes_ago, chance))
            rows += [{"span_seconds": 60, "begins_at": begins_at, **row} for row in (*of_channels, _sum(of_channels))]
        connection.execute(delete(history).where(history.c.begins_at < now - timedelta(minutes=1)))
        connection.execute(insert(history), rows)


def _channels_at(minutes_ago: int, chance: Random) -> Iterator[dict[str, Any]]:
    for channel, usual in _PER_MINUTE.items():
        accepted = max(0, round(usual * (1 + 0.4 * math.sin(minutes_ago / 9 + usual)) + chance.uniform(-2, 2)))
        is_ours = channel == "field-service"
        is_out, drains = is_ours and minutes_ago in _TROUBLE, is_ours and minutes_ago in _DRAINING
        waiting = 5 * (_TROUBLE.stop - minutes_ago) if is_out else 14 * (minutes_ago - _DRAINING.start) * drains
        delivered = 0 if is_out else accepted + 14 * drains
        seconds = 600.0 if drains else chance.choice((0.5, 0.75, 1.0) if channel == "sales-team" else (1.5, 2.0, 3.0))
        hints = chance.choice((0, 0, 0, 1, 2))
        yield {
            "channel": channel,
            "accepted": accepted,
            "delivered": delivered,
            "dead": int(is_out and minutes_ago % 5 == 0),
            "attempts": {"timeout": chance.choice((1, 2, 3))} if is_out else {"delivered": delivered},
            "latency": [delivered if bound == seconds else 0 for bound in (*BOUNDS, None)],
            "backlog": {"retrying": waiting} if waiting else {},
            "oldest_seconds": 60.0 * (_TROUBLE.stop - minutes_ago) if waiting else None,
            "outbox": hints,
            "outbox_oldest_seconds": hints * chance.uniform(0.05, 0.4),
            "breaker": "open" if is_out else "half_open" if drains and waiting == _HALF_OPEN else "closed",
        }


def _sum(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The row about everything."""
    attempts: Counter[str] = Counter()
    for row in rows:
        attempts.update(row["attempts"])
    whole = {name: sum(row[name] for row in rows) for name in ("accepted", "delivered", "dead", "outbox")}
    return {
        **whole,
        "channel": "",
        "attempts": dict(attempts),
        "latency": [sum(counts) for counts in zip(*(row["latency"] for row in rows), strict=True)],
        "backlog": rows[-1]["backlog"],
        "oldest_seconds": rows[-1]["oldest_seconds"],
        "outbox_oldest_seconds": max(row["outbox_oldest_seconds"] for row in rows),
        "breaker": None,
    }
