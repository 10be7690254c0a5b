"""Everything that is stored about a customer, one request after the other."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Table, select

from assistance.privacy.customers import Customer, next_requests
from assistance.runtime.clock import Deadline
from assistance.storage.database import Database
from assistance.storage.tables import attempts, dead_letters, deliveries, events, idempotency_keys, requests

_BATCH = 50
#: Who of us did something, and with which lease, is ours alone.
_OURS = frozenset({"worker", "lease_token", "resolved_by", "actor", "fingerprint"})


def export(database: Database, customer: Customer, *, batch_seconds: float = 30.0) -> Iterator[Mapping[str, Any]]:
    """The customer's requests, the oldest first, each with all its rows in other tables; at the end, how many.

    Keys: request, events, deliveries, attempts, dead_letters and idempotency_keys (lists of rows), and `exported` in
    the last one alone. Raises `DatabaseUnavailable`, also half-way: what has no last one is not whole.
    """
    exported = 0
    after: UUID | None = None
    while True:
        with database.transaction(Deadline.after(batch_seconds)) as connection:
            ids = next_requests(connection, customer, after, _BATCH)
            stories = [_story_of(connection, request_id) for request_id in ids]
        yield from stories
        exported += len(stories)
        if len(ids) < _BATCH:
            break
        after = ids[-1]
    yield {"exported": exported}


def plain(value: Any) -> Any:
    """What `export` gave as JSON, without what concerns nobody outside; instants in RFC 3339, bytes in base64."""
    match value:
        case Mapping():
            return {name: plain(member) for name, member in value.items() if name not in _OURS}
        case list() | tuple():
            return [plain(member) for member in value]
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case bytes():
            return base64.b64encode(value).decode()
        case UUID():
            return str(value)
        case _:
            return value


def _story_of(connection: Connection, request_id: UUID) -> Mapping[str, Any]:
    own = select(deliveries.c.id).where(deliveries.c.request_id == request_id)
    found = {
        "request": _rows(connection, requests, requests.c.id == request_id),
        "events": _rows(connection, events, events.c.request_id == request_id, events.c.version),
        "deliveries": _rows(connection, deliveries, deliveries.c.request_id == request_id, deliveries.c.id),
        "attempts": _rows(connection, attempts, attempts.c.delivery_id.in_(own), attempts.c.started_at),
        "dead_letters": _rows(connection, dead_letters, dead_letters.c.delivery_id.in_(own), dead_letters.c.id),
        "idempotency_keys": _rows(connection, idempotency_keys, idempotency_keys.c.request_id == request_id),
    }
    return {**found, "request": found["request"][0]}


def _rows(
    connection: Connection, table: Table, condition: ColumnElement[bool], *order: ColumnElement[Any]
) -> Sequence[Mapping[str, Any]]:
    return [dict(row) for row in connection.execute(select(table).where(condition).order_by(*order)).mappings()]
