"""All that is known of one request, in one statement: what was asked, its deliveries, and everything that happened.

What happened comes from seven tables. Each gives entries of the same shape (a kind, a moment, and the row as JSON), so
that a page that is read again every few seconds costs the database one question.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CTE,
    ColumnElement,
    Connection,
    DateTime,
    FromClause,
    Integer,
    Select,
    Text,
    bindparam,
    cast,
    func,
    literal,
    or_,
    select,
    union_all,
)

from assistance.deliveries.fallback import FALLBACK_TIMER
from assistance.deliveries.schedule import Timer
from assistance.storage.tables import (
    attempts,
    audit,
    dead_letters,
    deliveries,
    events,
    idempotency_keys,
    outbox,
    requests,
    timers,
)

#: The most rows that are read of one request; of what happened, the newest.
MOST = 1_000
_REF = re.compile(r"A-[0-9A-Z]{6}", re.IGNORECASE | re.ASCII)
_TIMERS = (FALLBACK_TIMER, *Timer)
_REQUEST, _DELIVERY = "request", "delivery"
#: Bytes that nobody reads on a page, and what only a worker needs.
_LEFT_OUT = frozenset({"fingerprint", "body", "headers", "lease_token"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """Something that happened to a request at a moment, or will. `data` is the row, with instants as `datetime`.

    `kind` is `event`, `attempt`, `hint` (waiting in the outbox), `timer`, `letter`, `resolved` (of a letter), `key`
    (the Idempotency-Key of a call) or `act` (of a person, from the audit log).
    """

    kind: str
    at: datetime
    data: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Story:
    """A request, read at one moment (`now`, the database's). `is_cut` says that its oldest entries were left out."""

    now: datetime
    request: Mapping[str, Any]
    deliveries: Sequence[Mapping[str, Any]]
    entries: Sequence[Entry]
    is_cut: bool


def read_story(connection: Connection, ref_or_id: str) -> Story | None:
    """The request that a ref or an id names, entries in the order of their time; none when there is none.

    Raises `ValueError` for a text that is neither a ref nor an id.
    """
    if _REF.fullmatch(ref_or_id):
        rows = connection.execute(_BY_REF, {"name": ref_or_id.upper()}).all()
    else:
        rows = connection.execute(_BY_ID, {"name": UUID(ref_or_id)}).all()
    found = [row for row in rows if row.kind == _REQUEST]
    if not found:
        return None
    told = [_thawed(row.data) for row in rows if row.kind == _DELIVERY]
    happened = [row for row in rows if row.kind not in (_REQUEST, _DELIVERY)]
    entries = [Entry(kind=row.kind, at=row.at, data=_thawed(row.data)) for row in reversed(happened)]
    request = _thawed(found[0].data)
    return Story(
        now=request["now"],
        request=request,
        deliveries=sorted(told, key=lambda delivery: str(delivery["id"])),
        entries=entries,
        is_cut=len(rows) > MOST,
    )


def _statement(wanted: ColumnElement[bool]) -> Select[Any]:
    this = select(requests).where(wanted).cte("this")
    told = select(deliveries).where(deliveries.c.request_id == select(this.c.id).scalar_subquery()).cte("told")
    parts = union_all(*_rows(this, told)).subquery()
    ordered = select(parts.c.kind, parts.c.at, parts.c.data)
    newest_first = (parts.c.at.desc(), parts.c.rank.desc(), parts.c.number.desc())
    return ordered.order_by((parts.c.rank == 0).desc(), *newest_first).limit(MOST + 1)


def _rows(this: CTE, told: CTE) -> Iterator[Select[Any]]:
    """The parts of the statement; entries of one moment stand in the order of their ranks."""
    yield _part(0, _REQUEST, this.c.created_at, this, now=func.now())
    yield _part(0, _DELIVERY, told.c.created_at, told)
    keys = idempotency_keys.join(this, idempotency_keys.c.request_id == this.c.id)
    yield _part(1, "key", idempotency_keys.c.created_at, idempotency_keys, keys)
    buried = dead_letters.join(told, dead_letters.c.delivery_id == told.c.id)
    yield _part(2, "act", audit.c.at, audit).where(_about(this, told, buried))
    tried = attempts.join(told, attempts.c.delivery_id == told.c.id)
    told_by = {"channel": told.c.channel, "purpose": told.c.purpose}
    yield _part(3, "attempt", attempts.c.started_at, attempts, tried, number=attempts.c.number, **told_by)
    yield _part(4, "letter", dead_letters.c.created_at, dead_letters, buried)
    resolved = _part(5, "resolved", dead_letters.c.resolved_at, dead_letters, buried)
    yield resolved.where(dead_letters.c.resolved_at.is_not(None))
    happened = events.join(this, events.c.request_id == this.c.id)
    yield _part(6, "event", events.c.at, events, happened, number=events.c.version)
    yield _part(7, "hint", outbox.c.available_at, outbox, outbox.join(told, outbox.c.delivery_id == told.c.id))
    due = timers.join(this, timers.c.subject == this.c.id)
    yield _part(8, "timer", timers.c.due_at, timers, due).where(timers.c.kind.in_(_TIMERS))


def _about(this: CTE, told: CTE, buried: FromClause) -> ColumnElement[bool]:
    """Which rows of the audit log are about the request; arrays, because subqueries would have all rows looked at."""
    letters = select(cast(dead_letters.c.id, Text)).select_from(buried)
    subjects = {"request": select(cast(this.c.id, Text)), "delivery": select(cast(told.c.id, Text))}
    return or_(
        *(
            (audit.c.subject_kind == kind) & (audit.c.subject == func.any(func.array(ids.scalar_subquery())))
            for kind, ids in {**subjects, "dead_letter": letters}.items()
        )
    )


def _part(
    rank: int,
    kind: str,
    at: ColumnElement[Any],
    table: FromClause,
    source: FromClause | None = None,
    *,
    number: ColumnElement[int] | None = None,
    **more: ColumnElement[Any],
) -> Select[Any]:
    """Rows of `table`, found in `source`, as entries; `number` orders those of one moment."""
    columns = {column.name: column for column in table.c if column.name not in _LEFT_OUT} | more
    pairs = [part for name, column in columns.items() for part in (literal(name, Text), column)]
    return select(
        literal(rank, Integer).label("rank"),
        literal(kind, Text).label("kind"),
        at.label("at"),
        (literal(0, Integer) if number is None else number).label("number"),
        func.jsonb_build_object(*pairs).label("data"),
    ).select_from(source if source is not None else table)


_INSTANTS = frozenset(
    column.name
    for table in (requests, deliveries, attempts, events, dead_letters, outbox, timers, audit, idempotency_keys)
    for column in table.c
    if isinstance(column.type, DateTime)
) | {"now"}


def _thawed(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with its instants, which JSON holds as text."""
    return {
        name: datetime.fromisoformat(value) if name in _INSTANTS and value is not None else value
        for name, value in row.items()
    }


# Built once: putting these together takes longer than the database takes to answer.
_BY_REF = _statement(requests.c.ref == bindparam("name"))
_BY_ID = _statement(requests.c.id == bindparam("name"))
