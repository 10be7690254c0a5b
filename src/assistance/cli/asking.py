"""What commands share: settings, a database connection, tables for people and JSON for programs."""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from assistance.domain.operator import Actor
    from assistance.operating.acts import Acts
    from assistance.settings import Settings
    from assistance.storage.database import Database

#: Why somebody acts, for the audit log.
because = click.option("--because", metavar="TEXT", help="Why, for the audit log.")


@contextmanager
def database_of(settings: Settings) -> Iterator[Database]:
    """The database, proved to answer with our schema.

    Raises `DatabaseUnavailable` and `SchemaMismatch`.
    """
    from assistance.bootstrap.parts import open_database

    database = open_database(settings, "cli", pool_size=1)
    try:
        database.check()
        yield database
    finally:
        database.close()


def operator() -> str:
    """Who acts, for the record."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):
        return "cli"


def actor() -> Actor:
    """Who acts, for the audit log."""
    from assistance.domain.operator import Actor

    return Actor(name=operator(), via="command")


def acts_on(settings: Settings, database: Database) -> Acts:
    """What operators do; the configuration file is read by the acts that need it."""
    from assistance.bootstrap.operating import acts_of
    from assistance.bootstrap.parts import configuration_of

    return acts_of(settings, lambda: configuration_of(settings), database)


def show_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table for people."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*(Text(readable(value)) for value in row))
    Console().print(table)


def show_json(value: Any) -> None:
    """JSON for programs, one document on one line; instants in RFC 3339."""
    click.echo(json.dumps(value, default=_plain, ensure_ascii=False))


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else readable(value)


def readable(value: Any) -> str:
    """A value as people read it: instants to the second, nothing as a dash."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, Mapping):
        return json.dumps(dict(value), default=str, ensure_ascii=False)
    return str(value)
