"""Commands for dead letters: list, show, replay, discard."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

import click

from assistance.cli.asking import database_of, operator, readable, show_json, show_table

if TYPE_CHECKING:
    from assistance.settings import Settings
    from assistance.storage.database import Database

_LETTER_ID = click.IntRange(1, 2**63 - 1)


@click.group("dead-letters")
def dead_letters() -> None:
    """Look at what will not be tried again by itself, and put it back."""


_channel = click.option("--channel", help="Only letters of this channel.")
_reason = click.option("--reason", help="Only letters with this reason.")


@dead_letters.command("list")
@_channel
@_reason
@click.option("--limit", type=click.IntRange(1, 100_000), default=100)
@click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")
def list_(channel: str | None, reason: str | None, limit: int, as_json: bool) -> None:
    """List open dead letters, oldest first."""
    from assistance.deadletters.letters import find_letters
    from assistance.settings import load_settings

    with database_of(load_settings()) as database, database.transaction() as connection:
        rows = find_letters(connection, channel=channel, reason=reason, limit=limit)
    if as_json:
        for row in rows:
            show_json(row._asdict())
        return
    show_table(
        ("id", "since", "request", "channel", "reason", "error"),
        ((r.id, r.created_at, r.ref, r.channel, r.reason, r.error) for r in rows),
    )


@dead_letters.command()
@click.argument("letter_id", type=_LETTER_ID)
def show(letter_id: int) -> None:
    """Show one dead letter with the message that was lost."""
    from assistance.deadletters.letters import show_letter
    from assistance.settings import load_settings

    with database_of(load_settings()) as database, database.transaction() as connection:
        letter = show_letter(connection, letter_id)
    if letter is None:
        raise click.ClickException(f"There is no dead letter {letter_id}.")
    for name, value in letter._asdict().items():
        click.echo(f"{name}: {readable(value)}")


@dead_letters.command()
@click.argument("ids", type=_LETTER_ID, nargs=-1, metavar="[ID]...")
@_channel
@_reason
@click.option("--all", "everything", is_flag=True, help="Every letter that can be replayed.")
@click.option("--dry-run", is_flag=True, help="Say how many, change nothing.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), default=10.0, help="Replays per second.")
def replay(
    ids: tuple[int, ...], channel: str | None, reason: str | None, everything: bool, dry_run: bool, rate: float
) -> None:
    """Send dead letters again: by ID, by channel, by reason, or --all."""
    from assistance.deadletters.letters import find_letters
    from assistance.domain.errors import NotReplayable, OutboxFull, QuotaExceeded
    from assistance.settings import load_settings

    if bool(ids) + bool(channel or reason) + everything != 1:
        raise click.UsageError("Name letters by ID, or by --channel and --reason, or say --all.")
    settings = load_settings()
    with database_of(settings) as database:
        if not ids:
            with database.transaction() as connection:
                ids = tuple(r.id for r in find_letters(connection, channel=channel, reason=reason, replayable=True))
        if dry_run:
            click.echo(f"{len(ids)} dead letters would be replayed.")
            return
        refused = 0
        replay_one = _replayer(settings, database, ids)
        with click.progressbar(ids, label="replaying") as letters:
            for position, letter_id in enumerate(letters):
                # Each gets its own due time: the channel is spared even when this command is done long before.
                try:
                    replay_one(letter_id, position / rate)
                except (NotReplayable, OutboxFull, QuotaExceeded) as error:
                    refused += 1
                    click.echo(f"\n{error}", err=True)
    click.echo(f"{len(ids) - refused} dead letters replayed.")
    if refused:
        raise SystemExit(1)


def _replayer(settings: Settings, database: Database, ids: Collection[int]) -> Callable[[int, float], None]:
    """What replays one of these letters, so many seconds from now; a message of a signed source is mapped at once."""
    from assistance.bootstrap.sources import letter_replay
    from assistance.deadletters.letters import letters_of_sources
    from assistance.deliveries.replay import replay as replay_delivery

    actor, check_after = operator(), settings.check_after_seconds
    with database.transaction() as connection:
        of_sources = letters_of_sources(connection, ids)
    mapping = letter_replay(settings, database) if of_sources else None

    def replay_one(letter_id: int, delay: float) -> None:
        if mapping and letter_id in of_sources:
            mapping.replay(letter_id, actor=actor)
            return
        database.run(
            lambda connection: replay_delivery(
                connection, letter_id, actor=actor, check_after=check_after, delay_seconds=delay
            )
        )

    return replay_one


@dead_letters.command()
@click.argument("ids", type=_LETTER_ID, nargs=-1, required=True, metavar="ID...")
def discard(ids: tuple[int, ...]) -> None:
    """Close dead letters without sending anything."""
    from assistance.deadletters.letters import discard as discard_one
    from assistance.domain.errors import NotReplayable
    from assistance.settings import load_settings

    refused = 0
    with database_of(load_settings()) as database:
        for letter_id in ids:
            try:
                database.run(lambda connection, letter=letter_id: discard_one(connection, letter, actor=operator()))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            except NotReplayable as error:
                refused += 1
                click.echo(str(error), err=True)
    click.echo(f"{len(ids) - refused} dead letters discarded.")
    if refused:
        raise SystemExit(1)


COMMANDS = (dead_letters,)
