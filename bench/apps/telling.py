"""What the workers of the others do with a task: post it to the sink, and write down that it was delivered."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import sqlalchemy
from sqlalchemy import func, update

from assistance.storage.tables import deliveries, requests
from bench.apps.view import make_engine
from bench.sizes import DELIVERY_THREADS

_kept = threading.local()
_threads = ThreadPoolExecutor(DELIVERY_THREADS)


async def tell_in_thread(task: dict[str, Any]) -> None:
    """The same for workers that run an event loop: on as many threads as the others have."""
    await asyncio.get_running_loop().run_in_executor(_threads, tell, task)


def tell(task: dict[str, Any]) -> None:
    """Post over a connection that each thread keeps, then write the end of delivery and request in one transaction."""
    body = json.dumps({"type": "assistance.requested", "data": task["body"]})
    connection = _connection()
    connection.request("POST", "/", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    if answer.status != http.HTTPStatus.OK:
        raise RuntimeError(f"the sink answered {answer.status}")
    with _engine().begin() as transaction:
        transaction.execute(
            update(deliveries)
            .where(deliveries.c.id == uuid.UUID(task["delivery_id"]))
            .values(state="delivered", receipt={"status": 200}, attempt=1, check_at=None, updated_at=func.now())
        )
        transaction.execute(
            update(requests)
            .where(requests.c.id == uuid.UUID(task["request_id"]))
            .values(status="delivered", state_version=2, updated_at=func.now(), ended_at=func.now())
        )


def _connection() -> http.client.HTTPConnection:
    if not hasattr(_kept, "connection"):
        _kept.connection = http.client.HTTPConnection("127.0.0.1", int(os.environ["BENCH_SINK_PORT"]), timeout=10)
    connection: http.client.HTTPConnection = _kept.connection
    return connection


@cache
def _engine() -> sqlalchemy.Engine:
    return make_engine()
