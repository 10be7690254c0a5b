"""Commands for clients: who may call the API, and with which keys."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from assistance.cli.asking import database_of, show_json, show_table
from assistance.domain.caller import Scope

if TYPE_CHECKING:
    from assistance.clients.keys import ApiKey

_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")


class _Lifetime(click.ParamType[float]):
    """Seconds in a duration of the configuration file, or in days such as `90d`."""

    name = "duration"

    def convert(self, value: object, parameter: click.Parameter | None, context: click.Context | None) -> float:
        from assistance.configuration import parse_duration

        days = re.fullmatch(r"([0-9]{1,4})d", value) if isinstance(value, str) else None
        try:
            return int(days[1]) * 86400.0 if days else parse_duration(value)
        except ValueError:
            self.fail('write it as "90d", "24h" or "10m"', parameter, context)


@click.group()
def clients() -> None:
    """Say who may call the API."""


@clients.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice([scope.value for scope in Scope]),
    multiple=True,
    help="Repeatable [default: submit and read].",
)
@click.option("--expires", type=_Lifetime(), help='When its key ends, such as "90d" from now [default: never].')
@click.option("--without-key", is_flag=True, help="Only see to it that the client exists.")
def create(name: str, scopes: tuple[str, ...], expires: float | None, without_key: bool) -> None:
    """Make the client NAME, and print its key: once, alone on its line.

    From the first client on nobody is let in without a key, also where none was needed before.
    """
    from assistance.clients import store
    from assistance.settings import load_settings

    if not _NAME.fullmatch(name):
        raise click.UsageError("A client's name is a-z, 0-9 and -, starting with a letter, at most 40.")
    if without_key and (scopes or expires is not None):
        raise click.UsageError("--scope and --expires are about a key; --without-key makes none.")
    with database_of(load_settings()) as database:
        if without_key:
            made = database.run(lambda connection: store.ensure(connection, name))
            click.echo(f"There is a client {name} {'now' if made else 'already'}.", err=True)
            return
        wanted = [Scope(scope) for scope in scopes] or store.DEFAULT_SCOPES
        key = database.run(lambda connection: store.create(connection, name, scopes=wanted, expires_seconds=expires))
    _print(name, key)


@clients.command("list")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")
def list_(as_json: bool) -> None:
    """List clients and their keys, those that ended included."""
    from dataclasses import asdict

    from assistance.clients import store
    from assistance.settings import load_settings

    with database_of(load_settings()) as database, database.transaction() as connection:
        keys, known = store.list_keys(connection), store.list_clients(connection)
    if as_json:
        for name in known:
            show_json({"client": name, "keys": [asdict(key) for key in keys if key.client == name]})
        return
    rows: list[tuple[Any, ...]] = [
        (k.client, k.prefix, k.state, " ".join(k.scopes), k.created_at, k.expires_at, k.last_used_at) for k in keys
    ]
    rows += [(name, "none") for name in known if name not in {key.client for key in keys}]
    columns = ("client", "key", "state", "scopes", "created", "expires", "last used")
    show_table(columns, sorted(rows, key=lambda row: str(row[0])))


@clients.command()
@click.argument("name")
@click.option("--grace", type=_Lifetime(), default="24h", show_default=True, help="How long its other keys still work.")
@click.option(
    "--expires", type=_Lifetime(), help="When the new key ends [default: after the old one's whole lifetime]."
)
def rotate(name: str, grace: float, expires: float | None) -> None:
    """Print a new key for the client NAME; its other keys end after the grace."""
    from assistance.clients import store
    from assistance.settings import load_settings

    with database_of(load_settings()) as database:
        key = database.run(
            lambda connection: store.rotate(connection, name, grace_seconds=grace, expires_seconds=expires)
        )
    _print(name, key)


@clients.command()
@click.argument("name_or_key", metavar="NAME|PREFIX")
def revoke(name_or_key: str) -> None:
    """End one key, named by its eight characters, or all keys of a client, within two seconds and for good."""
    from assistance.clients import store
    from assistance.settings import load_settings

    with database_of(load_settings()) as database:
        ended = database.run(lambda connection: store.revoke(connection, name_or_key))
    click.echo("1 key is revoked." if ended == 1 else f"{ended} keys are revoked.")


@clients.command()
@click.argument("name")
@click.option("--rate", type=click.IntRange(min=0), help="Calls a minute; 0 for the setting.")
@click.option("--open", "most_open", type=click.IntRange(min=0), help="Requests open at once; 0 for the setting.")
def limit(name: str, rate: int | None, most_open: int | None) -> None:
    """Give the client NAME limits of its own, within seconds; without options, show them."""
    from assistance.limits.budgets import change_limits
    from assistance.settings import load_settings

    settings = load_settings()
    with database_of(settings) as database:
        own = database.run(lambda connection: change_limits(connection, name, rate=rate, most_open=most_open))
    click.echo(
        f"{name} may make {own.calls_a_minute or settings.client_rate_per_minute} calls a minute"
        f" and have {own.open_requests or settings.client_open_requests} requests open."
    )


def _print(name: str, key: ApiKey) -> None:
    """The key for programs, what is to be known about it for people."""
    click.echo(f"The key of {name}, shown now and never again:", err=True)
    click.echo(key.text)


COMMANDS = (clients,)
