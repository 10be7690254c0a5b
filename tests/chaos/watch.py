"""Looks at the installation from outside while it is attacked: what is in flight, and whether it is done."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import deque
from typing import Any

import pika
import psycopg
from pika.exceptions import AMQPError

from assistance.broker.topology import EXCHANGE
from assistance.conciliation.ledger import Ledger, read_ledger
from assistance.domain.errors import AssistanceError
from assistance.domain.hint import HINT_TYPE, Hint, encode
from assistance.storage.database import Database, raw_connection
from tests.chaos.world import World

_EVERY_SECONDS = 0.25
_FRESH_SECONDS = 3.0
_UNFINISHED = "SELECT count(*) FROM deliveries WHERE check_at IS NOT NULL"
#: What waits for a channel that is out moves nothing, but somebody has to deliver it once the channel is back.
_IN_FLIGHT = """
    SELECT count(*) FILTER (WHERE NOT out) + count(*) FILTER (WHERE out) / 2 FROM (
        SELECT EXISTS (SELECT FROM channel_states s WHERE s.channel = d.channel AND s.out_since IS NOT NULL) AS out
        FROM deliveries d WHERE d.check_at IS NOT NULL
    ) waiting
"""


class Watch:
    """Asks the database again and again how many deliveries are unfinished; thread-safe."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._log = world.folder / "received.jsonl"
        self._closed = threading.Event()
        self._received = 0  # bytes in the third parties' log
        self._received_at = 0.0
        self._looks: deque[tuple[float, int]] = deque(maxlen=64)
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    def in_flight(self) -> int | None:
        """Unfinished deliveries at the last look, half of those of channels that are out; none before the first."""
        return self._looks[-1][1] if self._looks else None

    def busy(self, patience: float = 0.0) -> bool:
        """Whether work flows: deliveries are in flight, and third parties received something moments ago.

        Waits for it, `patience` seconds at most.
        """
        deadline = time.monotonic() + patience
        while not (is_busy := self._flows()) and time.monotonic() < deadline:
            time.sleep(_EVERY_SECONDS / 2)
        return is_busy

    def _flows(self) -> bool:
        now = time.monotonic()
        in_flight = any(number for at, number in list(self._looks) if now - at < _FRESH_SECONDS)
        return in_flight and now - self._received_at < _FRESH_SECONDS

    def unfinished(self) -> tuple[int, int] | None:
        """Unfinished deliveries and outbox rows now; none when the database does not answer."""
        with (
            contextlib.suppress(AssistanceError, psycopg.Error),
            raw_connection(self._world.postgres.url) as connection,
        ):
            row = connection.execute(f"SELECT ({_UNFINISHED}), (SELECT count(*) FROM outbox)").fetchone()
            return (row[0], row[1]) if row else None
        return None

    def ledger(self) -> Ledger:
        database = Database(self._world.postgres.url, pool_size=1)
        try:
            return database.run(read_ledger)
        finally:
            database.close()

    def queued(self) -> dict[str, int]:
        """Messages that wait or are being worked on, by queue."""
        lines = self._world.rabbit.rabbitmqctl("list_queues", "--no-table-headers", "name", "messages").splitlines()
        return {name: int(count) for name, count in (line.split() for line in lines if line.strip())}

    def repeat_hints(self, dice: random.Random) -> int:
        """Publish hints again that were published before, in any order; how many."""
        try:
            with raw_connection(self._world.postgres.url) as database:
                rows = database.execute(
                    "SELECT id, request_id, channel, series, greatest(attempt, 1) FROM deliveries"
                    " ORDER BY created_at DESC LIMIT 60"
                ).fetchall()
            dice.shuffle(rows)
            with contextlib.closing(pika.BlockingConnection(pika.URLParameters(self._world.rabbit.url))) as broker:
                channel = broker.channel()
                for row in rows:
                    _publish(channel, Hint(**dict(zip(_HINT, row, strict=True))))
        except (AssistanceError, psycopg.Error, AMQPError, OSError):
            return 0
        return len(rows)

    def _run(self) -> None:
        connection: Any = None
        while not self._closed.wait(_EVERY_SECONDS):
            self._look_at_log()
            try:
                connection = connection or raw_connection(self._world.postgres.url)
                number = connection.execute(_IN_FLIGHT).fetchone()[0]
                self._looks.append((time.monotonic(), number))
            except (AssistanceError, psycopg.Error):
                if connection is not None:
                    connection.close()
                connection = None
        if connection is not None:
            connection.close()

    def _look_at_log(self) -> None:
        size = self._log.stat().st_size if self._log.exists() else 0
        if size != self._received:
            self._received, self._received_at = size, time.monotonic()


_HINT = ("delivery_id", "request_id", "channel", "series", "attempt")


def _publish(channel: Any, hint: Hint) -> None:
    properties = pika.BasicProperties(type=HINT_TYPE, message_id=str(hint.delivery_id), delivery_mode=2)
    channel.basic_publish(EXCHANGE, hint.channel, encode(hint), properties)
