"""The way of the hints: outbox, broker, database, conciliation and the workers, all as the database knows them."""

from __future__ import annotations

import flask
from sqlalchemy import select

from assistance.console.desk import Desk
from assistance.console.health import OUTBOX_PATIENCE_SECONDS, left_in_outbox, roles_missing, stragglers
from assistance.console.showing import show
from assistance.console.signing_in import the_operator
from assistance.status.servers import (
    MOST_COUNTED,
    MOST_LOOKED_AT,
    outbox_column,
    read_outbox,
    read_server,
    read_tables,
    server_column,
    tables_column,
)
from assistance.status.situation import read_workers, workers_column

_REFRESH_SECONDS = 5

_READ = select(
    outbox_column.label("outbox"),
    tables_column.label("tables"),
    server_column.label("server"),
    workers_column.label("workers"),
)


def add_routes(blueprint: flask.Blueprint, desk: Desk) -> None:
    """Serve the page."""

    @blueprint.get("/pipeline")
    def pipeline() -> flask.Response:
        configured = desk.configuration().channels
        with desk.database.look(desk.deadline()) as connection:
            row = connection.execute(_READ).one()
        signs, workers = the_operator().signs, read_workers(row.workers)
        tables = read_tables(row.tables)
        late, late_since = stragglers(signs, configured)
        not_published, _ = left_in_outbox(signs, configured)
        return show(
            "pipeline.html",
            title="(late) Pipeline" if not_published or late else "Pipeline",
            refresh_seconds=_REFRESH_SECONDS,
            signs=signs,
            oldest_due=min((w.oldest for w in signs.outbox if w.oldest is not None), default=None),
            orphaned=[waiting.channel for waiting in signs.outbox if waiting.channel not in configured],
            patience=OUTBOX_PATIENCE_SECONDS,
            most=MOST_COUNTED,
            looked_at=MOST_LOOKED_AT,
            not_published=not_published,
            outbox=read_outbox(row.outbox),
            relays=[worker for worker in workers if "broker" in worker.state],
            tables=tables,
            stored_bytes=sum(table.bytes for table in tables),
            server=read_server(row.server),
            late=late,
            late_since=late_since,
            missing=roles_missing(signs),
            workers=workers,
            size=size,
        )


def size(count: int) -> str:
    """Bytes in a unit that leaves one to four digits."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if amount >= 10 or unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TB"
