"""The Flask view that everybody else in the comparison uses: it reads, stores, queues and answers alike for all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import flask
import sqlalchemy
from sqlalchemy import Connection, func, insert

from assistance.storage.database import driver_url
from assistance.storage.tables import deliveries, idempotency_keys, requests
from bench.payload import CHANNEL
from bench.sizes import POOL_SIZE


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """A request that was written."""

    request_id: uuid.UUID
    delivery_id: uuid.UUID
    created_at: datetime
    body: dict[str, Any]

    @property
    def task(self) -> dict[str, Any]:
        """What a worker needs to know."""
        return {"request_id": str(self.request_id), "delivery_id": str(self.delivery_id), "body": self.body}


#: Stores a body under a key and queues the telling of it.
TakeIn = Callable[[dict[str, Any], str], Stored]


def storing_app(take_in: TakeIn) -> flask.Flask:
    """An application that answers once a request was taken in."""
    app = flask.Flask(__name__)

    @app.post("/assistance")
    def ask() -> tuple[flask.Response, int, dict[str, str]]:
        stored = take_in(flask.request.get_json(), flask.request.headers["Idempotency-Key"])
        return answer(str(stored.request_id), stored.body, stored.created_at)

    return app


def in_one_transaction(queue: Callable[[Connection, Stored], None]) -> TakeIn:
    """Store and queue in one transaction of its own, on a connection of the pool."""
    engine = make_engine()

    def take_in(body: dict[str, Any], key: str) -> Stored:
        with engine.begin() as connection:
            stored = store(connection, body, key)
            queue(connection, stored)
        return stored

    return take_in


def make_engine() -> sqlalchemy.Engine:
    """A pool of the size that everybody has."""
    return sqlalchemy.create_engine(driver_url(os.environ["BENCH_DATABASE_URL"]), pool_size=POOL_SIZE, max_overflow=0)


def answer(name: str, body: dict[str, Any], created_at: datetime) -> tuple[flask.Response, int, dict[str, str]]:
    """What a bot is told."""
    shown = flask.jsonify(
        id=name,
        ref="A-7F3K9Q",
        topic=body["topic"],
        status="accepted",
        created_at=created_at.isoformat(),
        links={"self": f"/assistance/{name}", "events": f"/assistance/{name}/events"},
    )
    return shown, 202, {"Location": f"/assistance/{name}"}


def store(connection: Connection, body: dict[str, Any], key: str) -> Stored:
    """Write the rows of a request: itself, its delivery and its key."""
    name, delivery = uuid.uuid4(), uuid.uuid4()
    created_at = connection.execute(
        insert(requests)
        .values(
            id=name,
            ref=f"A-{name.hex[:12]}",
            client="bench",
            topic=body["topic"],
            description=body["description"],
            customer=body["customer"],
            customer_id=body["customer"]["id"],
            metadata=body["metadata"],
        )
        .returning(requests.c.created_at)
    ).scalar_one()
    check_at = func.now() + timedelta(seconds=300)
    connection.execute(insert(deliveries).values(id=delivery, request_id=name, channel=CHANNEL, check_at=check_at))
    connection.execute(insert(idempotency_keys).values(client="bench", key=key, fingerprint=b"", request_id=name))
    return Stored(request_id=name, delivery_id=delivery, created_at=created_at, body=body)
