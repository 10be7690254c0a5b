"""Finds and counts requests, quickly however many there are.

What an index holds in the order of time is read from it, page by page. What an index finds at once (the open requests,
those of a customer) is taken as a set, unless that is too large. All else is asked of the newest candidates only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    Connection,
    FromClause,
    Row,
    Select,
    func,
    literal_column,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by

from assistance.domain.delivery import Purpose
from assistance.search.bounds import Found, behind, direction, in_order, page
from assistance.search.filters import RequestFilter
from assistance.search.place import MOST_COUNTED, Count, Place, Towards
from assistance.search.wanted import Wanted
from assistance.storage.expressions import seconds
from assistance.storage.tables import deliveries, requests

__all__ = ["Found", "RequestFilter", "count_requests", "find_requests"]

#: As much of a description as a list shows.
_BEGINNING = 200


def find_requests(
    connection: Connection,
    wanted: RequestFilter,
    *,
    limit: int,
    place: Place | None = None,
    oldest_first: bool = False,
) -> Found:
    """A page of the requests that are wanted, in one statement, or two when very many are open.

    Rows have what a list shows: `told` is a list of deliveries to people (channel, step, state, attempt, held, error),
    `attempts` the most that one of them has made, `next_attempt_at` the soonest, `description` no more than its
    beginning.
    """
    asked = Wanted(wanted)
    towards = direction(place, oldest_first=oldest_first)
    rows: Sequence[Row[Any]] = ()
    edge = None
    if asked.set is not None:
        rows = connection.execute(_from_set(asked, limit, place, towards)).all()
    if asked.set is None or rows[0].looked > asked.most:
        rows = connection.execute(_from_walk(asked, limit, place, towards)).all()
        edge = (rows[0].edge_created_at, rows[0].edge_id) if rows[0].edge_id is not None else None
    found = [row for row in rows if row.id is not None]
    return page(found, limit=limit, place=place, oldest_first=oldest_first, edge=edge)


def count_requests(connection: Connection, wanted: RequestFilter) -> Count:
    """How many requests are wanted, as far as `find_requests` would look."""
    asked = Wanted(wanted)
    if asked.set is not None:
        looked, number = connection.execute(_count_set(asked)).one()
        if looked <= asked.most:
            return Count(number=min(number, MOST_COUNTED), is_capped=number > MOST_COUNTED)
    number, has_more = connection.execute(_count_walk(asked)).one()
    return Count(number=min(number, MOST_COUNTED), is_capped=number > MOST_COUNTED or has_more)


def _set_of(asked: Wanted, conditions: Sequence[ColumnElement[bool]]) -> CTE:
    """One more than is looked at, if there are as many; then this is not the way."""
    assert asked.set is not None
    return asked.candidates().where(asked.set, *asked.walked(), *conditions).limit(asked.most + 1).cte("candidate")


def _from_set(asked: Wanted, limit: int, place: Place | None, towards: Towards) -> Select[Any]:
    candidate = _set_of(asked, _from(place))
    chosen = _chosen(candidate, asked, limit, towards)
    looked = select(func.count().label("looked")).select_from(candidate).subquery("looked")
    return _shown(looked, chosen, towards)


def _from_walk(asked: Wanted, limit: int, place: Place | None, towards: Towards) -> Select[Any]:
    conditions = (*asked.walked(), *_from(place))
    order = in_order(requests.c, towards)
    candidates = asked.candidates().where(*conditions).order_by(*order)
    has_rest = bool(asked.rest(requests.c))
    # A limit also without a rest: the planner would sort all that match to give the first few.
    candidate = candidates.limit(asked.most if has_rest else limit + 1).subquery("candidate")
    chosen = _chosen(candidate, asked, limit, towards)
    one = select(literal_column("1").label("one")).subquery("one")
    # Where looking ended is only worth the way there when the page is not full.
    is_short = select(func.count()).select_from(chosen).scalar_subquery() <= limit
    edge = (
        select(requests.c.created_at.label("edge_created_at"), requests.c.id.label("edge_id"))
        .where(*conditions, is_short if has_rest else ~true())
        .order_by(*order)
        .offset(asked.most - 1)
        .limit(1)
        .subquery("edge")
    )
    return _shown(one.outerjoin(edge, true()), chosen, towards, edge.c.edge_created_at, edge.c.edge_id)


def _from(place: Place | None) -> tuple[ColumnElement[bool], ...]:
    return () if place is None else (behind(requests.c, place, place.id),)


def _chosen(candidate: FromClause, asked: Wanted, limit: int, towards: Towards) -> CTE:
    """One more than a page holds, if there are as many."""
    return (
        select(candidate.c.id, candidate.c.created_at)
        .where(*asked.rest(candidate.c))
        .order_by(*in_order(candidate.c, towards))
        .limit(limit + 1)
        .cte("chosen")
    )


def _shown(beside: FromClause, chosen: CTE, towards: Towards, *more: ColumnElement[Any]) -> Select[Any]:
    """The rows of a page with what a list shows of them, and one row at least, for what stands beside them."""
    told = _told(chosen)
    return (
        select(
            requests.c.id,
            requests.c.ref,
            requests.c.client,
            requests.c.topic,
            requests.c.title,
            func.left(requests.c.description, _BEGINNING).label("description"),
            requests.c.priority,
            requests.c.customer_id,
            requests.c.status,
            requests.c.handling,
            requests.c.not_before,
            requests.c.created_at,
            requests.c.updated_at,
            requests.c.ended_at,
            seconds(func.coalesce(requests.c.ended_at, func.now()) - requests.c.created_at).label("took_seconds"),
            told.c.told,
            told.c.attempts,
            told.c.next_attempt_at,
            *(more or (beside.c.looked,)),
        )
        .select_from(
            beside.outerjoin(chosen, true()).outerjoin(requests, requests.c.id == chosen.c.id).outerjoin(told, true())
        )
        .order_by(*in_order(chosen.c, towards))
    )


def _told(chosen: CTE) -> FromClause:
    """How the deliveries to people fare, for each row of a page."""
    delivery = deliveries.c
    is_held = delivery.held_at.is_not(None)
    shown = func.jsonb_build_object(
        *("channel", delivery.channel, "purpose", delivery.purpose, "step", delivery.step, "state", delivery.state),
        *("attempt", delivery.attempt, "held", is_held, "error", delivery.last_error_code),
    )
    return (
        select(
            func.jsonb_agg(aggregate_order_by(shown, delivery.step, delivery.id)).label("told"),
            func.max(delivery.attempt).label("attempts"),
            func.min(delivery.next_attempt_at)
            .filter(delivery.check_at.is_not(None), ~is_held)
            .label("next_attempt_at"),
        )
        .where(delivery.request_id == chosen.c.id, delivery.purpose != Purpose.CALLBACK)
        .lateral("told")
    )


def _count_set(asked: Wanted) -> Select[int, int]:
    candidate = _set_of(asked, ())
    number = func.count().filter(true(), *asked.rest(candidate.c))
    return select(func.count().label("looked"), number.label("number")).select_from(candidate)


def _count_walk(asked: Wanted) -> Select[Any]:
    order = in_order(requests.c, Towards.OLDER)
    candidates = asked.candidates().where(*asked.walked()).order_by(*order)
    has_rest = bool(asked.rest(requests.c))
    candidate = candidates.limit(asked.most if has_rest else MOST_COUNTED + 1).subquery("candidate")
    matching = select(candidate.c.id).where(*asked.rest(candidate.c)).limit(MOST_COUNTED + 1).subquery("matching")
    number = select(func.count()).select_from(matching).scalar_subquery()
    further = select(requests.c.id).where(*asked.walked()).order_by(*order).offset(asked.most).limit(1)
    has_more = further.exists() if has_rest else ~true()
    return select(number.label("number"), has_more.label("has_more"))
