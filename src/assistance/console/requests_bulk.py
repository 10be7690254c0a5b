"""Acting on many requests: a page that says what would happen, then an operation that does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import flask
from sqlalchemy import Connection, select

from assistance.console.desk import Desk
from assistance.console.requests_query import LIST, filter_query, refused_filter, wanted_filter, with_query
from assistance.console.showing import Refused, go_to, show
from assistance.console.signing_in import actor, needs
from assistance.domain.delivery import CALLBACKS
from assistance.domain.errors import CountMoved
from assistance.domain.operator import Role
from assistance.operating import jobs
from assistance.operating.targets import Kind
from assistance.search.filters import RequestFilter
from assistance.search.mistakes import FilterMistake
from assistance.search.place import Count, Place
from assistance.search.requests import count_requests, find_requests
from assistance.storage.tables import dead_letters, deliveries

OPERATIONS = "/console/operations"
_KINDS = (Kind.REPLAY, Kind.CANCEL, Kind.REROUTE)
_PER_SECOND = 10
_PAGE = 500
#: More dead letters than this are meant by what they have in common: their own page can do that.
_MOST_LETTERS = 1_000
_LONGEST_REASON = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class Meant:
    """What an act is meant for: the requests, and for a replay their open dead letters."""

    wanted: RequestFilter
    count: Count
    letters: tuple[int, ...] = ()

    def acted_on(self, kind: Kind) -> int:
        """How many things the operation has to do."""
        return len(self.letters) if kind is Kind.REPLAY else self.count.number


def add_routes(blueprint: flask.Blueprint, desk: Desk) -> None:
    """The page that asks before it acts, and the act."""

    @blueprint.post("/requests/confirm")
    def confirm_requests() -> flask.Response:
        needs(Role.OPERATOR)
        kind, are_all = _wanted_act(flask.request.form.get("act", ""))
        chosen = () if are_all else tuple(flask.request.form.getlist("id"))
        if not are_all and not chosen:
            raise Refused("No request is selected. Nothing was done.", 400, with_query(LIST, filter_query()))
        with desk.database.look(desk.deadline()) as connection:
            meant = _meant(connection, kind, chosen)
        if not meant.acted_on(kind):
            nothing = (
                "None of these requests has an open dead letter" if kind is Kind.REPLAY else "Nothing matches any more"
            )
            raise Refused(f"{nothing}. Nothing was done.", 409, with_query(LIST, filter_query()))
        return show(
            "requests_confirm.html",
            title=f"{kind.capitalize()} {meant.count} requests",
            kind=kind,
            meant=meant,
            number=meant.acted_on(kind),
            chosen=",".join(chosen),
            filters=wanted_filter().to_query() if are_all else {},
            per_second=_PER_SECOND,
            channels=[name for name in sorted(desk.configuration().channels) if name != CALLBACKS],
            begin_url=with_query(f"{LIST}/begin", filter_query()),
            back_url=with_query(LIST, filter_query()),
        )

    @blueprint.post("/requests/begin")
    def begin_requests() -> flask.Response:
        needs(Role.OPERATOR)
        form = flask.request.form
        kind, _ = _wanted_act(form.get("act", ""))
        chosen = tuple(part for part in form.get("ids", "").split(",") if part)
        reason = form.get("reason", "").strip()[:_LONGEST_REASON]
        if not reason:
            raise Refused("Say why: the log of who did what needs a reason. Nothing was done.", 400, _back())
        shown, per_second = _number("shown"), _number("per_second")

        def work(connection: Connection) -> UUID:
            meant = _meant(connection, kind, chosen)
            _must_be_as_shown(meant, shown)
            found = _query_for(kind, meant)
            return jobs.begin(
                connection,
                kind,
                found,
                shown=meant.acted_on(kind) if kind is Kind.REPLAY else int(shown),
                per_second=per_second,
                parameters={"to": form.get("channel", "")} if kind is Kind.REROUTE else {},
                actor=actor(),
                reason=reason,
            )

        if kind is Kind.REROUTE and form.get("channel") not in set(desk.configuration().channels) - {CALLBACKS}:
            raise Refused("Choose a channel of the configuration file. Nothing was done.", 400, _back())
        try:
            desk.database.run(work, desk.deadline())
        except FilterMistake as mistake:
            raise Refused(f"{mistake} Nothing was done.", 400, _back()) from mistake
        return go_to(OPERATIONS, f"The operation begins: {kind} at {per_second:g} a second.")


def _wanted_act(text: str) -> tuple[Kind, bool]:
    """The act, and whether it is meant for all that match: `replay` or `replay-all`."""
    name, _, scope = text.partition("-")
    if name not in _KINDS or scope not in ("", "all"):
        raise Refused("The form names no act. Nothing was done.", 400, _back())
    return Kind(name), scope == "all"


def _meant(connection: Connection, kind: Kind, chosen: Sequence[str]) -> Meant:
    wanted = wanted_filter()
    if chosen:
        try:
            wanted = RequestFilter.from_query({"ids": ",".join(chosen)})
        except FilterMistake as mistake:
            raise refused_filter(mistake) from mistake
    count = count_requests(connection, wanted)
    letters = _open_letters(connection, wanted) if kind is Kind.REPLAY else ()
    return Meant(wanted=wanted, count=count, letters=letters)


def _open_letters(connection: Connection, wanted: RequestFilter) -> tuple[int, ...]:
    """The open dead letters of the requests that are wanted, the oldest request first."""
    letters: list[int] = []
    place: Place | None = None
    while True:
        found = find_requests(connection, wanted, limit=_PAGE, place=place, oldest_first=True)
        of_page = (
            select(dead_letters.c.id)
            .join(deliveries, deliveries.c.id == dead_letters.c.delivery_id)
            .where(deliveries.c.request_id.in_([row.id for row in found.rows]), dead_letters.c.resolved_at.is_(None))
        )
        letters += connection.scalars(of_page.order_by(dead_letters.c.id))
        if len(letters) > _MOST_LETTERS:
            sentence = f"These requests have more than {_MOST_LETTERS:,} dead letters: replay them by their cause."
            raise Refused(f"{sentence} Nothing was done.", 409, "/console/dead")
        place = found.newer or found.looked_until
        if place is None:
            return tuple(letters)


def _must_be_as_shown(meant: Meant, shown: float) -> None:
    """For a replay the requests are what was shown, and their letters what is acted on: the operation counts those."""
    found = meant.count.number
    if abs(found - shown) > shown * jobs.MOST_MOVED:
        raise CountMoved(
            f"{found:,} requests match now and {shown:,g} were shown: look again before you begin.",
            shown=int(shown),
            found=found,
        )


def _query_for(kind: Kind, meant: Meant) -> Mapping[str, str]:
    return {"ids": ",".join(map(str, meant.letters))} if kind is Kind.REPLAY else meant.wanted.to_query()


def _number(name: str) -> float:
    try:
        found = float(flask.request.form.get(name, ""))
    except ValueError:
        found = -1.0
    if not 0 < found < 1_000_000:
        raise Refused(
            f"{name.replace('_', ' ').capitalize()} has to be a number above 0. Nothing was done.", 400, _back()
        )
    return found


def _back() -> str:
    return with_query(LIST, filter_query())
