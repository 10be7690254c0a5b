"""`/console/operations` and `/console/audit`: acts on many things at once, and who did what."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain, islice
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import flask
from sqlalchemy import Connection, Row

from assistance.console.desk import Desk
from assistance.console.showing import Refused, go_to, show
from assistance.console.signing_in import actor, needs
from assistance.domain.operator import Actor, Role
from assistance.operating import jobs
from assistance.operating.audit_reading import AuditFilter, about, as_csv, as_json, find
from assistance.search import values
from assistance.search.mistakes import FilterMistake
from assistance.storage.database import Database

_PAGE = 25
_LINES = 100
_HEADING_AND_LINE = 2
_LIST = "/console/operations"
_AUDIT = "/console/audit"


def add_routes(blueprint: flask.Blueprint, desk: Desk) -> None:
    """Serve the operations, what may be done with them, and the audit log."""

    @blueprint.get("/operations")
    def operations() -> flask.Response:
        before_id = _operation_before()
        with desk.database.look(desk.deadline()) as connection:
            before = jobs.show(connection, before_id) if before_id else None
            rows = jobs.find(connection, limit=_PAGE + 1, before=before)
        open_ones = sum(row.ended_at is None for row in rows[:_PAGE])
        return show(
            "operations.html",
            title=f"({open_ones} at work) Operations" if open_ones else "Operations",
            refresh_seconds=2 if open_ones else 10,
            operations=[_shown(row) for row in rows[:_PAGE]],
            older_url=f"{_LIST}?before={rows[_PAGE - 1].id}" if len(rows) > _PAGE else None,
            is_first=before_id is None,
        )

    @blueprint.get("/operations/<uuid:operation_id>")
    def operation(operation_id: UUID) -> flask.Response:
        with desk.database.look(desk.deadline()) as connection:
            row = jobs.show(connection, operation_id)
            lines = about(connection, [("operation", operation_id)], limit=_LINES)
        if row is None:
            raise Refused(f"There is no operation {operation_id}.", 404, _LIST)
        shown = _shown(row)
        return show(
            "operation.html",
            title=f"{shown['progress']} {row.kind}: {row.state}",
            refresh_seconds=0 if row.ended_at else 2,
            operation=shown,
            lines=lines,
        )

    @blueprint.post("/operations/<uuid:operation_id>/cancel")
    def cancel_operation(operation_id: UUID) -> flask.Response:
        _change(desk, operation_id, jobs.cancel)
        return go_to(f"{_LIST}/{operation_id}", "The operation is cancelled; what was done stays done.")

    @blueprint.post("/operations/<uuid:operation_id>/resume")
    def resume_operation(operation_id: UUID) -> flask.Response:
        _change(desk, operation_id, jobs.resume)
        return go_to(f"{_LIST}/{operation_id}", "The operation goes on where it stopped.")

    @blueprint.get("/audit")
    def audit_log() -> flask.Response:
        arguments = dict(flask.request.args.items())
        wanted = AuditFilter.from_query(arguments, besides=("before",))
        before = _line_before(arguments.get("before", ""))
        with desk.database.look(desk.deadline()) as connection:
            rows = find(connection, wanted, limit=_LINES + 1, before=before)
        query = wanted.to_query()
        older = {**query, "before": str(rows[_LINES - 1].id)} if len(rows) > _LINES else None
        return show(
            "audit.html",
            title="Audit log",
            refresh_seconds=10,
            steady=True,
            lines=rows[:_LINES],
            written=arguments,
            query=urlencode(query),
            is_filtered=bool(query),
            older_url=f"{_AUDIT}?{urlencode(older)}" if older else None,
            is_first=before is None,
        )

    @blueprint.get("/audit.csv")
    def audit_as_csv() -> flask.Response:
        return _export(desk, as_csv, "audit.csv", "text/csv; charset=utf-8; header=present")

    @blueprint.get("/audit.json")
    def audit_as_json() -> flask.Response:
        return _export(desk, as_json, "audit.jsonl", "application/x-ndjson")


def _change(desk: Desk, operation_id: UUID, change: Callable[[Connection, UUID, Actor], None]) -> None:
    needs(Role.OPERATOR)
    who = actor()
    desk.database.run(lambda connection: change(connection, operation_id, who), desk.deadline())


def _shown(row: Row[Any, Any]) -> Mapping[str, Any]:
    """An operation with how far it is, and how long it will take at its rate."""
    through = row.done + row.refused
    left = max(0, row.expected - through)
    return {
        **row._mapping,  # noqa: SLF001 (a row's own way to be a mapping)
        "through": through,
        "progress": f"{min(100, round(100 * through / row.expected)) if row.expected else 100} %",
        "left_seconds": None if row.ended_at else left / row.per_second,
        "url": f"{_LIST}/{row.id}",
        "things": "dead letters" if row.kind in ("replay", "discard") else "requests",
        "list_url": _list_of(row),
        "filter_words": ", ".join(f"{name} {value}" for name, value in row.filter.items()) or "everything",
    }


def _list_of(row: Row[Any, Any]) -> str:
    """Where the things that the filter means are listed."""
    page = "/console/dead" if row.kind in ("replay", "discard") else "/console/requests"
    return f"{page}?{urlencode(row.filter)}" if row.filter else page


def _operation_before() -> UUID | None:
    written = flask.request.args.get("before", "")
    found = values.as_uuid(written)
    if written and found is None:
        raise FilterMistake("before", written, "has to be the id of an operation")
    return found


def _line_before(written: str) -> int | None:
    if not written:
        return None
    try:
        return values.whole(1, 2**63 - 1)(written)
    except ValueError as error:
        raise FilterMistake("before", written, str(error)) from None


def _export(
    desk: Desk, written_by: Callable[[Database, AuditFilter], Iterator[str]], name: str, kind: str
) -> flask.Response:
    """The whole log as a file, piece by piece.

    The first line of the log comes before the answer begins: a database that is away is a page, not a cut file.
    """
    wanted = AuditFilter.from_query(dict(flask.request.args.items()))
    pieces = written_by(desk.database, wanted)
    beginning = list(islice(pieces, _HEADING_AND_LINE))
    answer = flask.Response((piece.encode() for piece in chain(beginning, pieces)), content_type=kind)
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer
