"""Commands about customers: hand out what is stored about one, or erase it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from assistance.cli.asking import database_of, operator, show_table

if TYPE_CHECKING:
    from assistance.privacy.customers import Customer
    from assistance.privacy.erase import Erasure
    from assistance.storage.database import Database

_client = click.option("--client", help='Whose customer it is; "" for requests that came without a client.')


@click.group()
def customers() -> None:
    """Hand out or erase what is stored about a customer."""


@customers.command("export")
@click.argument("customer_id")
@_client
def export_(customer_id: str, client: str | None) -> None:
    """Print everything that is stored, one request a line, as JSON."""
    from assistance.privacy.export import export, plain
    from assistance.settings import load_settings

    with database_of(load_settings()) as database:
        for row in export(database, _customer(database, customer_id, client)):
            click.echo(json.dumps(plain(row), ensure_ascii=False))


@customers.command("erase")
@click.argument("customer_id")
@_client
@click.option("--yes", is_flag=True, help="Do not ask.")
def erase_(customer_id: str, client: str | None, yes: bool) -> None:
    """Erase everything that is stored, and say what people have of it already."""
    from assistance.privacy.erase import erase
    from assistance.settings import load_settings

    settings = load_settings()
    with database_of(settings) as database:
        customer = _customer(database, customer_id, client)
        if not yes:
            click.confirm(f"Erase what {_named(customer.client)} sent about customer {customer_id}?", abort=True)
        done = erase(database, customer, actor=operator(), check_after=settings.check_after_seconds)
    _report(done)
    if done.busy:
        raise SystemExit(1)


def _customer(database: Database, customer_id: str, client: str | None) -> Customer:
    """The customer; without a client's name the only one with this id."""
    from assistance.privacy.customers import Customer, clients_with

    if client is None:
        with database.transaction() as connection:
            names = clients_with(connection, customer_id)
        if len(names) > 1:
            several = ", ".join(map(_named, names))
            raise click.UsageError(f"Several clients have a customer {customer_id}: {several}. Name one with --client.")
        client = names[0] if names else ""
    return Customer(client=client, id=customer_id)


def _named(client: str) -> str:
    return client or "nobody (--client '')"


def _report(done: Erasure) -> None:
    click.echo(f"{len(done.erased)} requests erased, {len(done.called_off)} of them called off before they were told.")
    if done.copies:
        click.echo("People have these messages, or may have them; delete them by hand:")
        show_table(("request", "channel", "receipt"), ((c.ref, c.channel, c.receipt) for c in done.copies))
    if done.busy:
        click.echo(f"Being sent this moment, run this again: {', '.join(done.busy)}", err=True)


COMMANDS = (customers,)
