"""Erases what is stored about a customer. The requests stay, so that the books still add up, but say nothing any more.

What was not told yet is called off first: nobody is ever told "[erased]". What somebody is sending at this moment is
left for the next run, because a try that fails would be sent again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, cast, delete, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import JSONB

from assistance.deliveries.called_off import cancel, cancel_waiting
from assistance.deliveries.settle import Problem
from assistance.deliveries.timeline import write_event
from assistance.domain.delivery import FOR_PEOPLE, DeliveryState
from assistance.domain.event import EventType
from assistance.domain.request import RequestStatus
from assistance.privacy.customers import Customer, next_requests
from assistance.storage.database import Database
from assistance.storage.tables import (
    attempts,
    dead_letters,
    deliveries,
    events,
    requests,
    source_messages,
    timers,
)

ERASED = "[erased]"
_BATCH = 50
_PROBLEM = Problem(kind="cancelled", code="erased", detail="The customer's data were erased.")
_NOT_TOLD = (RequestStatus.SCHEDULED, RequestStatus.ACCEPTED)
_CALLED_OFF = "The customer's data are erased."
#: Events whose data are names of channels and numbers of steps.
_IMPERSONAL = (EventType.FALLBACK_STARTED, EventType.REROUTED)
_BLANK: Mapping[str, Any] = {
    "description": ERASED,
    "title": None,
    "customer_id": None,
    "customer": {},
    "bot": {},
    "conversation_id": None,
    "conversation": {},
    "transcript": [],
    "attachments": [],
    "metadata": {},
    "dedup_key": None,
    "open_dedup_key": None,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Copy:
    """A message that people have, or may have, and that no program of ours can take back."""

    request_id: UUID
    ref: str
    channel: str
    receipt: Mapping[str, Any] | None  # none: nobody could tell whether it arrived


@dataclass(kw_only=True, slots=True)
class Erasure:
    """What a run did: refs of the requests that were erased, called off before, and left because they are being sent.

    `is_whole` is false when the run was stopped before it had looked at all of them.
    """

    erased: list[str] = field(default_factory=list)
    called_off: list[str] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)
    copies: list[Copy] = field(default_factory=list)
    is_whole: bool = True

    def add(self, other: Erasure) -> None:
        """Add what another batch did."""
        self.erased += other.erased
        self.called_off += other.called_off
        self.busy += other.busy
        self.copies += other.copies


def erase(
    database: Database,
    customer: Customer,
    *,
    actor: str,
    check_after: float,
    go_on: Callable[[], bool] = lambda: True,
) -> Erasure:
    """Erase what is stored about the customer, in transactions of at most 50 requests, as long as `go_on` says so.

    Run again, it goes on where it was, and changes nothing where all is erased. Raises `DatabaseUnavailable`.
    """
    done = Erasure()
    after: UUID | None = None
    while True:
        batch, after = database.run(
            lambda connection, after=after: _erase_batch(connection, customer, after, actor, check_after)  # type: ignore[misc]  # mypy cannot infer a lambda with defaults
        )
        done.add(batch)
        if after is None:
            return done
        if not go_on():
            done.is_whole = False
            return done


def _erase_batch(
    connection: Connection, customer: Customer, after: UUID | None, actor: str, check_after: float
) -> tuple[Erasure, UUID | None]:
    """Erase the next requests; also the last of these, none when there are no more."""
    chosen = next_requests(connection, customer, after, _BATCH)
    if not chosen:
        return Erasure(), None
    last = chosen[-1] if len(chosen) == _BATCH else None
    # In statements of their own and in one order, as everything that changes requests does.
    ours = select(requests.c.id, requests.c.ref, requests.c.status).where(requests.c.id.in_(chosen), customer.owns)
    found = connection.execute(ours.order_by(requests.c.id).with_for_update(key_share=True)).all()
    told = connection.execute(
        select(deliveries)
        .where(deliveries.c.request_id.in_([row.id for row in found]), deliveries.c.purpose.in_(FOR_PEOPLE))
        .order_by(deliveries.c.id)
        .with_for_update()
    ).all()
    busy = {row.request_id for row in told if row.lease_token is not None}
    free = [row for row in found if row.id not in busy]
    refs = {row.id: row.ref for row in free}
    batch = Erasure(busy=[row.ref for row in found if row.id in busy], erased=list(refs.values()))
    batch.copies = _copies(connection, [row for row in told if row.request_id in refs], refs)
    _blank_rows(connection, list(refs), actor)
    for row in free:
        if row.status in _NOT_TOLD:
            cancel(connection, row.id, actor=actor, reason=_CALLED_OFF, check_after=check_after)
            batch.called_off.append(row.ref)
        cancel_waiting(connection, row.id, _PROBLEM)
        connection.execute(delete(timers).where(timers.c.subject == row.id))
        ended_at = func.coalesce(requests.c.ended_at, func.now())
        write_event(connection, row.id, EventType.ERASED, actor, ended_at=ended_at)
    return batch, last


def _copies(connection: Connection, rows: Sequence[Row[Any]], refs: Mapping[UUID, str]) -> list[Copy]:
    """What people have: by the deliveries' receipts, by those that came late, and where nobody could tell."""
    late = connection.execute(
        select(attempts.c.delivery_id, attempts.c.receipt).where(
            attempts.c.delivery_id.in_([row.id for row in rows]), attempts.c.receipt.is_not(None)
        )
    ).all()
    receipts = {row.delivery_id: row.receipt for row in late} | {row.id: row.receipt for row in rows if row.receipt}
    return [
        Copy(request_id=row.request_id, ref=refs[row.request_id], channel=row.channel, receipt=receipts.get(row.id))
        for row in rows
        if row.id in receipts or row.state == DeliveryState.UNKNOWN or row.may_repeat
    ]


