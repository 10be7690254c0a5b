"""Commands for channels: list, check, pause, resume, test."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from assistance.cli.asking import actor, acts_on, database_of, readable, show_json, show_table

if TYPE_CHECKING:
    from assistance.deliveries.channel_states import ChannelState


@click.group()
def channels() -> None:
    """Look at channels, check them, stop and start them."""


@channels.command("list")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")
def list_(as_json: bool) -> None:
    """List the configured channels and whether anything goes out on them."""
    from assistance.deliveries.channel_states import states_of
    from assistance.settings import load_settings

    settings = load_settings()
    configured = _channels_of(settings)
    with database_of(settings) as database, database.transaction() as connection:
        states = states_of(connection, configured)
    if as_json:
        for name, state in states.items():
            show_json({"channel": name, "type": configured[name].type.name, **_as_data(state)})
        return
    show_table(
        ("channel", "type", "paused", "breaker", "out since", "why"),
        (
            (
                name,
                configured[name].type.name,
                state.pause_cause,
                state.breaker.state,
                state.out_since,
                state.pause_reason or state.breaker_reason,
            )
            for name, state in states.items()
        ),
    )


@channels.command()
@click.argument("names", nargs=-1, metavar="[CHANNEL]...")
def check(names: tuple[str, ...]) -> None:
    """Prove that channels could deliver now: credentials, scopes, destination, and nothing that stops them."""
    from assistance.runtime.clock import Deadline
    from assistance.settings import load_settings

    settings = load_settings()
    configured = _channels_of(settings)
    for name in names:
        _must_be_configured(name, configured)
    out = _what_stops(settings, names or sorted(configured))
    problems = 0
    for name in names or sorted(configured):
        channel = configured[name]
        found = [*channel.build().check(Deadline.after(channel.timeout_seconds)).problems, *out.get(name, [])]
        click.echo(f"{name}: {' '.join(found) or 'fine'}")
        problems += bool(found)
    sys.exit(1 if problems else 0)


@channels.command()
@click.argument("name", metavar="CHANNEL")
@click.option("--reason", required=True, help="For the others who will wonder.")
def pause(name: str, reason: str) -> None:
    """Send nothing on CHANNEL until it is resumed; what is accepted for it waits."""
    from assistance.settings import load_settings

    if not reason.strip():
        raise click.UsageError("--reason is empty.")
    settings = load_settings()
    _must_be_configured(name, _channels_of(settings))
    with database_of(settings) as database:
        paused = acts_on(settings, database).pause(name, actor(), reason=reason.strip())
    click.echo(f"{name} is paused." if paused else f"{name} was paused already; its reason stays as it was.")


@channels.command()
@click.argument("name", metavar="CHANNEL")
def resume(name: str) -> None:
    """Let CHANNEL send again what has waited."""
    from assistance.deliveries.channel_states import states_of
    from assistance.settings import load_settings

    settings = load_settings()
    _must_be_configured(name, _channels_of(settings))
    with database_of(settings) as database:
        resumed = acts_on(settings, database).resume(name, actor())
        with database.transaction() as connection:
            state = states_of(connection, [name])[name]
    click.echo(f"{name} is resumed." if resumed else f"{name} was not paused.")
    for sentence in sentences_about(state):
        click.echo(sentence)


@channels.command()
@click.argument("name", metavar="CHANNEL")
def test(name: str) -> None:
    """Send people on CHANNEL a message that says it is a test."""
    from assistance.settings import load_settings

    settings = load_settings()
    _must_be_configured(name, _channels_of(settings))
    with database_of(settings) as database:
        sent = acts_on(settings, database).test(name, actor())
    click.echo(f"{sent.ref} is on its way to {name}: assistance show {sent.ref} tells how it fares.")


def sentences_about(state: ChannelState) -> list[str]:
    """What stops a channel, one sentence each; nothing when nothing does."""
    found = []
    if state.paused_at is not None:
        found.append(f"Paused since {readable(state.paused_at)} by {state.paused_by}: {_ended(state.pause_reason)}")
    if state.breaker.probe_at is not None:
        word = state.breaker.state.replace("_", "-")
        found.append(
            f"Its circuit breaker is {word} since {readable(state.breaker_since)}: {_ended(state.breaker_reason)}"
        )
    return found


def _ended(reason: str | None) -> str:
    return f"{(reason or 'no reason given').rstrip('.')}."


def _what_stops(settings: Any, names: Any) -> dict[str, list[str]]:
    """Sentences by channel. A database that is away is said, and leaves the checks of the providers as they are."""
    from assistance.deliveries.channel_states import states_of
    from assistance.domain.errors import DatabaseUnavailable, SchemaMismatch

    try:
        with database_of(settings) as database, database.transaction() as connection:
            return {name: sentences_about(state) for name, state in states_of(connection, names).items()}
    except (DatabaseUnavailable, SchemaMismatch) as error:
        click.echo(f"Whether channels are paused is unknown: {error}", err=True)
        return {}


def _as_data(state: ChannelState) -> dict[str, Any]:
    return {
        "paused_at": state.paused_at,
        "paused_by": state.paused_by,
        "pause_cause": state.pause_cause,
        "pause_reason": state.pause_reason,
        "breaker": state.breaker.state,
        "breaker_reason": state.breaker_reason,
        "breaker_since": state.breaker_since,
        "out_since": state.out_since,
    }


def _channels_of(settings: Any) -> Any:
    from assistance.bootstrap.parts import configuration_of

    return configuration_of(settings).channels


def _must_be_configured(name: str, configured: Any) -> None:
    from assistance.domain.errors import SettingsError

    if name not in configured:
        raise SettingsError(f"Channel {name!r} is not in the configuration file.")


COMMANDS = (channels,)
