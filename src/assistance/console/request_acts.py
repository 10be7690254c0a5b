"""What can be done to one request, and doing it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import flask

from assistance.configuration import Configuration
from assistance.console.desk import Desk
from assistance.console.requests_query import LIST, filter_query, with_query
from assistance.console.showing import Refused, go_to
from assistance.console.signing_in import actor, needs
from assistance.deliveries.resolve import Resolution
from assistance.domain.delivery import CALLBACKS, DeliveryState, Purpose
from assistance.domain.operator import Role
from assistance.domain.request import RequestStatus
from assistance.status.story import Story, read_story

_LONGEST_REASON = 500
_LONGEST_ECHO = 60
_NOT_TOLD = (RequestStatus.SCHEDULED, RequestStatus.ACCEPTED)
_Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Possible:
    """What an operator may do to the request now."""

    letters: tuple[int, ...] = ()  # open ones, which can be replayed
    dead_channels: str = ""
    targets: tuple[str, ...] = ()  # where what waits could go
    waiting_channels: str = ""
    can_cancel: bool = False
    held: tuple[_Row, ...] = ()

    @property
    def any(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.letters or self.targets or self.can_cancel or self.held)


def add_routes(blueprint: flask.Blueprint, desk: Desk) -> None:
    """The acts below `/console/requests/<ref or id>`; each leads back to the page of the request."""

    @blueprint.post("/requests/<name>/replay")
    def replay_request(name: str) -> flask.Response:
        needs(Role.OPERATOR)
        story = read_request(desk, name)
        letters = possible(story, desk.configuration()).letters
        if not letters:
            raise Refused("This request has no open dead letter any more. Nothing was done.", 409, _here(story))
        outcome = desk.acts.replay(letters, actor(), reason=_reason())
        return go_to(_here(story), _said_of(outcome.done, "put back", outcome.refused))

    @blueprint.post("/requests/<name>/cancel")
    def cancel_request(name: str) -> flask.Response:
        needs(Role.OPERATOR)
        story = read_request(desk, name)
        is_new = desk.acts.cancel(UUID(story.request["id"]), actor(), reason=_needed_reason(story))
        return go_to(_here(story), "The request is cancelled." if is_new else "The request was cancelled already.")

    @blueprint.post("/requests/<name>/reroute")
    def reroute_request(name: str) -> flask.Response:
        needs(Role.OPERATOR)
        story = read_request(desk, name)
        channel = flask.request.form.get("channel", "")
        desk.acts.reroute(UUID(story.request["id"]), channel, actor(), reason=_needed_reason(story))
        return go_to(_here(story), f"What waited goes to {channel} now.")

    @blueprint.post("/requests/<name>/resolve")
    def resolve_request(name: str) -> flask.Response:
        needs(Role.OPERATOR)
        story = read_request(desk, name)
        of_request = {row["id"] for row in story.deliveries}
        delivery, resolution = flask.request.form.get("delivery", ""), flask.request.form.get("resolution", "")
        if delivery not in of_request:
            raise Refused(
                "The form names a delivery that this request does not have. Nothing was done.", 400, _here(story)
            )
        if resolution not in set(Resolution):
            raise Refused("Say whether it arrived. Nothing was done.", 400, _here(story))
        desk.acts.resolve(UUID(delivery), Resolution(resolution), actor(), reason=_needed_reason(story))
        return go_to(_here(story), f"Settled: {resolution}.")


def possible(story: Story, configuration: Configuration) -> Possible:
    """What can be done to a request as it stands."""
    request = story.request
    open_letters = [
        entry.data for entry in story.entries if entry.kind == "letter" and entry.data["resolved_at"] is None
    ]
    dead = [] if request["called_off"] else open_letters
    waiting = [
        row["channel"]
        for row in story.deliveries
        if row["purpose"] == Purpose.NOTIFY and row["state"] == DeliveryState.PENDING
    ]
    others = [name for name in sorted(configuration.channels) if name != CALLBACKS and [name] != waiting]
    return Possible(
        letters=tuple(letter["id"] for letter in dead),
        dead_channels=_in_words([str(letter["channel"]) for letter in dead]),
        targets=tuple(others) if waiting else (),
        waiting_channels=_in_words(waiting),
        can_cancel=request["status"] in _NOT_TOLD,
        held=tuple(row for row in story.deliveries if row["held_at"] is not None),
    )


def read_request(desk: Desk, name: str) -> Story:
    """The request that the address names. Raises `Refused`: 400 for a name that is none, 404 when nothing is there."""
    shown = name if len(name) <= _LONGEST_ECHO else name[:_LONGEST_ECHO] + "…"
    with desk.database.look(desk.deadline()) as connection:
        try:
            story = read_story(connection, name)
        except ValueError:
            sentence = f"{shown!r} is neither a ref, such as A-7F3K9Q, nor an id."
            raise Refused(sentence, 400, LIST) from None
    if story is None:
        sentence = f"No request is called {shown}. Perhaps it ended long ago and was purged; look for it in the list."
        raise Refused(sentence, 404, LIST)
    return story


def _in_words(names: Sequence[str]) -> str:
    *others, last = dict.fromkeys(names) or ("",)
    return f"{', '.join(others)} and {last}" if others else last


def _said_of(done: int, what: str, refused: Sequence[str]) -> str:
    return " ".join((f"{done} {what}.", *dict.fromkeys(refused)))


def _reason() -> str | None:
    return flask.request.form.get("reason", "").strip()[:_LONGEST_REASON] or None


def _needed_reason(story: Story) -> str:
    reason = _reason()
    if reason is None:
        raise Refused("Say why: the log of who did what needs a reason. Nothing was done.", 400, _here(story))
    return reason


def _here(story: Story) -> str:
    return with_query(f"{LIST}/{story.request['ref']}", filter_query())
