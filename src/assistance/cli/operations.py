"""Commands for operations: acts on many things, which the conciliation process carries out."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from assistance.cli.asking import actor, because, database_of, readable, show_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from assistance.storage.database import Database

_LOOK_SECONDS = 0.5
#: After so long without a worker it is said that one is needed.
_LONELY_SECONDS = 10.0
_as_json = click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
rate = click.option("--rate", type=click.FloatRange(0, 1000, min_open=True), default=10.0, help="So many a second.")
no_wait = click.option("--no-wait", is_flag=True, help="Begin and return; the conciliation process goes on.")


@click.group()
def operations() -> None:
    """Act on everything that matches a filter, and watch how it goes."""


@operations.command("begin")
@click.argument("kind", type=click.Choice(["replay", "discard", "cancel", "reroute", "resolve"]))
@click.argument("filters", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("--to", help="The channel that gets what is rerouted.")
@click.option("--as", "resolution", type=click.Choice(["delivered", "resend", "dead"]), help="What became of it.")
@rate
@because
@click.option("--dry-run", is_flag=True, help="Say how many, change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@no_wait
def begin_(
    kind: str,
    filters: tuple[str, ...],
    to: str | None,
    resolution: str | None,
    rate: float,
    because: str | None,
    dry_run: bool,
    yes: bool,
    no_wait: bool,
) -> None:
    """Do KIND to all that matches, such as `cancel topic=sales older_than=2h`.

    The filters are those of the console's addresses: of dead letters to replay and discard, of requests else.
    """
    from assistance.bootstrap.parts import configuration_of
    from assistance.domain.errors import SettingsError
    from assistance.settings import load_settings

    query = dict(_pair(written) for written in filters)
    parameters = {name: value for name, value in (("to", to), ("resolution", resolution)) if value is not None}
    settings = load_settings()
    if to is not None and to not in configuration_of(settings).channels:
        raise SettingsError(f"Channel {to!r} is not in the configuration file.")
    with database_of(settings) as database:
        number = count(database, kind, query)
        if dry_run:
            click.echo(f"{number} match.")
            return
        if not yes:
            click.confirm(f"{kind.capitalize()} {number} at {rate:g} a second?", abort=True, err=True)
        begun = begin(database, kind, query, shown=number, per_second=rate, parameters=parameters, reason=because)
        sys.exit(0 if no_wait else watch(database, begun))


@operations.command("list")
@click.option("--open", "only_open", is_flag=True, help="Only those that have not ended.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@_as_json
def list_(only_open: bool, limit: int, as_json: bool) -> None:
    """List operations, the newest first."""
    from assistance.operating.jobs import find
    from assistance.settings import load_settings

    with database_of(load_settings()) as database, database.transaction() as connection:
        rows = find(connection, limit=limit, only_open=only_open)
    if as_json:
        for row in rows:
            show_json(row._asdict())
        return
    for row in rows:  # no table: an id that is cut off names nothing
        click.echo(f"{row.id}  {readable(row.created_at)}  {row.actor}  {row.kind} {_shown(row.filter)}")
        click.echo(f"    {_end(row)}")


@operations.command("show")
@click.argument("operation", type=click.UUID)
@_as_json
def show_(operation: UUID, as_json: bool) -> None:
    """Show one operation: what was ordered, how far it is, and what was refused."""
    from assistance.settings import load_settings

    with database_of(load_settings()) as database:
        row = look(database, operation)
    if as_json:
        show_json(row._asdict())
        return
    click.echo(f"{row.kind} {_shown(row.filter)} by {row.actor}, at most {row.per_second:g} a second")
    if row.parameters:
        click.echo(_shown(row.parameters))
    if row.reason:
        click.echo(f"because: {row.reason}")
    _show_end(row)


@operations.command("cancel")
@click.argument("operation", type=click.UUID)
def cancel_(operation: UUID) -> None:
    """Stop an operation; what was done stays done."""
    from assistance.operating.jobs import cancel
    from assistance.settings import load_settings

    with database_of(load_settings()) as database:
        database.run(lambda connection: cancel(connection, operation, actor()))
        _show_end(look(database, operation))


@operations.command("resume")
@click.argument("operation", type=click.UUID)
@no_wait
def resume_(operation: UUID, no_wait: bool) -> None:
    """Let a cancelled or failed operation go on where it stopped."""
    from assistance.operating.jobs import resume
    from assistance.settings import load_settings

    with database_of(load_settings()) as database:
        database.run(lambda connection: resume(connection, operation, actor()))
        sys.exit(0 if no_wait else watch(database, operation))


@operations.command("watch")
@click.argument("operation", type=click.UUID)
def watch_(operation: UUID) -> None:
    """Watch an operation until it has ended; Ctrl-C stops the watching only."""
    from assistance.settings import load_settings

    with database_of(load_settings()) as database:
        sys.exit(watch(database, operation))


def count(database: Database, kind: str, query: Mapping[str, str]) -> int:
    """How many things match; at most as many as anybody counts. Raises `FilterMistake`."""
    from assistance.operating.targets import Kind, targets_of

    with database.transaction() as connection:
        return targets_of(Kind(kind), query).count(connection).number


def begin(
    database: Database,
    kind: str,
    query: Mapping[str, str],
    *,
    shown: int,
    per_second: float,
    parameters: Mapping[str, str],
    reason: str | None,
) -> UUID:
    """Order the operation and say how it is called. Raises `CountMoved` and `FilterMistake`."""
    from assistance.operating import jobs

    begun = database.run(
        lambda connection: jobs.begin(
            connection,
            kind,
            query,
            shown=shown,
            per_second=per_second,
            parameters=parameters,
            actor=actor(),
            reason=reason,
        )
    )
    click.echo(f"Operation {begun} has begun.")
    return begun


def watch(database: Database, operation: UUID) -> int:
    """Show the progress until the end; 0 when everything was done, 1 when something was refused or it was stopped."""
    from assistance.domain.errors import DatabaseUnavailable
    from assistance.runtime.clock import monotonic, sleep

    row = look(database, operation)
    lonely_at: float | None = monotonic() + _LONELY_SECONDS
    with click.progressbar(length=row.expected, label=row.kind) as bar:
        while True:
            bar.update(row.done + row.refused - bar.pos)
            if row.ended_at is not None:
                break
            if lonely_at is not None and row.state == "waiting" and monotonic() >= lonely_at:
                click.echo("\nNobody has taken it up yet: is the conciliation process running?", err=True)
                lonely_at = None
            sleep(_LOOK_SECONDS)
            try:
                row = look(database, operation)
            except DatabaseUnavailable as error:
                click.echo(f"\n{error} Trying again.", err=True)
    _show_end(row)
    return 0 if row.state == "done" and not row.refused else 1


def look(database: Database, operation: UUID) -> Any:
    """One operation. Raises `UnknownOperation`."""
    from assistance.domain.errors import UnknownOperation
    from assistance.operating.jobs import show

    with database.transaction() as connection:
        row = show(connection, operation)
    if row is None:
        raise UnknownOperation(f"There is no operation {operation}.")
    return row


def _show_end(row: Any) -> None:
    click.echo(_end(row))
    for sentence, number in row.errors.items():
        click.echo(f"{number} times: {sentence}", err=True)


def _end(row: Any) -> str:
    by = f" by {row.cancelled_by}" if row.cancelled_by else ""
    return f"{row.state}{by}: {row.done} done, {row.refused} refused, of {row.expected}."


def _pair(written: str) -> tuple[str, str]:
    name, equals, value = written.partition("=")
    if not equals:
        raise click.UsageError(f"{written!r} is no NAME=VALUE.")
    return name, value


def _shown(values: Mapping[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in values.items()) or "everything"


COMMANDS = (operations,)
