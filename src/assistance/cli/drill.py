"""The command `drill`: proves on a running installation that what it accepts arrives, and is accepted once."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from assistance.cli.asking import database_of, show_json, show_table
from assistance.cli.calling import call

if TYPE_CHECKING:
    from assistance.client import Client
    from assistance.runtime.clock import Deadline

Result = TypeVar("Result")

_HARMLESS = "sandbox"  # what the names of channels start with that nobody reads in earnest
_PAUSE_SECONDS = 0.2
_OVER = ("delivered", "undeliverable", "cancelled")


@dataclass(kw_only=True, slots=True)
class Report:
    """What a drill saw."""

    requests: int
    accepted: int = 0
    repeated: int = 0  # sent a second time with the same key
    same_id: int = 0  # and answered with the id of the first
    delivered: int = 0
    slowest_seconds: float | None = None  # from accepted to ended, by the installation's own clock
    ledger_closes: bool | None = None  # none: not looked at
    problems: list[str] = field(default_factory=list)

    @property
    def is_fine(self) -> bool:
        """Whether everything arrived, and each key meant one request."""
        complete = self.accepted == self.delivered == self.requests and self.same_id == self.repeated
        return complete and self.ledger_closes is not False


class Bot:
    """A careful bot: repeats a call that was not refused for good, with the same key, until the deadline."""

    def __init__(self, url: str, topic: str, deadline: Deadline) -> None:
        self.topic = topic
        self.run = uuid.uuid4()
        self._url = url
        self._deadline = deadline

    def ask(self, number: int, of: int) -> str:
        """Post the drill's request with this number; its id.

        Raises `ClickException` when it is refused, or not accepted by the deadline.
        """
        description = f"This is a drill, message {number} of {of} ({self.run}). Nobody has to do anything."
        key = f"drill-{self.run}-{number}"
        return self._try(lambda client: client.ask(self.topic, description, idempotency_key=key)).id

    def look(self, request_id: str) -> dict[str, Any]:
        """Where a request is."""
        return self._try(lambda client: client.look(request_id))

    def _try(self, make: Callable[[Client], Result]) -> Result:
        return call(self._url, make, self._deadline.remaining())


@click.command()
@click.option("--url", required=True, help="Where the API of the running installation is.")
@click.option("--topic", default="drill", show_default=True, help="A topic that leads to sandbox channels only.")
@click.option("--requests", "number", type=click.IntRange(1, 10_000), default=20, show_default=True)
@click.option("--timeout", default="60s", show_default=True, help="When everything must have arrived.")
@click.option("--anyway", is_flag=True, help="Go on though people will read it.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")
def drill(url: str, topic: str, number: int, timeout: str, anyway: bool, as_json: bool) -> None:
    """Send marked test requests through a running installation and see that each arrives.

    Every second one is sent twice with the same key. Exit code 1 when anything was missing.
    """
    from assistance.configuration import parse_duration
    from assistance.runtime.clock import Deadline

    try:
        deadline = Deadline.after(parse_duration(timeout))
    except ValueError as error:
        raise click.BadParameter(f"{timeout!r} {error}", param_hint="--timeout") from None
    bot = Bot(url, topic, deadline)
    report = Report(requests=number)
    first = bot.ask(1, number)
    _refuse_real_channels(bot, first, anyway=anyway)
    pending = _ask_all(bot, first, report)
    _wait(bot, pending, report, deadline)
    _look_at_ledger(report)
    _show(report, as_json=as_json)
    sys.exit(0 if report.is_fine else 1)


def _refuse_real_channels(bot: Bot, first: str, *, anyway: bool) -> None:
    channels = sorted({delivery["channel"] for delivery in bot.look(first)["deliveries"]})
    real = [name for name in channels if not name.startswith(_HARMLESS)]
    if real and not anyway:
        raise click.UsageError(
            f"Topic {bot.topic!r} leads to {', '.join(real)}, which people may read: one message is on its way there,"
            f" and no more are sent. Route a topic to channels whose names start with {_HARMLESS}, or say --anyway."
        )


def _ask_all(bot: Bot, first: str, report: Report) -> set[str]:
    """Post the rest, every second one twice; the ids of what was accepted."""
    ids: set[str] = set()
    for number in range(1, report.requests + 1):
        try:
            found = first if number == 1 else bot.ask(number, report.requests)
            ids.add(found)
            report.accepted = len(ids)
            if number % 2 == 1:
                report.repeated += 1
                report.same_id += bot.ask(number, report.requests) == found
        except click.ClickException as error:
            report.problems.append(f"Request {number}: {error.message}")
    return ids


def _wait(bot: Bot, pending: set[str], report: Report, deadline: Deadline) -> None:
    """Look at what is pending until it has ended or the deadline has passed."""
    from assistance.runtime.clock import sleep

    while pending:
        for request_id in sorted(pending):
            try:
                found = bot.look(request_id)
            except click.ClickException as error:
                report.problems.append(f"{request_id}: {error.message}")
                pending.discard(request_id)
                continue
            if found["status"] in _OVER:
                pending.discard(request_id)
                _end(found, report)
            elif deadline.has_passed:
                pending.discard(request_id)
                report.problems.append(f"{found['ref']} is still {found['status']}.")
        if pending:
            sleep(_PAUSE_SECONDS)


def _end(found: dict[str, Any], report: Report) -> None:
    if found["status"] != "delivered":
        report.problems.append(f"{found['ref']} is {found['status']}.")
        return
    report.delivered += 1
    ended = found["ended_at"] or found["updated_at"]
    took = (datetime.fromisoformat(ended) - datetime.fromisoformat(found["created_at"])).total_seconds()
    report.slowest_seconds = max(report.slowest_seconds or 0.0, took)


def _look_at_ledger(report: Report) -> None:
    from assistance.conciliation.ledger import read_ledger
    from assistance.settings import load_settings, names_a_database

    if not names_a_database():
        return
    with database_of(load_settings()) as database, database.transaction() as connection:
        violations = read_ledger(connection).violations
    report.ledger_closes = not violations
    report.problems += [f"Ledger: {count} {name}." for name, count in violations.items()]


def _show(report: Report, *, as_json: bool) -> None:
    slowest = None if report.slowest_seconds is None else round(report.slowest_seconds, 3)
    if as_json:
        show_json(
            {
                "requests": report.requests,
                "accepted": report.accepted,
                "repeated": report.repeated,
                "same_id": report.same_id,
                "delivered": report.delivered,
                "slowest_seconds": slowest,
                "ledger_closes": report.ledger_closes,
                "problems": report.problems,
                "fine": report.is_fine,
            }
        )
        return
    ledger = {None: "not looked at", True: "closes", False: "does not close"}[report.ledger_closes]
    show_table(
        ("drill", "found"),
        (
            ("accepted", f"{report.accepted} of {report.requests}"),
            ("same id for the same key", f"{report.same_id} of {report.repeated}"),
            ("delivered", f"{report.delivered} of {report.requests}"),
            ("slowest", None if slowest is None else f"{slowest:g} s"),
            ("ledger", ledger),
        ),
    )
    for problem in report.problems:
        click.echo(problem)
    click.echo("The drill went well." if report.is_fine else "The drill found something missing.")


COMMANDS = (drill,)
