"""The command that lets people into the console who hold the database's password."""

from __future__ import annotations

import click

from assistance.cli.asking import database_of, operator
from assistance.domain.operator import Role

_LONGEST_NAME = 100


@click.command("console-link")
@click.option("--role", type=click.Choice([role.value for role in Role]), default=Role.OPERATOR, show_default=True)
@click.option("--operator", "name", help="Who will have acted, in the audit log [default: who runs this command].")
@click.option("--url", help="Where the API is, instead of ASSISTANCE_URL.")
def console_link(role: str, name: str | None, url: str | None) -> None:
    """Print a link that opens the console once, within an hour."""
    from assistance.console.sessions import new_link
    from assistance.settings import load_settings

    who = operator() if name is None else name.strip()
    if not who or len(who) > _LONGEST_NAME or not who.isprintable():
        raise click.UsageError(f"--operator is a name of at most {_LONGEST_NAME} characters.")
    settings = load_settings()
    with database_of(settings) as database:
        link = database.run(lambda connection: new_link(connection, url or settings.url, who, Role(role)))
    click.echo(f"This opens the console once, as {who} ({role}), within an hour:", err=True)
    click.echo(link)


COMMANDS = (console_link,)
