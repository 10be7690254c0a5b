"""What people look for: filters, from a query string and back into one."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar, Self
from uuid import UUID

from assistance.domain.delivery import DeliveryState
from assistance.domain.request import Handling, RequestStatus
from assistance.domain.route import fold_topic
from assistance.search import values
from assistance.search.mistakes import FilterMistake

Kinds = Mapping[str, Callable[[str], Any]]

#: A delivery in state `unknown` that waits for an operator, and one that waits for another try.
HELD, RETRYING = "held", "retrying"
_CHANNEL = values.text(40)
_TOPIC = values.text(64)


class Filter:
    """What filters share. A field that has its default lets everything through."""

    _KINDS: ClassVar[Kinds]

    @classmethod
    def from_query(cls, query: Mapping[str, str], *, besides: Collection[str] = ()) -> Self:
        """The filter that a query means; blank values count for nothing, `besides` are the page's own parameters.

        Raises `FilterMistake`.
        """
        found = {}
        for name, written in query.items():
            if name in besides or (name in cls._KINDS and not written.strip()):
                continue
            if name not in cls._KINDS:
                near = difflib.get_close_matches(name[:40], cls._KINDS, n=1)
                raise FilterMistake(name, written, f"does not exist{f'; did you mean {near[0]}?' if near else ''}")
            try:
                found[name] = cls._KINDS[name](written)
            except ValueError as error:
                raise FilterMistake(name, written, str(error)) from None
        made = cls(**found)
        made._check(query)
        return made

    def to_query(self) -> dict[str, str]:
        """The query that `from_query` makes this filter of; the shortest one, always in the same order."""
        written = {}
        for name in self._KINDS:
            value = getattr(self, name)
            if value not in (None, (), False):
                written[name] = values.written_as(value)
        return written

    def _check(self, query: Mapping[str, str]) -> None:
        since, until = getattr(self, "since", None), getattr(self, "until", None)
        if isinstance(since, datetime) and isinstance(until, datetime) and until <= since:
            raise FilterMistake("until", query["until"], "has to lie after since")


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestFilter(Filter):
    """Which requests.

    `q` is a ref, the id of a request or of one of its deliveries, or an Idempotency-Key; `status` the API's one word.
    `channel`, `delivery_state` and `attempts_from` are said of one delivery: to people, unless the channel is that of
    callbacks. `older_than` counts from the acceptance; `slower_than` is how long it took to end, or has taken so far.
    """

    q: str | None = None
    ids: tuple[UUID, ...] = ()
    status: str | None = None
    topic: str | None = None
    channel: str | None = None
    delivery_state: str | None = None
    attempts_from: int | None = None
    client: str | None = None
    customer: str | None = None
    text: str | None = None
    since: datetime | timedelta | None = None
    until: datetime | None = None
    older_than: timedelta | None = None
    slower_than: timedelta | None = None

    _KINDS: ClassVar[Kinds] = {
        "q": values.text(255),
        "ids": values.uuids,
        "status": values.word(*RequestStatus, *Handling),
        "topic": lambda written: fold_topic(_TOPIC(written)),
        "channel": _CHANNEL,
        "delivery_state": values.word(*DeliveryState, HELD, RETRYING),
        "attempts_from": values.whole(1, 1_000_000),
        "client": values.text(255),
        "customer": values.text(255),
        "text": values.text(200),
        "since": values.instant_or_period,
        "until": values.instant,
        "older_than": values.period,
        "slower_than": values.period,
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class LetterFilter(Filter):
    """Which dead letters: the open ones, unless those that are `resolved` are wanted.

    `cause` is the fingerprint that `causes.groups` gives; `replayable` ones are of deliveries and of signed sources.
    """

    ids: tuple[int, ...] = ()
    channel: str | None = None
    reason: str | None = None
    cause: str | None = None
    topic: str | None = None
    since: datetime | timedelta | None = None
    until: datetime | None = None
    resolved: bool = False
    replayable: bool = False

    _KINDS: ClassVar[Kinds] = {
        "ids": values.numbers,
        "channel": _CHANNEL,
        "reason": values.text(40),
        "cause": values.text(32),
        "topic": lambda written: fold_topic(_TOPIC(written)),
        "since": values.instant_or_period,
        "until": values.instant,
        "resolved": values.yes,
        "replayable": values.yes,
    }
