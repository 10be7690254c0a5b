"""Commands that look: at requests, at the ledger, at routes, channels and the installation as a whole."""

from __future__ import annotations

import sys
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from assistance.cli.asking import database_of, readable, show_json, show_table
from assistance.cli.calling import show_from_afar, where
from assistance.cli.channels import sentences_about
from assistance.domain.request import Handling, RequestStatus

if TYPE_CHECKING:
    from assistance.search.place import Place
    from assistance.search.requests import Found

#: So many rows are read at once.
_PAGE = 1000
_as_json = click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")


@click.command()
@click.argument("ref_or_id")
@where
def show(ref_or_id: str, url: str | None) -> None:
    """Tell the story of one request; from the API, which takes ids only, if no database is named."""
    from assistance.settings import load_settings, names_a_database
    from assistance.status.query import identify, story_of

    if url is not None or not names_a_database():
        show_from_afar(url, ref_or_id)
        return
    with database_of(load_settings()) as database, database.transaction() as connection:
        request_id = identify(connection, ref_or_id)
        if request_id is None:
            raise click.ClickException(f"No request is called {ref_or_id}.")
        story = story_of(connection, request_id)
    request = story["request"][0]
    click.echo(
        f"{request.ref}  {request.topic}  {request.status}  accepted {readable(request.created_at)}  {request.id}"
    )
    click.echo(request.description)
    show_table(
        ("channel", "step", "state", "attempts", "next attempt", "receipt", "last error"),
        (
            (d.channel, d.step, _state_of(d), d.attempt, _next_attempt_of(d), d.receipt, _error_of(d))
            for d in story["deliveries"]
        ),
    )
    if story["attempts"]:
        show_table(
            ("started", "channel", "series/attempt", "outcome", "code", "detail", "worker"),
            (
                (a.started_at, a.channel, f"{a.series}/{a.number}", a.outcome, a.code, a.detail, a.worker)
                for a in story["attempts"]
            ),
        )
    if story["events"]:
        show_table(("at", "event", "by"), ((e.at, e.type, e.actor) for e in story["events"]))
    for letter in story["dead_letters"]:
        state = letter.resolution or "open"
        click.echo(f"dead letter {letter.id} ({state}): {letter.reason}: {letter.error}")


@click.command("list")
@click.option("--status", type=click.Choice([word.value for word in (*RequestStatus, *Handling)]))
@click.option("--topic")
@click.option("--channel")
@click.option("--state", "delivery_state", help='That of a delivery, such as "dead", "held" or "retrying".')
@click.option("--client")
@click.option("--customer", help="The bot's own id of the customer.")
@click.option("--text", help="Words in the title or the description.")
@click.option("--since", help='How far back, such as "2h" or "30m", or from when on, such as "2026-03-04T14:00:00Z".')
@click.option("--until", help="Before when.")
@click.option("--older-than", help='Accepted longer ago than, such as "5m".')
@click.option("--limit", type=click.IntRange(1, 10_000), default=50)
@_as_json
def list_(limit: int, as_json: bool, **options: str | None) -> None:
    """List requests, newest first."""
    from assistance.search.bounds import every
    from assistance.search.requests import RequestFilter, find_requests
    from assistance.settings import load_settings

    wanted = RequestFilter.from_query({name: value for name, value in options.items() if value is not None})
    with database_of(load_settings()) as database:

        def page(place: Place | None) -> Found:
            with database.transaction() as connection:
                return find_requests(connection, wanted, limit=min(limit, _PAGE), place=place)

        rows = [_listed(row) for row in islice(every(page), limit)]
    if as_json:
        for row in rows:
            show_json(row)
        return
    columns = ("ref", "topic", "status", "created_at", "deliveries")
    show_table(
        ("ref", "topic", "status", "accepted", "deliveries"), ([row[column] for column in columns] for row in rows)
    )


def _listed(row: Any) -> dict[str, Any]:
    told = ", ".join(f"{delivery['channel']}: {delivery['state']}" for delivery in row.told or ())
    return {
        "id": row.id,
        "ref": row.ref,
        "topic": row.topic,
        "status": row.handling or row.status,
        "created_at": row.created_at,
        "deliveries": told,
    }


@click.command()
@_as_json
def ledger(as_json: bool) -> None:
    """Prove that every accepted request is accounted for; exit code 1 when it is not."""
    from assistance.conciliation.ledger import read_ledger
    from assistance.settings import load_settings

    with database_of(load_settings()) as database, database.transaction() as connection:
        found = read_ledger(connection)
    if as_json:
        show_json({"requests": found.requests, "violations": found.violations, "closes": found.closes})
    else:
        total = sum(found.requests.values())
        click.echo(f"{total} requests = " + (" + ".join(f"{n} {s}" for s, n in found.requests.items()) or "0"))
        for name, count in found.violations.items():
            click.echo(f"  {count} {name}")
        click.echo("The ledger closes." if found.closes else "The ledger does not close.")
    sys.exit(0 if found.closes else 1)


