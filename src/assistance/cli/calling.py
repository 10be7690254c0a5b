"""Commands that call the API as a bot does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from assistance.cli.asking import show_table

if TYPE_CHECKING:
    from assistance.client import Client

Result = TypeVar("Result")

#: A person waits: who is in no hurry calls again.
_PATIENCE_SECONDS = 10.0
where = click.option("--url", help="Where the API is, instead of ASSISTANCE_URL.")


def call(url: str | None, make: Callable[[Client], Result], patience_seconds: float = _PATIENCE_SECONDS) -> Result:
    """Call the API with the key from the settings.

    Raises `ClickException` with the sentence that says why it did not succeed, and `SettingsError`.
    """
    from assistance.client import Client, Failed
    from assistance.settings import load_caller_settings

    settings = load_caller_settings()
    key = settings.key.get_secret_value() if settings.key else None
    try:
        return make(Client(url or settings.url, key=key, patience_seconds=patience_seconds))
    except (Failed, ValueError) as error:
        raise click.ClickException(str(error)) from error


@click.command()
@click.argument("topic")
@click.argument("description")
@click.option("--title", help="The same in a few words.")
@click.option("--priority", type=click.Choice(["low", "normal", "high", "urgent"]))
@click.option("--customer-id", help="Who needs it: the bot's own id of the customer.")
@click.option("--customer-name")
@click.option("--customer-email")
@click.option("--dedup-key", help="Join the open request with this key, if there is one.")
@where
def send(topic: str, description: str, url: str | None, **options: str | None) -> None:
    """Ask for assistance, as a bot would; ASSISTANCE_KEY is the API key."""
    given = {name: value for name, value in options.items() if value is not None}
    customer = {
        name.removeprefix("customer_"): given.pop(name) for name in sorted(given) if name.startswith("customer_")
    }
    members: dict[str, Any] = {**given, "customer": customer} if customer else dict(given)
    accepted = call(url, lambda client: client.ask(topic, description, **members))
    click.echo(f"{accepted.ref} {accepted.status}: {accepted.url}")


def show_from_afar(url: str | None, request_id: str) -> None:
    """Tell what the API knows of a request."""
    found = call(url, lambda client: client.look(request_id))
    click.echo(f"{found['ref']}  {found['topic']}  {found['status']}  accepted {found['created_at']}  {found['id']}")
    show_table(
        ("channel", "step", "state", "attempts", "next attempt", "receipt", "last error"),
        (
            (d["channel"], d["step"], d["state"], d["attempts"], d["next_attempt_at"], d["receipt"], d["last_error"])
            for d in found["deliveries"]
        ),
    )


COMMANDS = (send,)