def _blank_rows(connection: Connection, request_ids: Sequence[UUID], actor: str) -> None:
    of_request = deliveries.c.request_id.in_(request_ids)
    own = select(deliveries.c.id).where(of_request)
    connection.execute(update(requests).where(requests.c.id.in_(request_ids)).values(**_BLANK))
    connection.execute(
        update(events).where(events.c.request_id.in_(request_ids), events.c.type.not_in(_IMPERSONAL)).values(data={})
    )
    # What a provider answered may repeat what it was sent.
    connection.execute(
        update(deliveries)
        .where(of_request, deliveries.c.last_error_detail.is_not(None))
        .values(last_error_detail=ERASED)
    )
    connection.execute(
        update(attempts).where(attempts.c.delivery_id.in_(own), attempts.c.detail.is_not(None)).values(detail=ERASED)
    )
    _blank_callbacks(connection, request_ids)
    _blank_letters(connection, request_ids, actor)


def _blank_callbacks(connection: Connection, request_ids: Sequence[UUID]) -> None:
    """Callbacks still tell the bot the states of its request, without the words that it had sent along."""
    data = deliveries.c.payload["data"].concat(cast({"dedup_key": None, "metadata": {}}, JSONB))
    connection.execute(
        update(deliveries)
        .where(deliveries.c.request_id.in_(request_ids), deliveries.c.payload["data"].is_not(None))
        .values(payload=deliveries.c.payload.concat(func.jsonb_build_object("data", data)))
    )


def _blank_letters(connection: Connection, request_ids: Sequence[UUID], actor: str) -> None:
    """Dead letters keep their reason alone; open ones are discarded, since a replay would have nothing to say."""
    own = dead_letters.c.delivery_id.in_(select(deliveries.c.id).where(deliveries.c.request_id.in_(request_ids)))
    silence = update(dead_letters).values(error=None, body=None, headers={})
    connection.execute(silence.where(own))
    # A message that was mapped late was a letter before it became a request.
    seen = source_messages.c
    mapped = connection.execute(select(seen.source, seen.message_id).where(seen.request_id.in_(request_ids))).all()
    if mapped:
        message = tuple_(dead_letters.c.headers["source"].astext, dead_letters.c.message_id)
        connection.execute(
            silence.where(dead_letters.c.source == "source", message.in_([tuple(row) for row in mapped]))
        )
    connection.execute(
        update(dead_letters)
        .where(own, dead_letters.c.resolved_at.is_(None))
        .values(resolved_at=func.now(), resolved_by=actor, resolution="discarded")
    )
