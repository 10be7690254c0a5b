"""`/console/dead`: what will not be tried again by itself, by its causes, and what operators do with it."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode

import flask

from assistance.console.desk import Desk
from assistance.console.rates import DEFAULT_PER_SECOND, per_second_in
from assistance.console.showing import Refused, go_to, is_refresh, show
from assistance.console.signing_in import actor, needs
from assistance.deadletters.letters import show_letter
from assistance.domain.errors import CountMoved
from assistance.domain.operator import Role
from assistance.operating import jobs
from assistance.operating.acts import Outcome
from assistance.operating.targets import Kind
from assistance.search.causes import Cause
from assistance.search.filters import LetterFilter
from assistance.search.letters import count_letters, find_letters, groups
from assistance.search.place import MOST_COUNTED, Count, Place

_LIST = "/console/dead"
_ROWS = 50
_MOST_CAUSES = 100
#: As many as a page of rows can have; more than that is for an operation.
_MOST_CHOSEN = 100
#: Members of the address that choose no letters.
_BESIDES = ("view", "place")
_LARGEST_NUMBER = 2**63 - 1


def add_routes(blueprint: flask.Blueprint, desk: Desk) -> None:
    """Serve the causes, their letters, and the acts on them."""

    @blueprint.get("/dead")
    def dead_letters() -> flask.Response:
        wanted = LetterFilter.from_query(_arguments(), besides=_BESIDES)
        arguments = flask.request.args
        is_list = wanted.cause or wanted.ids or wanted.resolved or arguments.get("view") or arguments.get("place")
        return _show_rows(desk, wanted) if is_list else _show_causes(desk, wanted)

    @blueprint.get("/dead/<int:letter_id>")
    def dead_letter(letter_id: int) -> flask.Response:
        if letter_id > _LARGEST_NUMBER:
            raise _no_letter(letter_id)
        with desk.database.look(desk.deadline()) as connection:
            letter = show_letter(connection, letter_id)
        if letter is None:
            raise _no_letter(letter_id)
        return show("dead_letter.html", title=f"Dead letter {letter_id}", letter=letter, body=_readable(letter.body))

    @blueprint.post("/dead/replay")
    def replay_letters() -> flask.Response:
        needs(Role.OPERATOR)
        chosen, rate = _chosen(), per_second_in(flask.request.form)
        outcome = desk.acts.replay(chosen, actor(), reason=_reason(), per_second=rate)
        return _back(outcome, "put back")

    @blueprint.post("/dead/discard")
    def discard_letters() -> flask.Response:
        needs(Role.OPERATOR)
        outcome = desk.acts.discard(_chosen(), actor(), reason=_demanded_reason())
        return _back(outcome, "discarded")

    @blueprint.post("/dead/all")
    def begin_operation() -> flask.Response:
        needs(Role.OPERATOR)
        kind = Kind.DISCARD if flask.request.form.get("kind") == Kind.DISCARD else Kind.REPLAY
        reason = _demanded_reason() if kind is Kind.DISCARD else _reason()
        query = _filter_of_form().to_query()
        shown, rate = flask.request.form.get("shown", ""), per_second_in(flask.request.form)
        if not shown.isdecimal() or len(shown) > len(str(MOST_COUNTED)):
            raise Refused("The form does not say how many were shown. Nothing was done.", 400, _address(query))
        who = actor()
        try:
            operation_id = desk.database.run(
                lambda connection: jobs.begin(
                    connection, kind, query, shown=int(shown), per_second=rate, actor=who, reason=reason
                ),
                desk.deadline(),
            )
        except CountMoved as moved:
            raise Refused(f"{moved} Nothing was done.", 409, _address(query)) from moved
        return go_to(f"/console/operations/{operation_id}", "The operation has begun.")


def _show_causes(desk: Desk, wanted: LetterFilter) -> flask.Response:
    with desk.database.look(desk.deadline()) as connection:
        causes = groups(connection, wanted, limit=_MOST_CAUSES)
        # Good news is worth one more question, but not with every refresh.
        asks_for_last = not causes and not wanted.to_query() and not is_refresh()
        resolved = find_letters(connection, LetterFilter(resolved=True), limit=1).rows if asks_for_last else ()
    number = _sum_of(causes)
    return show(
        "dead_causes.html",
        title=f"({number}) Dead letters" if causes else "Dead letters",
        refresh_seconds=10,
        causes=causes,
        number=number,
        last=resolved[0] if resolved else None,
        wanted=wanted,
        query=urlencode(wanted.to_query()),
        per_second=DEFAULT_PER_SECOND,
        address=_address,
        channels=sorted(desk.configuration().channels),
    )


def _show_rows(desk: Desk, wanted: LetterFilter) -> flask.Response:
    text = flask.request.args.get("place")
    place = Place.from_text(text) if text else None
    with desk.database.look(desk.deadline()) as connection:
        found = find_letters(connection, wanted, limit=_ROWS, place=place)
        # How many there are is what the operator saw when the page was made; a refresh leaves it as it is.
        number = None if is_refresh() else count_letters(connection, wanted)
    query = wanted.to_query()
    return show(
        "dead_rows.html",
        title="Dead letters" if number is None else f"({number}) Dead letters",
        refresh_seconds=10,
        steady=True,
        found=found,
        number=number,
        wanted=wanted,
        query=urlencode(query),
        per_second=DEFAULT_PER_SECOND,
        newer_url=_address({**query, "place": str(found.newer)}) if found.newer else None,
        older_url=_address({**query, "place": str(found.older)}) if found.older else None,
        further_url=_address({**query, "place": str(found.looked_until)}) if found.looked_until else None,
        is_first=place is None,
        address=_address,
        channels=sorted(desk.configuration().channels),
    )


def _sum_of(causes: list[Cause]) -> Count:
    number = sum(cause.count.number for cause in causes)
    is_capped = len(causes) == _MOST_CAUSES or any(cause.count.is_capped for cause in causes)
    return Count(number=min(number, MOST_COUNTED), is_capped=is_capped or number > MOST_COUNTED)


def _arguments() -> dict[str, str]:
    return dict(flask.request.args.items())


def _address(query: dict[str, str]) -> str:
    """The list with this filter."""
    return f"{_LIST}?{urlencode(query)}" if query else _LIST


def _filter_of_form() -> LetterFilter:
    """The filter that the form was made for. Raises `FilterMistake`."""
    written = flask.request.form.get("filter", "")[:10_000]
    return LetterFilter.from_query(dict(parse_qsl(written)), besides=_BESIDES)


def _chosen() -> list[int]:
    """The numbers of the letters that were ticked. Raises `Refused`."""
    chosen = flask.request.form.getlist("letter")
    address = _address(_filter_of_form().to_query())
    if not chosen:
        raise Refused("No dead letter was chosen. Nothing was done.", 400, address)
    if len(chosen) > _MOST_CHOSEN:
        raise Refused(f"Choose {_MOST_CHOSEN} at most, or all that match. Nothing was done.", 400, address)
    if not all(number.isascii() and number.isdecimal() and 0 < int(number) <= _LARGEST_NUMBER for number in chosen):
        raise Refused("The form names something that is no dead letter. Nothing was done.", 400, address)
    return list(dict.fromkeys(int(number) for number in chosen))


def _reason() -> str | None:
    """What was filled in; where two acts share a form, one of their fields is empty."""
    return next((reason.strip() for reason in flask.request.form.getlist("reason") if reason.strip()), None)


def _demanded_reason() -> str:
    """Why something is thrown away. Raises `Refused`."""
    reason = _reason()
    if reason is None:
        raise Refused("Say why they are discarded. Nothing was done.", 400, _address(_filter_of_form().to_query()))
    return reason


def _back(outcome: Outcome, done: str) -> flask.Response:
    """To where the form was, with what became of it."""
    said = f"{outcome.done} {'dead letter was' if outcome.done == 1 else 'dead letters were'} {done}."
    if outcome.refused:
        said += f" {len(outcome.refused)} refused: {outcome.refused[0]}"
    return go_to(_address(_filter_of_form().to_query()), said)


def _no_letter(letter_id: int) -> Refused:
    return Refused(f"There is no dead letter {str(letter_id)[:20]}.", 404, _LIST)


def _readable(body: bytes | None) -> str | None:
    """What the lost message held, as far as it is text."""
    return None if body is None else body.decode("utf-8", "replace")
