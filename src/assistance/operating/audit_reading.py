"""Reads the audit log: filtered, the newest first, and written out for others to keep."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import Connection, Row, Select, func, select, tuple_

from assistance.search import values
from assistance.search.filters import Filter, Kinds
from assistance.storage.database import Database
from assistance.storage.tables import audit

#: So many lines are read at once when all are written out.
_BATCH = 1000
COLUMNS = tuple(column.name for column in audit.columns)
#: What a spreadsheet takes for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditFilter(Filter):
    """Which lines of the audit log; `request_id` is that of the HTTP call that acted."""

    actor: str | None = None
    via: str | None = None
    action: str | None = None
    subject_kind: str | None = None
    subject: str | None = None
    operation_id: tuple[UUID, ...] = ()
    request_id: str | None = None
    since: datetime | timedelta | None = None
    until: datetime | None = None

    _KINDS: ClassVar[Kinds] = {
        "actor": values.text(255),
        "via": values.word("console", "command", "api"),
        "action": values.text(40),
        "subject_kind": values.text(40),
        "subject": values.text(255),
        "operation_id": values.uuids,
        "request_id": values.text(255),
        "since": values.instant_or_period,
        "until": values.instant,
    }


def find(
    connection: Connection, wanted: AuditFilter, *, limit: int, before: int | None = None
) -> Sequence[Row[Any, Any]]:
    """The newest lines; `before` is the id of the last one of the page before."""
    statement = _lines(wanted).order_by(audit.c.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(audit.c.id < before)
    return connection.execute(statement).all()


def about(connection: Connection, subjects: Sequence[tuple[str, object]], *, limit: int) -> Sequence[Row[Any, Any]]:
    """What was done to these things (their kinds and ids), the newest first."""
    pairs = [(kind, str(subject)) for kind, subject in subjects]
    these = tuple_(audit.c.subject_kind, audit.c.subject).in_(pairs)
    return connection.execute(select(audit).where(these).order_by(audit.c.id.desc()).limit(limit)).all()


def lines(database: Database, wanted: AuditFilter) -> Iterator[dict[str, Any]]:
    """All lines, the newest first, in values that JSON knows; each thousand is a transaction."""
    before: int | None = None
    while True:
        with database.transaction() as connection:
            page = find(connection, wanted, limit=_BATCH, before=before)
        for row in page:
            yield {name: _plain(value) for name, value in zip(COLUMNS, row, strict=True)}
        if len(page) < _BATCH:
            return
        before = page[-1].id


def as_csv(database: Database, wanted: AuditFilter) -> Iterator[str]:
    """All lines as CSV with a heading, in pieces; no cell of it is a formula."""
    yield _csv_line(COLUMNS)
    for line in lines(database, wanted):
        yield _csv_line([_cell(line[name]) for name in COLUMNS])


def as_json(database: Database, wanted: AuditFilter) -> Iterator[str]:
    """All lines as JSON, one object on each line, in pieces."""
    for line in lines(database, wanted):
        yield json.dumps(line, ensure_ascii=False) + "\n"


def _lines(wanted: AuditFilter) -> Select[Any]:
    statement = select(audit)
    for name in ("actor", "via", "action", "subject_kind", "subject", "request_id"):
        value = getattr(wanted, name)
        if value is not None:
            statement = statement.where(audit.c[name] == value)
    if wanted.operation_id:
        statement = statement.where(audit.c.operation_id.in_(wanted.operation_id))
    if isinstance(wanted.since, timedelta):
        statement = statement.where(audit.c.at >= func.now() - wanted.since)
    elif wanted.since is not None:
        statement = statement.where(audit.c.at >= wanted.since)
    if wanted.until is not None:
        statement = statement.where(audit.c.at < wanted.until)
    return statement


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, UUID) else value


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _csv_line(cells: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(cells)
    return line.getvalue()
