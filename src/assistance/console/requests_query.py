"""What the address of the list of requests says: the filter, and which part of the list is shown."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

import flask

from assistance.console.showing import Refused
from assistance.search.filters import RequestFilter
from assistance.search.mistakes import FilterMistake
from assistance.search.place import Place

LIST = "/console/requests"
#: Members of the address that choose no requests.
PLACE, ORDER = "place", "order"
OLDEST = "oldest"
_NEWEST = "newest"


def filter_query() -> dict[str, str]:
    """The filter as it was written, with the order of the list: what every link around the list carries along.

    Raises `Refused` (400).
    """
    try:
        written = flask.request.args
    except UnicodeDecodeError as error:
        raise Refused("The address holds bytes that are no text.", 400, LIST) from error
    return {name: text for name, text in written.items() if name != PLACE and text.strip()}


def wanted_filter() -> RequestFilter:
    """The filter of the call being answered. Raises `Refused` (400), which names the mistake."""
    try:
        query = filter_query()
        if query.get(ORDER, _NEWEST) not in (OLDEST, _NEWEST):
            raise FilterMistake(ORDER, query[ORDER], f"has to be {_NEWEST} or {OLDEST}")
        return RequestFilter.from_query(query, besides=(ORDER,))
    except FilterMistake as mistake:
        raise refused_filter(mistake) from mistake


def wanted_place() -> Place | None:
    """Where the page of the list begins; none at its beginning. Raises `Refused` (400)."""
    text = flask.request.args.get(PLACE, "")
    if not text:
        return None
    try:
        return Place.from_text(text, PLACE)
    except FilterMistake as mistake:
        raise refused_filter(mistake) from mistake


def is_oldest_first() -> bool:
    """Whether the list begins with the oldest request."""
    return flask.request.args.get(ORDER) == OLDEST


def refused_filter(mistake: FilterMistake) -> Refused:
    """The refusal of a filter; its page leads to the same address without the mistake."""
    rest = {name: text for name, text in flask.request.args.items() if name != mistake.name}
    path = flask.request.path if flask.request.method == "GET" else LIST
    return Refused(str(mistake), 400, with_query(path, rest))


def with_query(path: str, query: Mapping[str, str]) -> str:
    """An address of ours."""
    return f"{path}?{urlencode(query)}" if query else path
