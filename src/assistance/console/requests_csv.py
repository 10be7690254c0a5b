"""The requests that match, as a file for spreadsheets, written while it is read."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import flask
from sqlalchemy import Row

from assistance.console.desk import Desk
from assistance.console.requests_query import is_oldest_first, wanted_filter
from assistance.console.signing_in import the_operator
from assistance.console.words import iso
from assistance.search.filters import RequestFilter
from assistance.search.place import MOST_COUNTED, Place
from assistance.search.requests import find_requests

_PAGE = 500
_COLUMNS = ("accepted", "ref", "id", "client", "topic", "status", "channels", "attempts", "ended")
_CUSTOMER = ("title", "beginning of the description")
#: A cell that begins so is a formula to spreadsheets.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def add_routes(blueprint: flask.Blueprint, desk: Desk) -> None:
    """`/console/requests.csv`, with the filter of the list: the first 10,000 rows."""

    @blueprint.get("/requests.csv")
    def requests_csv() -> flask.Response:
        wanted, sees_text = wanted_filter(), the_operator().sees_text
        lines = _lines(desk, wanted, oldest_first=is_oldest_first(), sees_text=sees_text)
        answer = flask.Response(lines, content_type="text/csv; charset=utf-8; header=present")
        answer.headers["Content-Disposition"] = 'attachment; filename="requests.csv"'
        return answer


def _lines(desk: Desk, wanted: RequestFilter, *, oldest_first: bool, sees_text: bool) -> Iterator[str]:
    yield _line((*_COLUMNS, *(_CUSTOMER if sees_text else ())))
    place: Place | None = None
    left = MOST_COUNTED
    while left:
        # A connection for each page: none is held while somebody's network is slow.
        with desk.database.look(desk.deadline()) as connection:
            found = find_requests(connection, wanted, limit=min(_PAGE, left), place=place, oldest_first=oldest_first)
        yield "".join(_line(_cells(row, sees_text=sees_text)) for row in found.rows)
        left -= len(found.rows)
        place = (found.newer if oldest_first else found.older) or found.looked_until
        if place is None:
            return


def _cells(row: Row[Any], *, sees_text: bool) -> Iterator[object]:
    yield from (iso(row.created_at), row.ref, row.id, row.client, row.topic, row.handling or row.status)
    yield "; ".join(f"{told['channel']} {told['state']}" for told in row.told or ())
    yield from (row.attempts, row.ended_at)
    if sees_text:
        yield from (row.title, row.description)


def _line(cells: Iterable[object]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow([_cell(cell) for cell in cells])
    return line.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, datetime):
        return iso(value)
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
