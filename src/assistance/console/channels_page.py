"""Channels and routes: who is told of what, what goes out, and what keeps it from going out; pause, resume, test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import flask
from sqlalchemy import Row, select

from assistance.configuration import Configuration
from assistance.console.configured import Described, described, routes
from assistance.console.desk import Desk
from assistance.console.showing import Refused, go_to, show
from assistance.console.signing_in import actor, needs
from assistance.deliveries.channel_states import ChannelState
from assistance.domain.delivery import CALLBACKS
from assistance.domain.errors import UnknownChannel
from assistance.domain.operator import Role
from assistance.status.situation import (
    Backlog,
    backlog_column,
    read_backlog,
    read_states,
    read_success,
    states_column,
    success_column,
)

_REFRESH_SECONDS = 10
_LONGEST_REASON = 500
_LIST = "/console/channels"

_READ = select(states_column.label("states"), backlog_column.label("backlog"), success_column.label("success"))


@dataclass(frozen=True, kw_only=True, slots=True)
class ChannelCard:
    """A channel as the file and the database know it; `described` is none for one that left the file."""

    name: str
    described: Described | None
    state: ChannelState
    backlog: Backlog
    last_success: datetime | None

    @property
    def word(self) -> str:
        """The state that its badge shows."""
        if self.described is None:
            return "gone"
        return "paused" if self.state.paused_at is not None else str(self.state.breaker.state)

    @property
    def reaches_people(self) -> bool:
        """Whether a test message can be sent there; callbacks go to machines."""
        return self.described is not None and self.name != CALLBACKS

    @property
    def where(self) -> str:
        """Where its messages go, or why nothing is said of that."""
        if self.described is None or self.described.problem is not None:
            return "unknown here"
        return self.described.destination or "named by a secret"

    @property
    def waits(self) -> str:
        """How much would be sent if it were resumed."""
        number = self.backlog.by_state.get("ready", 0) + self.backlog.by_state.get("retrying", 0)
        return f"{self.backlog.precision}{number:,} {'delivery' if number == 1 else 'deliveries'}"

    @property
    def probe_at(self) -> datetime | None:
        """When the next probe may begin, while its breaker is not closed."""
        at = self.state.breaker.probe_at
        return None if at is None else datetime.fromtimestamp(at, UTC)


def add_routes(blueprint: flask.Blueprint, desk: Desk) -> None:
    """Serve the list, each channel, and what is done to them."""
    _add_acts(blueprint, desk)

    def read() -> Row[Any, Any, Any]:
        with desk.database.look(desk.deadline()) as connection:
            return connection.execute(_READ).one()

    @blueprint.get("/channels")
    def channels() -> flask.Response:
        configuration = desk.configuration()
        cards = _cards(read(), configuration)
        out = sum(card.state.is_out for card in cards.values())
        return show(
            "channels.html",
            title=f"({out} out) Channels" if out else "Channels",
            refresh_seconds=_REFRESH_SECONDS,
            cards=list(cards.values()),
            routes=routes(configuration),
        )

    @blueprint.get("/channels/<name>")
    def channel(name: str) -> flask.Response:
        card = _cards(read(), desk.configuration()).get(name)
        if card is None:
            raise _unknown(name)
        return show("channel.html", title=f"{name}: {card.word}", refresh_seconds=_REFRESH_SECONDS, card=card)


def _add_acts(blueprint: flask.Blueprint, desk: Desk) -> None:
    @blueprint.post("/channels/<name>/pause")
    def pause_channel(name: str) -> flask.Response:
        needs(Role.OPERATOR)
        reason = _reason()
        if reason is None:
            raise Refused("A pause needs a reason, for the others who will wonder.", 400, f"{_LIST}/{name}")
        with _known(name):
            paused = desk.acts.pause(name, actor(), reason=reason)
        done = f"{name} is paused." if paused else f"{name} was paused already; its reason stays as it was."
        return go_to(f"{_LIST}/{name}", done)

    @blueprint.post("/channels/<name>/resume")
    def resume_channel(name: str) -> flask.Response:
        needs(Role.OPERATOR)
        with _known(name):
            resumed = desk.acts.resume(name, actor(), reason=_reason())
        return go_to(f"{_LIST}/{name}", f"{name} is resumed." if resumed else f"{name} was not paused.")

    @blueprint.post("/channels/<name>/test")
    def test_channel(name: str) -> flask.Response:
        needs(Role.OPERATOR)
        if name == CALLBACKS:
            raise Refused("Callbacks go to machines: no test message can be sent there.", 400, f"{_LIST}/{name}")
        with _known(name):
            sent = desk.acts.test(name, actor())
        return go_to(f"/console/requests/{sent.id}", f"{sent.ref} is the test message to {name}; here is how it fares.")


def _reason() -> str | None:
    """Why, as the form says; none when it says nothing."""
    return flask.request.form.get("reason", "").strip()[:_LONGEST_REASON] or None


@contextmanager
def _known(name: str) -> Iterator[None]:
    """Let a channel that the file does not name be a page that is not there."""
    try:
        yield
    except UnknownChannel:
        raise _unknown(name) from None


def _unknown(name: str) -> Refused:
    return Refused(f"There is no channel {name[:40]!r}.", 404, _LIST)


def _cards(row: Row[Any, Any, Any], configuration: Configuration) -> dict[str, ChannelCard]:
    """The channels of the file, then those that left it while something of theirs is open."""
    found = described(configuration)
    states, last = read_states(row.states), read_success(row.success)
    backlogs = read_backlog(row.backlog)
    names = (*configuration.channels, *sorted(set(backlogs) - set(configuration.channels)))
    return {
        name: ChannelCard(
            name=name,
            described=found.get(name),
            state=states.get(name, ChannelState()),
            backlog=backlogs.get(name, Backlog(channel=name)),
            last_success=last.get(name),
        )
        for name in names
    }