@click.group()
def routes() -> None:
    """Check and explain the configuration file."""


@routes.command()
def check() -> None:
    """Check the whole file, options and secrets of every channel included."""
    from assistance.domain.delivery import CALLBACKS

    configuration = _configuration()
    mistakes = _mistakes_in_channels(configuration)
    for mistake in mistakes:
        click.echo(mistake)
    if not mistakes:
        in_steps = sum(len(route.steps) > 1 for route in configuration.topics.values())
        topics = f"{len(configuration.topics)} topics" + (f" ({in_steps} with a fallback)" if in_steps else "")
        channels = sum(name != CALLBACKS for name in configuration.channels)
        click.echo(f"{topics}, {channels} channels: no mistakes.")
    sys.exit(2 if mistakes else 0)


@routes.command()
@click.argument("topic")
def explain(topic: str) -> None:
    """Say where a request on TOPIC would go."""
    from assistance.domain.errors import UnknownTopic
    from assistance.intake.routing import plan

    configuration = _configuration()
    try:
        found = plan(configuration, topic)
    except UnknownTopic as error:
        raise click.ClickException(f"{error} Configured: {', '.join(error.known)}.") from None
    click.echo(f"{found.topic} (file {found.digest[:19]}…)")
    for number, step in enumerate(found.route.steps):
        if step.after_seconds is not None:
            click.echo(f"After {step.after_seconds:g} s, or as soon as the step before ended dead:")
        elif number:
            click.echo("When every step before ended dead:")
        for name in step.to:
            channel = configuration.channels[name]
            click.echo(f"  → {name}, type {channel.type.name}, time-out {channel.timeout_seconds:g} s")


@click.command()
def doctor() -> None:
    """Look at the whole installation and name what is wrong."""
    from assistance.bootstrap.checks import broker_problem
    from assistance.bootstrap.parts import configuration_of
    from assistance.deliveries.channel_states import states_of
    from assistance.domain.errors import DatabaseUnavailable, SchemaMismatch
    from assistance.settings import load_settings
    from assistance.status.query import orphaned_channels

    settings = load_settings()
    configuration = configuration_of(settings)
    problems = _mistakes_in_channels(configuration)
    try:
        with database_of(settings) as database, database.transaction() as connection:
            for name, count in orphaned_channels(connection, configuration.channels).items():
                problems.append(
                    f"Channel {name} left the configuration with {count} deliveries open: they wait for it."
                )
            for name, state in states_of(connection, configuration.channels).items():
                problems += [f"Channel {name}: {sentence}" for sentence in sentences_about(state)]
            problems += _unsafe_server_settings(connection)
    except (DatabaseUnavailable, SchemaMismatch) as error:
        problems.append(f"Database: {error}")
    broker = broker_problem(settings)
    problems += [f"Broker: {broker}"] if broker else []
    for problem in problems:
        click.echo(problem)
    click.echo(f"{len(problems)} problems." if problems else "No problems found.")
    sys.exit(1 if problems else 0)


def _unsafe_server_settings(connection: Any) -> list[str]:
    from sqlalchemy import text

    wanted = ("fsync", "synchronous_commit", "full_page_writes")
    found = {name: connection.scalar(text(f"SHOW {name}")) for name in wanted}
    return [
        f"PostgreSQL runs with {name} = off: an accepted request may be lost in a crash."
        for name, value in found.items()
        if value == "off"
    ]


def _configuration() -> Any:
    from assistance.bootstrap.parts import configuration_of
    from assistance.settings import load_settings

    return configuration_of(load_settings())


def _mistakes_in_channels(configuration: Any) -> list[str]:
    from assistance.domain.errors import SettingsError

    mistakes = []
    for channel in configuration.channels.values():
        try:
            channel.build()
        except SettingsError as error:
            mistakes.append(str(error))
    return mistakes


def _state_of(delivery: Any) -> str:
    return f"{delivery.state} (held)" if delivery.held_at else str(delivery.state)


def _next_attempt_of(delivery: Any) -> Any:
    return delivery.next_attempt_at if delivery.check_at and not delivery.held_at else None


def _error_of(delivery: Any) -> str | None:
    if delivery.last_error_class is None:
        return None
    return f"{delivery.last_error_code}: {delivery.last_error_detail}"


COMMANDS = (show, list_, ledger, routes, doctor)
