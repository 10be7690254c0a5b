"""Procrastinate: jobs in PostgreSQL, deferred in the transaction of the request; no broker.

`python -m bench.apps.procrastinate_peer` makes its tables.
"""

from __future__ import annotations

import os
from typing import Any

import procrastinate
from sqlalchemy import Connection

from bench.apps.telling import tell_in_thread
from bench.apps.view import Stored, in_one_transaction, storing_app
from bench.sizes import POOL_SIZE

_URL = os.environ["BENCH_DATABASE_URL"]
jobs = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=_URL, max_size=POOL_SIZE))


@jobs.task(name="deliver", queue="bench", retry=procrastinate.RetryStrategy(max_attempts=8, exponential_wait=2))
async def deliver(task: dict[str, Any]) -> None:
    await tell_in_thread(task)


_deferring = jobs.with_connector(procrastinate.SyncPsycopgConnector(conninfo=_URL, max_size=POOL_SIZE))


def _defer(connection: Connection, stored: Stored) -> None:
    driver: Any = connection.connection.driver_connection
    _deferring.tasks["deliver"].configure(connection=driver).defer(task=stored.task)


app = storing_app(in_one_transaction(_defer))

if __name__ == "__main__":
    with _deferring.open():
        _deferring.schema_manager.apply_schema()
