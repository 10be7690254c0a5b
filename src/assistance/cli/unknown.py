"""Commands for deliveries of which nobody can tell whether they arrived: list them, and say what became of them."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import click

from assistance.cli.asking import actor, acts_on, because, database_of, show_json, show_table

if TYPE_CHECKING:
    from sqlalchemy import Connection


@click.group()
def unknown() -> None:
    """Settle what is held because its outcome is unknown."""


@unknown.command("list")
@click.option("--channel", help="Only deliveries of this channel.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")
def list_(channel: str | None, as_json: bool) -> None:
    """List held deliveries, the oldest first."""
    from assistance.settings import load_settings
    from assistance.status.query import held_deliveries

    with database_of(load_settings()) as database, database.transaction() as connection:
        rows = held_deliveries(connection, channel=channel)
    if as_json:
        for row in rows:
            show_json(row._asdict())
        return
    show_table(
        ("delivery", "request", "channel", "held since", "attempts", "why"),
        ((r.id, r.ref, r.channel, r.held_at, r.attempt, f"{r.last_error_code}: {r.last_error_detail}") for r in rows),
    )


@unknown.command("resolve")
@click.argument("names", nargs=-1, required=True, metavar="DELIVERY_ID|REF...")
@click.option("--delivered", "resolution", flag_value="delivered", multiple=True, help="It arrived.")
@click.option("--resend", "resolution", flag_value="resend", multiple=True, help="Send it again; the message says so.")
@click.option("--dead", "resolution", flag_value="dead", multiple=True, help="It did not arrive; a dead letter.")
@because
@click.option("--yes", is_flag=True, help="Do not ask.")
def resolve_(names: tuple[str, ...], resolution: tuple[str, ...], because: str | None, yes: bool) -> None:
    """Say what became of held deliveries; a REF stands for all that its request has."""
    from assistance.deliveries.resolve import Resolution
    from assistance.domain.errors import NotHeld
    from assistance.settings import load_settings

    if len(resolution) != 1:
        raise click.UsageError("Say one of --delivered, --resend and --dead.")
    settings, refused, ids = load_settings(), 0, list[UUID]()
    with database_of(settings) as database:
        with database.transaction() as connection:
            for name in names:
                try:
                    ids += _held_ids(connection, name)
                except NotHeld as error:
                    refused += 1
                    click.echo(str(error), err=True)
        if ids and not yes:
            click.confirm(f"Settle {len(ids)} held deliveries with --{resolution[0]}?", abort=True)
        settled, acts = 0, acts_on(settings, database)
        for delivery_id in ids:
            try:
                acts.resolve(delivery_id, Resolution(resolution[0]), actor(), reason=because)
                settled += 1
            except NotHeld as error:
                click.echo(str(error), err=True)
    click.echo(f"{settled} held deliveries settled.")
    if refused or settled < len(ids):
        raise SystemExit(1)


def _held_ids(connection: Connection, name: str) -> list[UUID]:
    """The deliveries that a name stands for. Raises `NotHeld` when it stands for none."""
    from assistance.domain.errors import NotHeld
    from assistance.status.query import held_deliveries, identify

    request_id = identify(connection, name)
    if request_id is not None:
        found = [row.id for row in held_deliveries(connection, request_id=request_id)]
        if not found:
            raise NotHeld(f"Request {name} has no held delivery.")
        return found
    try:
        return [UUID(name)]
    except ValueError:
        raise NotHeld(f"Nothing is called {name}.") from None


COMMANDS = (unknown,)
