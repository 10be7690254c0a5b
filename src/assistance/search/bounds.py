"""What every search shares: spans of time on the database's clock, the order of rows, and pages cut out of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import ColumnElement, Interval, Row, func, literal, tuple_
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from assistance.search.place import Place, Towards

#: What no index serves is looked for among as many of the newest rows.
MOST_LOOKED_AT = 20_000
#: Where looking takes a while for each row: long texts, and deliveries in a table of their own.
MOST_READ = 10_000

Columns = ReadOnlyColumnCollection[str, Any]


class Spanned(Protocol):
    """A filter with a span of time."""

    @property
    def since(self) -> datetime | timedelta | None:
        """From when on, or from how long ago."""

    @property
    def until(self) -> datetime | None:
        """Before when."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A page of rows, and the places where the pages around it begin, if there are any.

    `looked_until` is set when the page might hold more, had more rows been looked at: going on there does that.
    """

    rows: Sequence[Row[Any]]
    newer: Place | None
    older: Place | None
    looked_until: Place | None


def ago(period: timedelta) -> ColumnElement[datetime]:
    """The moment that lies so far back from the start of this transaction."""
    return func.now() - literal(period, Interval)


def spanned(created_at: ColumnElement[datetime], wanted: Spanned) -> list[ColumnElement[bool]]:
    """The conditions of a span of time."""
    conditions: list[ColumnElement[bool]] = []
    if isinstance(wanted.since, datetime):
        conditions.append(created_at >= wanted.since)
    elif wanted.since is not None:
        conditions.append(created_at >= ago(wanted.since))
    if wanted.until is not None:
        conditions.append(created_at < wanted.until)
    return conditions


def behind(columns: Columns, place: Place, key: Any) -> ColumnElement[bool]:
    """Rows beyond the place; `key` is what the column `id` holds there."""
    row, edge = tuple_(columns["created_at"], columns["id"]), tuple_(place.created_at, key)
    return row < edge if place.towards is Towards.OLDER else row > edge


def in_order(columns: Columns, towards: Towards) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """The order in which rows come on the way: that of indexes, forwards or backwards."""
    if towards is Towards.OLDER:
        return columns["created_at"].desc(), columns["id"].desc()
    return columns["created_at"].asc(), columns["id"].asc()


def direction(place: Place | None, *, oldest_first: bool) -> Towards:
    """Which way a page is read: on from its place, or from the beginning of the list."""
    if place is not None:
        return place.towards
    return Towards.NEWER if oldest_first else Towards.OLDER


def page(
    rows: Sequence[Row[Any]],
    *,
    limit: int,
    place: Place | None,
    oldest_first: bool,
    edge: tuple[datetime, UUID | int] | None,
) -> Found:
    """The page out of rows on the way, of which there is one more than fits if there are more pages.

    `edge` is the last row that was looked at, if there was anything behind it. A page is shown in the order of the list
    however it was come to.
    """
    towards = direction(place, oldest_first=oldest_first)
    has_more = len(rows) > limit
    shown = list(rows[:limit])
    if (towards is Towards.NEWER) is not oldest_first:
        shown.reverse()
    looked_until = None if has_more or edge is None else Place(created_at=edge[0], id=_as_key(edge[1]), towards=towards)
    if not shown:
        return Found(rows=(), newer=None, older=None, looked_until=looked_until)
    newest, oldest = (shown[-1], shown[0]) if oldest_first else (shown[0], shown[-1])
    goes_on = {towards: has_more, _opposite(towards): place is not None}
    return Found(
        rows=shown,
        newer=_place_of(newest, Towards.NEWER) if goes_on[Towards.NEWER] else None,
        older=_place_of(oldest, Towards.OLDER) if goes_on[Towards.OLDER] else None,
        looked_until=looked_until,
    )


def every(find: Callable[[Place | None], Found], *, oldest_first: bool = False) -> Iterator[Row[Any]]:
    """Every row that `find` has, page by page, also beyond each place where looking ended."""
    place: Place | None = None
    while True:
        found = find(place)
        yield from found.rows
        place = found.looked_until or (found.newer if oldest_first else found.older)
        if place is None:
            return


def _as_key(number: int | UUID) -> UUID:
    """The id of a row as a place holds it."""
    return number if isinstance(number, UUID) else UUID(int=number)


def _opposite(towards: Towards) -> Towards:
    return Towards.OLDER if towards is Towards.NEWER else Towards.NEWER


def _place_of(row: Row[Any], towards: Towards) -> Place:
    return Place(created_at=row.created_at, id=_as_key(row.id), towards=towards)
