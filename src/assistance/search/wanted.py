"""The conditions of a `RequestFilter`, sorted by what serves them: an index in the order of time, a set, or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, false, func, or_, select, true

from assistance.domain.delivery import CALLBACKS, DeliveryState, Purpose
from assistance.domain.request import RequestStatus
from assistance.search.bounds import MOST_LOOKED_AT, MOST_READ, Columns, ago, spanned
from assistance.search.filters import HELD, RETRYING, RequestFilter
from assistance.search.values import as_uuid
from assistance.storage.tables import deliveries, idempotency_keys, requests

#: The statuses of which `requests_unusual_ix` holds the requests in the order of time.
_UNUSUAL = frozenset(RequestStatus) - {RequestStatus.ACCEPTED, RequestStatus.DELIVERED}
#: A request has not ended while one of its deliveries to people is in one of these.
_UNFINISHED = frozenset({*DeliveryState, HELD, RETRYING}) - {
    DeliveryState.DELIVERED,
    DeliveryState.DEAD,
    DeliveryState.CANCELLED,
}
#: What a condition on candidates may ask for; text only where it is searched, since it is long.
_NEEDED = (
    requests.c.id,
    requests.c.created_at,
    requests.c.status,
    requests.c.handling,
    requests.c.topic,
    requests.c.client,
    requests.c.customer_id,
    requests.c.ended_at,
)
_SEARCHED = (requests.c.title, requests.c.description)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A filter, made into conditions."""

    filter: RequestFilter

    @property
    def most(self) -> int:
        """How many candidates are looked at."""
        wanted = self.filter
        is_slow = wanted.text is not None or _asks_for_delivery(wanted)
        return MOST_READ if is_slow else MOST_LOOKED_AT

    @property
    def set(self) -> ColumnElement[bool] | None:
        """What an index finds at once, in no order; none when nothing as narrow is wanted."""
        wanted = self.filter
        named: list[ColumnElement[bool]] = [requests.c.id.in_(wanted.ids)] if wanted.ids else []
        if wanted.q is not None:
            named.append(_known_as(wanted.q))
        if named:
            return and_(*named)
        if wanted.customer is not None:
            names = _every(requests, requests.c.client)
            return and_(requests.c.client.in_(names), requests.c.customer_id == wanted.customer)
        to_people = wanted.channel != CALLBACKS and wanted.delivery_state in _UNFINISHED
        if wanted.status == RequestStatus.ACCEPTED or to_people:
            return requests.c.ended_at.is_(None)
        return None

    def walked(self) -> list[ColumnElement[bool]]:
        """What an index serves in the order of time."""
        wanted = self.filter
        conditions = spanned(requests.c.created_at, wanted)
        if wanted.older_than is not None:
            conditions.append(requests.c.created_at < ago(wanted.older_than))
        if wanted.status in _UNUSUAL:
            conditions += [requests.c.status == wanted.status, requests.c.handling.is_(None)]
        elif wanted.client is not None:
            conditions.append(requests.c.client == wanted.client)
        return conditions

    def rest(self, candidate: Columns) -> list[ColumnElement[bool]]:
        """What has to be asked of each candidate."""
        wanted = self.filter
        conditions: list[ColumnElement[bool]] = []
        if wanted.status is not None and wanted.status not in _UNUSUAL:
            conditions.append(func.coalesce(candidate["handling"], candidate["status"]) == wanted.status)
        if wanted.client is not None and wanted.status in _UNUSUAL:
            conditions.append(candidate["client"] == wanted.client)
        if wanted.topic is not None:
            conditions.append(candidate["topic"] == wanted.topic)
        if wanted.customer is not None:
            conditions.append(candidate["customer_id"] == wanted.customer)
        if wanted.slower_than is not None:
            took = func.coalesce(candidate["ended_at"], func.now()) - candidate["created_at"]
            conditions.append(took > wanted.slower_than)
        if wanted.text is not None:
            conditions.append(_says(candidate, wanted.text))
        if _asks_for_delivery(wanted):
            conditions.append(_has_delivery(candidate, wanted))
        return conditions

    def candidates(self) -> Select[Any]:
        """Requests to look at, with what `rest` asks for."""
        return select(*_NEEDED, *(_SEARCHED if self.filter.text is not None else ()))


def _says(candidate: Columns, words: str) -> ColumnElement[bool]:
    """Whether people would find these words in it, in capital or small letters."""
    # What people type is not a pattern.
    return or_(
        candidate["description"].icontains(words, autoescape=True),
        func.coalesce(candidate["title"], "").icontains(words, autoescape=True),
    )


def _asks_for_delivery(wanted: RequestFilter) -> bool:
    return (wanted.channel, wanted.delivery_state, wanted.attempts_from) != (None, None, None)


def _has_delivery(candidate: Columns, wanted: RequestFilter) -> ColumnElement[bool]:
    """Whether it has a delivery of which all of this is true."""
    is_callback = wanted.channel == CALLBACKS
    purpose = deliveries.c.purpose == Purpose.CALLBACK if is_callback else deliveries.c.purpose != Purpose.CALLBACK
    conditions = [deliveries.c.request_id == candidate["id"], purpose]
    if wanted.channel is not None:
        conditions.append(deliveries.c.channel == wanted.channel)
    if wanted.attempts_from is not None:
        conditions.append(deliveries.c.attempt >= wanted.attempts_from)
    if wanted.delivery_state == HELD:
        conditions.append(deliveries.c.held_at.is_not(None))
    elif wanted.delivery_state == RETRYING:
        conditions += [deliveries.c.state == DeliveryState.PENDING, deliveries.c.attempt > 0]
    elif wanted.delivery_state is not None:
        conditions.append(deliveries.c.state == wanted.delivery_state)
    # Not EXISTS: the planner would make a join of it, which may read the whole table of deliveries.
    return func.coalesce(select(true()).where(*conditions).limit(1).scalar_subquery(), false())


def _known_as(name: str) -> ColumnElement[bool]:
    """The requests that go by this name: a ref, an id, or an Idempotency-Key."""
    ways: Sequence[ColumnElement[bool]]
    found = as_uuid(name)
    if found is not None:
        ways = [
            requests.c.id == found,
            requests.c.id == select(deliveries.c.request_id).where(deliveries.c.id == found).scalar_subquery(),
        ]
    else:
        names = _every(idempotency_keys, idempotency_keys.c.client)
        keyed = select(idempotency_keys.c.request_id).where(
            idempotency_keys.c.client.in_(names), idempotency_keys.c.key == name
        )
        ways = [requests.c.ref == name.upper(), requests.c.id == func.any(func.array(keyed.scalar_subquery()))]
    return or_(*ways)


def _every(table: Any, column: Any) -> Select[Any]:
    """Each value of the first column of an index once, with one look at the index for each.

    So that an index that begins with the client also serves who does not know the client.
    """
    first = select(func.min(column).label("name")).select_from(table).cte("names", recursive=True)
    following = select(func.min(column)).where(column > first.c.name).scalar_subquery()
    every = first.union_all(select(following).where(first.c.name.is_not(None)))
    return select(every.c.name)
