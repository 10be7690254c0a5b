"""What an operation acts on: requests or dead letters that match a filter, the oldest first."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Generic, TypeVar
from uuid import UUID

from sqlalchemy import Connection, Row, func, select

from assistance.search.bounds import Found
from assistance.search.filters import HELD, LetterFilter, RequestFilter
from assistance.search.letters import count_letters, find_letters
from assistance.search.mistakes import FilterMistake
from assistance.search.place import Count, Place, Towards
from assistance.search.requests import count_requests, find_requests


class Kind(StrEnum):
    """What is done to each: the first two to dead letters, the others to requests."""

    REPLAY = "replay"
    DISCARD = "discard"
    CANCEL = "cancel"
    REROUTE = "reroute"
    RESOLVE = "resolve"


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """One thing: the number of a dead letter or the id of a request, the request to lock, and where it stands."""

    subject: Any
    request_id: UUID | None
    position: str
    is_of_source: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Next:
    """The things that come next, how far was looked, and whether nothing comes after them."""

    targets: Sequence[Target]
    position: str | None
    is_last: bool


Wanted = TypeVar("Wanted", LetterFilter, RequestFilter)


@dataclass(frozen=True, slots=True)
class Targets(ABC, Generic[Wanted]):
    """Everything that matches a filter."""

    wanted: Wanted

    @property
    def query(self) -> dict[str, str]:
        """The shortest query that means this filter."""
        return self.wanted.to_query()

    @property
    def channel(self) -> str | None:
        """The channel that the filter names."""
        return self.wanted.channel

    @abstractmethod
    def count(self, connection: Connection) -> Count:
        """How many match now."""

    @abstractmethod
    def next(self, connection: Connection, position: str | None, upper_bound: str, limit: int) -> Next:
        """What comes after a position and was there at the upper bound."""


def targets_of(kind: Kind, query: Mapping[str, str]) -> Targets[Any]:
    """What an operation of this kind acts on. Raises `FilterMistake`."""
    if kind in (Kind.REPLAY, Kind.DISCARD):
        letters = LetterFilter.from_query(query)
        if letters.resolved:
            raise FilterMistake("resolved", "true", f"cannot be meant: there is nothing to {kind} any more")
        return _Letters(letters)
    requests = RequestFilter.from_query(query)
    if kind is Kind.RESOLVE:
        if requests.delivery_state not in (None, HELD):
            raise FilterMistake("delivery_state", requests.delivery_state, f"has to be {HELD}: only those are resolved")
        requests = replace(requests, delivery_state=HELD)
    return _Requests(requests)


def bound_now(connection: Connection) -> str:
    """The upper bound of an operation that begins now."""
    now: datetime = connection.execute(select(func.now())).scalar_one()
    return now.isoformat()


class _Letters(Targets[LetterFilter]):
    __slots__ = ()

    def count(self, connection: Connection) -> Count:
        return count_letters(connection, self.wanted)

    def next(self, connection: Connection, position: str | None, upper_bound: str, limit: int) -> Next:
        wanted = _as_it_was(self.wanted, upper_bound)
        found = find_letters(connection, wanted, limit=limit, place=_place(position), oldest_first=True)
        return _next(found, position, lambda row: (row.request_id, row.source == "source"))


class _Requests(Targets[RequestFilter]):
    __slots__ = ()

    def count(self, connection: Connection) -> Count:
        return count_requests(connection, self.wanted)

    def next(self, connection: Connection, position: str | None, upper_bound: str, limit: int) -> Next:
        wanted = _as_it_was(self.wanted, upper_bound)
        if wanted.older_than is not None and wanted.until is not None:
            until = min(wanted.until, datetime.fromisoformat(upper_bound) - wanted.older_than)
            wanted = replace(wanted, until=until, older_than=None)
        found = find_requests(connection, wanted, limit=limit, place=_place(position), oldest_first=True)
        return _next(found, position, lambda row: (row.id, False))


def _as_it_was(wanted: Wanted, upper_bound: str) -> Wanted:
    """The filter in the light of the moment when the operation began: `2h` ago stays where it was."""
    began = datetime.fromisoformat(upper_bound)
    since = began - wanted.since if isinstance(wanted.since, timedelta) else wanted.since
    return replace(wanted, since=since, until=min(wanted.until or began, began))


def _place(position: str | None) -> Place | None:
    return None if position is None else Place.from_text(position, "position")


def _next(found: Found, position: str | None, facts: Any) -> Next:
    targets = []
    for row in found.rows:
        request_id, is_of_source = facts(row)
        targets.append(Target(subject=row.id, request_id=request_id, position=_behind(row), is_of_source=is_of_source))
    looked_until = found.looked_until
    if looked_until is not None:
        position = str(looked_until)
    elif targets:
        position = targets[-1].position
    return Next(targets=targets, position=position, is_last=found.newer is None and looked_until is None)


def _behind(row: Row[Any]) -> str:
    key = row.id if isinstance(row.id, UUID) else UUID(int=row.id)
    return str(Place(created_at=row.created_at, id=key, towards=Towards.NEWER))
