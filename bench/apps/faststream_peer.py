"""faststream-outbox: an outbox row in the transaction of the request, a relay to RabbitMQ, a subscriber there.

`python -m bench.apps.faststream_peer tables|relay|worker`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from typing import Any

from faststream.rabbit import Channel, QueueType, RabbitBroker, RabbitQueue
from faststream_outbox import OutboxBroker, make_outbox_table
from sqlalchemy import MetaData
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from assistance.storage.database import driver_url
from bench.apps.telling import tell_in_thread
from bench.apps.view import Stored, store, storing_app
from bench.sizes import DELIVERY_THREADS, POOL_SIZE

QUEUE = "bench.faststream"
_metadata = MetaData()
_table = make_outbox_table(_metadata, table_name="faststream_outbox")


def _engine() -> AsyncEngine:
    url = driver_url(os.environ["BENCH_DATABASE_URL"]).set(drivername="postgresql+asyncpg")
    return create_async_engine(url, pool_size=POOL_SIZE, max_overflow=0)


def _rabbit() -> tuple[RabbitBroker, RabbitQueue]:
    broker = RabbitBroker(
        os.environ["BENCH_BROKER_URL"],
        log_level=logging.DEBUG,
        default_channel=Channel(prefetch_count=2 * DELIVERY_THREADS),
    )
    return broker, RabbitQueue(QUEUE, queue_type=QueueType.QUORUM, durable=True)


async def _relay() -> None:
    rabbit, queue = _rabbit()
    outbox = OutboxBroker(_engine(), outbox_table=_table, log_level=logging.DEBUG)

    @rabbit.publisher(queue, persist=True)
    @outbox.subscriber("relay", max_workers=4, fetch_batch_size=100, terminal_flush_batch_size=100)
    async def relay(body: dict[str, Any]) -> dict[str, Any]:
        return body

    await rabbit.start()
    await rabbit.declare_queue(queue)
    await outbox.start()
    await asyncio.Event().wait()


async def _work() -> None:
    rabbit, queue = _rabbit()

    @rabbit.subscriber(queue)
    async def deliver(body: dict[str, Any]) -> None:
        await tell_in_thread(body)

    await rabbit.start()
    await asyncio.Event().wait()


async def _make_tables() -> None:
    async with _engine().begin() as connection:
        await connection.run_sync(_metadata.create_all)


class _Loop:
    """The event loop on which the view's transactions run, because this outbox is written asynchronously only."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._engine = _engine()
        self._outbox = OutboxBroker(self._engine, outbox_table=_table, log_level=logging.DEBUG)

    def take_in(self, body: dict[str, Any], key: str) -> Stored:
        return asyncio.run_coroutine_threadsafe(self._store(body, key), self._loop).result()

    async def _store(self, body: dict[str, Any], key: str) -> Stored:
        async with self._engine.begin() as connection:
            stored = await connection.run_sync(store, body, key)
            await self._outbox.publish(stored.task, queue="relay", session=connection)
        return stored


if __name__ == "__main__":
    asyncio.run({"tables": _make_tables, "relay": _relay, "worker": _work}[sys.argv[1]]())
else:
    app = storing_app(_Loop().take_in)
