"""Write down how several tries ended: one transaction for all, as long as nothing is particular.

It locks as `conclude` does, the requests first, in one order; a group never holds a delivery while it waits for a
request.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    Boolean,
    Connection,
    Integer,
    Interval,
    Select,
    TableValuedAlias,
    Text,
    bindparam,
    cast,
    func,
    null,
    or_,
    select,
    update,
)
from sqlalchemy import UUID as UUID_TYPE
from sqlalchemy.dialects.postgresql import JSONB

from assistance.deliveries.attempts import MAY_BE_CLOSED
from assistance.deliveries.lease import Lease
from assistance.deliveries.request_state import lock_requests, refresh_requests
from assistance.deliveries.settle import Deliver, Settlement, TryAgain
from assistance.deliveries.transition import ARRIVED, Concluded, before_commit, before_retry, end_if_held
from assistance.domain.delivery import AttemptOutcome, DeliveryState
from assistance.domain.outcome import Delivered, Outcome, RetryLater
from assistance.outbox.append import append_each
from assistance.storage.expressions import as_arrays, given
from assistance.storage.plain import plain_json, plain_text
from assistance.storage.tables import attempts, deliveries


@dataclass(frozen=True, slots=True)
class Arrival:
    """A lease whose message arrived, and the answer that says so."""

    lease: Lease
    answer: Delivered


@dataclass(frozen=True, slots=True)
class Retry:
    """A lease whose message is to be sent again."""

    lease: Lease
    settlement: TryAgain


Ending = Arrival | Retry


def ending_of(lease: Lease, settlement: Settlement, outcome: Outcome | None) -> Ending | None:
    """The end of a try as one of many; none where it has consequences of its own, which `conclude` knows."""
    if lease.in_steps or not lease.notifies:
        return None
    if isinstance(settlement, Deliver) and isinstance(outcome, Delivered):
        return Arrival(lease, outcome)
    if isinstance(settlement, TryAgain) and isinstance(outcome, RetryLater) and not settlement.pause_channel:
        return Retry(lease, settlement)
    return None


#: What every ending names: its lease and its attempt.
_LEASE = {"id": UUID_TYPE, "token": UUID_TYPE, "series": Integer, "number": Integer}


def _arrived() -> Select[Any]:
    ended = given("ended", **_LEASE, receipt=Text)
    receipt = cast(ended.c.receipt, JSONB)
    outcome = {"outcome": AttemptOutcome.DELIVERED, "receipt": receipt, "code": null(), "detail": null()}
    return _written(ended, {**ARRIVED, "receipt": receipt}, outcome)


def _put_off() -> Select[Any]:
    ended = given(
        "ended", **_LEASE, refunded=Integer, may_repeat=Boolean, delay=Interval, kind=Text, code=Text, detail=Text
    )
    due_at = func.now() + ended.c.delay
    waiting = {
        "state": DeliveryState.PENDING,
        "refunded": ended.c.refunded,
        "may_repeat": or_(deliveries.c.may_repeat, ended.c.may_repeat),
        "looks": 0,
        "next_attempt_at": due_at,
        "check_at": due_at + bindparam("check_in", type_=Interval),
        "last_error_class": ended.c.kind,
        "last_error_code": ended.c.code,
        "last_error_detail": ended.c.detail,
    }
    outcome = {"outcome": AttemptOutcome.RETRY_LATER, "code": ended.c.code, "detail": ended.c.detail}
    return _written(ended, waiting, outcome)


def _written(ended: TableValuedAlias, delivery: Mapping[str, Any], attempt: Mapping[str, Any]) -> Select[Any]:
    """End these leases and close their attempts; the deliveries whose lease still held."""
    # In one order, so that two groups never wait for each other.
    locked = (
        select(deliveries.c.id)
        .where(deliveries.c.id == func.any(bindparam("ended_id", type_=ARRAY(UUID_TYPE))))
        .order_by(deliveries.c.id)
        .with_for_update()
        .cte("locked")
    )
    kept = (
        update(deliveries)
        .where(deliveries.c.id == locked.c.id, deliveries.c.id == ended.c.id, deliveries.c.lease_token == ended.c.token)
        .values(**delivery, lease_token=None, lease_until=None, reconciled=0, updated_at=func.now())
        .returning(deliveries.c.id)
        .cte("kept")
    )
    closed = (
        update(attempts)
        .where(
            attempts.c.delivery_id == ended.c.id,
            attempts.c.series == ended.c.series,
            attempts.c.number == ended.c.number,
            MAY_BE_CLOSED,
        )
        .values(**attempt, finished_at=func.now())
        .returning(attempts.c.delivery_id)
        .cte("closed")
    )
    return select(kept.c.id).add_cte(closed)


_ARRIVED, _PUT_OFF = _arrived(), _put_off()


def conclude_many(
    connection: Connection, endings: Sequence[Ending], *, actor: str, check_after: float
) -> list[Concluded | None]:
    """Write down how these tries ended, in their order; see `conclude`, which has to do it where this says none."""
    called_off = lock_requests(connection, {ending.lease.hint.request_id for ending in endings})
    arrivals = [ending for ending in endings if isinstance(ending, Arrival)]
    retries = [
        ending for ending in endings if isinstance(ending, Retry) and ending.lease.hint.request_id not in called_off
    ]
    arrived = _write_arrivals(connection, arrivals, actor=actor, check_after=check_after)
    put_off = _write_retries(connection, retries, check_after=check_after)
    statuses = refresh_requests(connection, set(arrived.values()), actor, check_after=check_after)
    before_commit()

    def concluded(ending: Ending) -> Concluded | None:
        hint = ending.lease.hint
        if isinstance(ending, Arrival):
            return Concluded(kept=hint.delivery_id in arrived, request_status=statuses.get(hint.request_id))
        return Concluded(kept=hint.delivery_id in put_off) if hint.request_id not in called_off else None

    return [concluded(ending) for ending in endings]


def _write_arrivals(
    connection: Connection, arrivals: Sequence[Arrival], *, actor: str, check_after: float
) -> dict[UUID, UUID]:
    """The deliveries that ended so, with their requests."""
    if not arrivals:
        return {}
    rows = [
        {**_named(arrival.lease), "receipt": json.dumps(plain_json(arrival.answer.receipt))} for arrival in arrivals
    ]
    kept = set(connection.scalars(_ARRIVED, as_arrays("ended", rows)))
    for arrival in arrivals:
        if arrival.lease.hint.delivery_id not in kept:
            end_if_held(connection, arrival.lease.hint, arrival.answer, actor=actor, check_after=check_after)
    hints = [arrival.lease.hint for arrival in arrivals]
    return {hint.delivery_id: hint.request_id for hint in hints if hint.delivery_id in kept}


def _write_retries(connection: Connection, retries: Sequence[Retry], *, check_after: float) -> set[UUID]:
    """The deliveries that wait for their next try."""
    if not retries:
        return set()
    rows = [
        {
            **_named(retry.lease),
            "refunded": retry.lease.refunded + retry.settlement.refund,
            "may_repeat": retry.settlement.may_repeat,
            "delay": timedelta(seconds=retry.settlement.delay_seconds),
            "kind": retry.settlement.problem.kind,
            "code": plain_text(retry.settlement.problem.code),
            "detail": plain_text(retry.settlement.problem.detail),
        }
        for retry in retries
    ]
    check_in = {"check_in": timedelta(seconds=check_after)}
    kept = set(connection.scalars(_PUT_OFF, as_arrays("ended", rows) | check_in))
    before_retry()
    append_each(
        connection,
        (
            (replace(retry.lease.hint, attempt=retry.lease.attempt + 1), retry.settlement.delay_seconds)
            for retry in retries
            if retry.lease.hint.delivery_id in kept
        ),
    )
    return kept


def _named(lease: Lease) -> dict[str, Any]:
    hint = lease.hint
    return {"id": hint.delivery_id, "token": lease.token, "series": hint.series, "number": lease.attempt}
