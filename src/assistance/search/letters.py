"""Finds, counts and groups dead letters: the open ones in the order in which they came, or the resolved ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import CTE, ColumnElement, Connection, FromClause, Select, func, literal_column, select, true

from assistance.search.bounds import MOST_READ, Found, behind, direction, in_order, page, spanned
from assistance.search.causes import Cause, essence, fingerprint
from assistance.search.filters import LetterFilter
from assistance.search.mistakes import FilterMistake
from assistance.search.place import MOST_COUNTED, Count, Place, Towards
from assistance.storage.tables import dead_letters, deliveries, requests

__all__ = ["Cause", "Found", "LetterFilter", "count_letters", "find_letters", "groups"]

_LARGEST_NUMBER = 2**63 - 1
#: As many letters of a cause tell which topics it hits.
_SAMPLE = 20
_NEEDED = (
    dead_letters.c.id,
    dead_letters.c.created_at,
    dead_letters.c.delivery_id,
    dead_letters.c.source,
    dead_letters.c.channel,
    dead_letters.c.reason,
    dead_letters.c.error,
)


def find_letters(
    connection: Connection,
    wanted: LetterFilter,
    *,
    limit: int,
    place: Place | None = None,
    oldest_first: bool = False,
) -> Found:
    """A page of the letters that are wanted, in one statement.

    Rows have all columns, the `cause`, and of the request `request_id`, `ref` and `topic`.

    Raises `FilterMistake` for a place that is none of a dead letter.
    """
    towards = direction(place, oldest_first=oldest_first)
    rows = connection.execute(_page(wanted, limit, place, towards)).all()
    edge = (rows[0].edge_created_at, rows[0].edge_id) if rows[0].edge_id is not None else None
    found = [row for row in rows if row.id is not None]
    return page(found, limit=limit, place=place, oldest_first=oldest_first, edge=edge)


def count_letters(connection: Connection, wanted: LetterFilter) -> Count:
    """How many letters are wanted, as far as `find_letters` would look."""
    candidate = _candidates(wanted, (), Towards.OLDER)
    matching = select(candidate.c.id).where(*_rest(candidate, wanted)).limit(MOST_COUNTED + 1).subquery("matching")
    number = select(func.count()).select_from(matching).scalar_subquery()
    found, has_more = connection.execute(select(number, _further(wanted))).one()
    return Count(number=min(found, MOST_COUNTED), is_capped=found > MOST_COUNTED or has_more)


def groups(connection: Connection, wanted: LetterFilter, *, limit: int = 100) -> list[Cause]:
    """The causes of the letters that are wanted, the most frequent first, in one statement.

    Their counts are capped when there are more letters than are looked at.
    """
    grouped = _grouped(wanted, limit)
    topics = (
        select(func.array_agg(requests.c.topic.distinct()))
        .join_from(deliveries, requests)
        .where(deliveries.c.id == func.any(grouped.c.some))
        .scalar_subquery()
    )
    rows = connection.execute(
        select(grouped, func.coalesce(topics, []).label("topics"), _further(wanted)).order_by(
            grouped.c.number.desc(), grouped.c.last_at.desc()
        )
    ).all()
    return [
        Cause(
            fingerprint=row.fingerprint,
            channel=row.channel,
            reason=row.reason,
            error=row.error,
            count=Count(number=row.number, is_capped=row.has_more),
            first_at=row.first_at,
            last_at=row.last_at,
            topics=sorted(row.topics),
        )
        for row in rows
    ]


def _grouped(wanted: LetterFilter, limit: int) -> FromClause:
    """The causes, each with some of its deliveries."""
    candidate = _candidates(wanted, (), Towards.OLDER)
    letter = (
        select(
            candidate.c.created_at,
            candidate.c.delivery_id,
            candidate.c.channel,
            candidate.c.reason,
            essence(candidate.c.error).label("error"),
        )
        .where(*_rest(candidate, wanted))
        .subquery("letter")
    )
    common = (letter.c.channel, letter.c.reason, letter.c.error)
    number, last_at = func.count(), func.max(letter.c.created_at)
    return (
        select(
            *common,
            fingerprint(*common).label("fingerprint"),
            number.label("number"),
            func.min(letter.c.created_at).label("first_at"),
            last_at.label("last_at"),
            # In no order: for an order all letters would have to be sorted.
            func.array_agg(letter.c.delivery_id)[1:_SAMPLE].label("some"),
        )
        .group_by(*common)
        .order_by(number.desc(), last_at.desc())
        .limit(limit)
        .subquery("grouped")
    )


def _page(wanted: LetterFilter, limit: int, place: Place | None, towards: Towards) -> Select[Any]:
    conditions = _from(place)
    candidate = _candidates(wanted, conditions, towards)
    chosen = (
        select(candidate.c.id, candidate.c.created_at)
        .where(*_rest(candidate, wanted))
        .order_by(*in_order(candidate.c, towards))
        .limit(limit + 1)
        .cte("chosen")
    )
    # Where looking ended is only worth the way there when the page is not full.
    is_short = select(func.count()).select_from(chosen).scalar_subquery() <= limit
    edge = (
        select(dead_letters.c.created_at.label("edge_created_at"), dead_letters.c.id.label("edge_id"))
        .where(*_walked(wanted), *conditions, is_short)
        .order_by(*in_order(dead_letters.c, towards))
        .offset(MOST_READ - 1)
        .limit(1)
        .subquery("edge")
    )
    return _shown(edge, chosen, towards)


def _shown(edge: FromClause, chosen: CTE, towards: Towards) -> Select[Any]:
    """The rows of a page, and one row at least, for the edge beside them."""
    one = select(literal_column("1").label("one")).subquery("one")
    letter = select(dead_letters).subquery("letter")
    cause = fingerprint(letter.c.channel, letter.c.reason, essence(letter.c.error)).label("cause")
    return (
        select(letter, cause, requests.c.id.label("request_id"), requests.c.ref, requests.c.topic, *edge.c)
        .select_from(
            one.outerjoin(edge, true())
            .outerjoin(chosen, true())
            .outerjoin(letter, letter.c.id == chosen.c.id)
            .outerjoin(deliveries, deliveries.c.id == letter.c.delivery_id)
            .outerjoin(requests, requests.c.id == deliveries.c.request_id)
        )
        .order_by(*in_order(chosen.c, towards))
    )


def _candidates(wanted: LetterFilter, conditions: Sequence[ColumnElement[bool]], towards: Towards) -> FromClause:
    return (
        select(*_NEEDED)
        .where(*_walked(wanted), *conditions)
        .order_by(*in_order(dead_letters.c, towards))
        .limit(MOST_READ)
        .subquery("candidate")
    )


def _walked(wanted: LetterFilter) -> list[ColumnElement[bool]]:
    """What an index serves."""
    resolved_at = dead_letters.c.resolved_at
    conditions = [resolved_at.is_not(None) if wanted.resolved else resolved_at.is_(None)]
    if wanted.ids:
        conditions.append(dead_letters.c.id.in_(wanted.ids))
    return conditions + spanned(dead_letters.c.created_at, wanted)


def _rest(candidate: FromClause, wanted: LetterFilter) -> list[ColumnElement[bool]]:
    """What has to be asked of each candidate."""
    letter = candidate.c
    conditions: list[ColumnElement[bool]] = []
    if wanted.channel is not None:
        conditions.append(letter.channel == wanted.channel)
    if wanted.reason is not None:
        conditions.append(letter.reason == wanted.reason)
    if wanted.cause is not None:
        conditions.append(fingerprint(letter.channel, letter.reason, essence(letter.error)) == wanted.cause)
    if wanted.topic is not None:
        conditions.append(_topic_of(candidate) == wanted.topic)
    if wanted.replayable:
        conditions.append(letter.delivery_id.is_not(None) | (letter.source == "source"))
    return conditions


def _topic_of(candidate: FromClause) -> ColumnElement[Any]:
    """The topic of the request that the letter is about, looked up for each letter: a join might read whole tables."""
    return (
        select(requests.c.topic)
        .join_from(deliveries, requests)
        .where(deliveries.c.id == candidate.c.delivery_id)
        .scalar_subquery()
    )


def _further(wanted: LetterFilter) -> ColumnElement[bool]:
    """Whether there are more letters than are looked at."""
    return (
        select(dead_letters.c.id)
        .where(*_walked(wanted))
        .order_by(*in_order(dead_letters.c, Towards.OLDER))
        .offset(MOST_READ)
        .limit(1)
        .exists()
        .label("has_more")
    )


def _from(place: Place | None) -> tuple[ColumnElement[bool], ...]:
    if place is None:
        return ()
    if not 0 < place.id.int <= _LARGEST_NUMBER:
        raise FilterMistake("place", str(place), "has to be taken from a link of an earlier page")
    return (behind(dead_letters.c, place, place.id.int),)
