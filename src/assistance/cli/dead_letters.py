"""Commands for dead letters: list, show, replay, discard."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce, wraps
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from assistance.cli.asking import actor, acts_on, because, database_of, readable, show_json, show_table
from assistance.cli.operations import begin, count, no_wait, rate, watch

if TYPE_CHECKING:
    from assistance.search.letters import Found
    from assistance.search.place import Place
    from assistance.storage.database import Database

#: What this command does itself, also when no worker runs.
_FEW = 100
#: So many letters are read at once.
_PAGE = 1000
#: What JSON tells of a letter in a list.
_SHOWN = (
    *("id", "delivery_id", "series", "channel", "source", "reason", "error", "cause", "message_id", "body", "headers"),
    *("created_at", "resolved_at", "resolved_by", "resolution", "request_id", "ref", "topic"),
)
_LETTER_ID = click.IntRange(1, 2**63 - 1)


@click.group("dead-letters")
def dead_letters() -> None:
    """Look at what will not be tried again by itself, and put it back."""


_channel = click.option("--channel", help="Only letters of this channel.")
_reason = click.option("--reason", help="Only letters with this reason.")


@dead_letters.command("list")
@_channel
@_reason
@click.option("--cause", help="Only letters with this cause, as the JSON of one of them names it.")
@click.option("--topic", help="Only letters about requests with this topic.")
@click.option("--since", help='How far back, such as "2h", or from when on, such as "2026-03-04T14:00:00Z".')
@click.option("--limit", type=click.IntRange(1, 100_000), default=100)
@click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")
def list_(limit: int, as_json: bool, **options: str | None) -> None:
    """List open dead letters, oldest first."""
    from assistance.settings import load_settings

    query = {name: value for name, value in options.items() if value is not None}
    with database_of(load_settings()) as database:
        rows = _letters(database, query, limit)
    if as_json:
        for row in rows:
            show_json({name: getattr(row, name) for name in _SHOWN})
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


@dataclass(frozen=True, kw_only=True, slots=True)
class _Order:
    """The options of a command that acts on letters."""

    ids: tuple[int, ...]
    channel: str | None
    reason: str | None
    everything: bool
    because: str | None
    dry_run: bool
    rate: float
    no_wait: bool


def _acts_on_letters(everything: str) -> Callable[[Callable[[_Order], None]], Callable[..., None]]:
    """Give a command the options of an `_Order`; `everything` tells what `--all` means to it."""
    options = (
        click.argument("ids", type=_LETTER_ID, nargs=-1, metavar="[ID]..."),
        _channel,
        _reason,
        click.option("--all", "everything", is_flag=True, help=everything),
        because,
        click.option("--dry-run", is_flag=True, help="Say how many, change nothing."),
        rate,
        no_wait,
    )

    def decorate(command: Callable[[_Order], None]) -> Callable[..., None]:
        @wraps(command)
        def told(**given: Any) -> None:
            command(_Order(**given))

        return reduce(lambda decorated, option: option(decorated), reversed(options), told)

    return decorate


@dead_letters.command()
@_acts_on_letters("Every letter that can be replayed.")
def replay(order: _Order) -> None:
    """Send dead letters again: by ID, by channel, by reason, or --all.

    More than a hundred are an operation, which the conciliation process carries out.
    """
    from assistance.settings import load_settings

    query = _query(order) | ({} if order.ids else {"replayable": "true"})
    settings = load_settings()
    with database_of(settings) as database:
        chosen = _chosen(order, database, "replay", query)
        refused = 0
        acts = acts_on(settings, database)
        with click.progressbar(length=len(chosen), label="replaying") as bar:
            for sentence in acts.replay_each(chosen, actor(), reason=order.because, per_second=order.rate):
                bar.update(1)
                if sentence is not None:
                    refused += 1
                    click.echo(f"\n{sentence}", err=True)
    click.echo(f"{len(chosen) - refused} dead letters replayed.")
    if refused:
        raise SystemExit(1)


@dead_letters.command()
@_acts_on_letters("Every open letter.")
def discard(order: _Order) -> None:
    """Close dead letters without sending anything: by ID, by channel, by reason, or --all.

    More than a hundred are an operation, which the conciliation process carries out.
    """
    from assistance.settings import load_settings

    query = _query(order)
    settings = load_settings()
    with database_of(settings) as database:
        chosen = _chosen(order, database, "discard", query)
        outcome = acts_on(settings, database).discard(chosen, actor(), reason=order.because)
    for sentence in outcome.refused:
        click.echo(sentence, err=True)
    click.echo(f"{outcome.done} dead letters discarded.")
    if outcome.refused:
        raise SystemExit(1)


def _chosen(order: _Order, database: Database, act: str, query: dict[str, str]) -> Sequence[int]:
    """The letters that the command acts on itself; ends it where nothing is left for it to do."""
    chosen = order.ids or _few_letters(database, query)
    number = len(chosen) if chosen is not None else count(database, act, query)
    if order.dry_run:
        click.echo(f"{number} dead letters would be {act}ed.")
        raise click.exceptions.Exit(0)
    if chosen is None:
        begun = begin(database, act, query, shown=number, per_second=order.rate, parameters={}, reason=order.because)
        raise click.exceptions.Exit(0 if order.no_wait else watch(database, begun))
    return chosen


def _query(order: _Order) -> dict[str, str]:
    """The filter that the options mean; exactly one way of naming letters is used."""
    if bool(order.ids) + bool(order.channel or order.reason) + order.everything != 1:
        raise click.UsageError("Name letters by ID, or by --channel and --reason, or say --all.")
    return {name: value for name, value in (("channel", order.channel), ("reason", order.reason)) if value}


def _few_letters(database: Database, query: dict[str, str]) -> Sequence[int] | None:
    """The numbers of the letters that match, the oldest first; none when they are more than a command acts on itself.

    They are looked for to the end: a count stops where looking becomes slow, and could say that many are few.
    """
    found = [row.id for row in _letters(database, query, _FEW + 1)]
    return found if len(found) <= _FEW else None


def _letters(database: Database, query: Mapping[str, str], limit: int) -> list[Any]:
    """The letters that match, the oldest first. Raises `FilterMistake`."""
    from assistance.search.bounds import every
    from assistance.search.letters import LetterFilter, find_letters

    wanted, most = LetterFilter.from_query(query), min(limit, _PAGE)

    def page(place: Place | None) -> Found:
        with database.transaction() as connection:
            return find_letters(connection, wanted, limit=most, place=place, oldest_first=True)

    return list(islice(every(page, oldest_first=True), limit))


COMMANDS = (dead_letters,)
