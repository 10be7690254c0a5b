"""Lists of requests, newest first, in pages that stay as they are while new requests arrive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, func, select, tuple_

from assistance.runtime.clock import Deadline
from assistance.status.finding import SHOWN_COLUMNS
from assistance.storage.database import Database
from assistance.storage.tables import requests


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a page ended: the next one begins behind this request."""

    created_at: datetime
    id: UUID


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """Which requests; every part that is none lets all through. `status` is the API's one word."""

    limit: int
    client: str | None
    status: str | None = None
    topic: str | None = None
    customer_id: str | None = None
    dedup_key: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    behind: Place | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """Requests as `status.finding.Finder` gives them, without deliveries, and where the next page begins."""

    requests: Sequence[Mapping[str, Any]]
    next: Place | None


def page_of(database: Database, wanted: Wanted, deadline: Deadline) -> Page:
    """The newest requests that are wanted.

    Raises `DatabaseUnavailable`.
    """
    statement = (
        select(*SHOWN_COLUMNS)
        .where(*_conditions(wanted))
        .order_by(requests.c.created_at.desc(), requests.c.id.desc())
        .limit(wanted.limit + 1)
    )
    with database.transaction(deadline) as connection:
        rows = [dict(row) for row in connection.execute(statement).mappings()]
    shown = rows[: wanted.limit]
    if len(rows) == len(shown):
        return Page(requests=shown, next=None)
    return Page(requests=shown, next=Place(created_at=shown[-1]["created_at"], id=shown[-1]["id"]))


def _conditions(wanted: Wanted) -> list[ColumnElement[bool]]:
    status = func.coalesce(requests.c.handling, requests.c.status)
    equal = {
        requests.c.client: wanted.client,
        status: wanted.status,
        requests.c.topic: wanted.topic,
        requests.c.customer_id: wanted.customer_id,
        requests.c.dedup_key: wanted.dedup_key,
    }
    conditions = [column == value for column, value in equal.items() if value is not None]
    if wanted.created_after is not None:
        conditions.append(requests.c.created_at > wanted.created_after)
    if wanted.created_before is not None:
        conditions.append(requests.c.created_at < wanted.created_before)
    if wanted.behind is not None:
        behind = (wanted.behind.created_at, wanted.behind.id)
        conditions.append(tuple_(requests.c.created_at, requests.c.id) < tuple_(*behind))
    return conditions
