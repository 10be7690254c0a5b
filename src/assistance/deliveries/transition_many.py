"""Write down how several tries ended: one transaction for all, as long as nothing is particular.

It locks as `conclude` does, the requests first, in one order; a group never holds a delivery while it waits for a
request.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    CTE,
    Boolean,
    Connection,
    Integer,
    Interval,
    Select,
    Text,
    bindparam,
    cast,
    column,
    func,
    null,
    or_,
    select,
    update,
)
from sqlalchemy import UUID as UUID_TYPE
from sqlalchemy.dialects.postgresql import JSONB, insert

from assistance.deliveries.lease import Lease
from assistance.deliveries.request_state import lock_requests, refresh_requests
from assistance.deliveries.settle import Deliver, Settlement, TryAgain
from assistance.deliveries.transition import ARRIVED, Concluded, before_commit, before_retry, end_if_held
from assistance.domain.delivery import AttemptOutcome, DeliveryState
from assistance.domain.outcome import Delivered, Outcome, RetryLater
from assistance.storage.plain import plain_json, plain_text
from assistance.storage.tables import attempts, deliveries, outbox


@dataclass(frozen=True, slots=True)
class Arrival:
    """A lease whose message arrived, and the answer that says so."""

    lease: Lease
    answer: Delivered


@dataclass(frozen=True, slots=True)
class Retry:
    """A lease whose message is to be sent again, and the answer that says so."""

    lease: Lease
    settlement: TryAgain
    answer: RetryLater


Ending = Arrival | Retry


def ending_of(lease: Lease, settlement: Settlement, outcome: Outcome | None) -> Ending | None:
    """The end of a try as one of many; none where it has consequences of its own, which `conclude` knows."""
    if lease.in_steps or not lease.notifies:
        return None
    if isinstance(settlement, Deliver) and isinstance(outcome, Delivered):
        return Arrival(lease, outcome)
    if isinstance(settlement, TryAgain) and isinstance(outcome, RetryLater) and not settlement.pause_channel:
        return Retry(lease, settlement, outcome)
    return None


def _locked() -> CTE:
    """In one order, so that two groups never wait for each other."""
    return (
        select(deliveries.c.id)
        .where(deliveries.c.id == func.any(bindparam("ids", type_=ARRAY(UUID_TYPE))))
        .order_by(deliveries.c.id)
        .with_for_update()
        .cte("locked")
    )


def _arrived() -> Select[Any]:
    ended = (
        func.unnest(
            bindparam("ids", type_=ARRAY(UUID_TYPE)),
            bindparam("tokens", type_=ARRAY(UUID_TYPE)),
            bindparam("of_series", type_=ARRAY(Integer)),
            bindparam("numbers", type_=ARRAY(Integer)),
            bindparam("receipts", type_=ARRAY(Text)),
        )
        .table_valued(
            column("id", UUID_TYPE),
            column("token", UUID_TYPE),
            column("series", Integer),
            column("number", Integer),
            column("receipt", Text),
        )
        .render_derived("ended")
    )
    receipt = cast(ended.c.receipt, JSONB)
    locked = _locked()
    kept = (
        update(deliveries)
        .where(deliveries.c.id == locked.c.id, deliveries.c.id == ended.c.id, deliveries.c.lease_token == ended.c.token)
        .values(**ARRIVED, receipt=receipt, lease_token=None, lease_until=None, reconciled=0, updated_at=func.now())
        .returning(deliveries.c.id)
        .cte("kept")
    )
    closed = (
        update(attempts)
        .where(
            attempts.c.delivery_id == ended.c.id,
            attempts.c.series == ended.c.series,
            attempts.c.number == ended.c.number,
            attempts.c.outcome.in_((AttemptOutcome.SENDING, AttemptOutcome.UNKNOWN)),
        )
        .values(outcome=AttemptOutcome.DELIVERED, receipt=receipt, code=null(), detail=null(), finished_at=func.now())
        .returning(attempts.c.delivery_id)
        .cte("closed")
    )
    return select(kept.c.id).add_cte(closed)


def _put_off() -> Select[Any]:
    ended = (
        func.unnest(
            bindparam("ids", type_=ARRAY(UUID_TYPE)),
            bindparam("tokens", type_=ARRAY(UUID_TYPE)),
            bindparam("of_series", type_=ARRAY(Integer)),
            bindparam("numbers", type_=ARRAY(Integer)),
            bindparam("refunded", type_=ARRAY(Integer)),
            bindparam("may_repeat", type_=ARRAY(Boolean)),
            bindparam("delays", type_=ARRAY(Interval)),
            bindparam("kinds", type_=ARRAY(Text)),
            bindparam("codes", type_=ARRAY(Text)),
            bindparam("details", type_=ARRAY(Text)),
        )
        .table_valued(
            column("id", UUID_TYPE),
            column("token", UUID_TYPE),
            column("series", Integer),
            column("number", Integer),
            column("refunded", Integer),
            column("may_repeat", Boolean),
            column("delay", Interval),
            column("kind", Text),
            column("code", Text),
            column("detail", Text),
        )
        .render_derived("ended")
    )
    locked, due_at = _locked(), func.now() + ended.c.delay
    kept = (
        update(deliveries)
        .where(deliveries.c.id == locked.c.id, deliveries.c.id == ended.c.id, deliveries.c.lease_token == ended.c.token)
        .values(
            state=DeliveryState.PENDING,
            refunded=ended.c.refunded,
            may_repeat=or_(deliveries.c.may_repeat, ended.c.may_repeat),
            looks=0,
            next_attempt_at=due_at,
            check_at=due_at + bindparam("check_in", type_=Interval),
            last_error_class=ended.c.kind,
            last_error_code=ended.c.code,
            last_error_detail=ended.c.detail,
            lease_token=None,
            lease_until=None,
            reconciled=0,
            updated_at=func.now(),
        )
        .returning(
            deliveries.c.id,
            deliveries.c.series,
            (ended.c.number + 1).label("next_number"),
            deliveries.c.request_id,
            deliveries.c.channel,
            deliveries.c.next_attempt_at,
        )
        .cte("kept")
    )
    closed = (
        update(attempts)
        .where(
            attempts.c.delivery_id == ended.c.id,
            attempts.c.series == ended.c.series,
            attempts.c.number == ended.c.number,
            attempts.c.outcome.in_((AttemptOutcome.SENDING, AttemptOutcome.UNKNOWN)),
        )
        .values(outcome=AttemptOutcome.RETRY_LATER, code=ended.c.code, detail=ended.c.detail, finished_at=func.now())
        .returning(attempts.c.delivery_id)
        .cte("closed")
    )
    new = insert(outbox).from_select(
        ["delivery_id", "series", "attempt", "request_id", "channel", "available_at"], select(kept)
    )
    hinted = (
        new.on_conflict_do_update(
            index_elements=["delivery_id", "series", "attempt"], set_={"available_at": new.excluded.available_at}
        )
        .returning(outbox.c.id)
        .cte("hinted")
    )
    return select(kept.c.id).add_cte(closed, hinted)


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
    receipts = [json.dumps(plain_json(arrival.answer.receipt)) for arrival in arrivals]
    kept = set(connection.scalars(_ARRIVED, {**_leases_of(arrivals), "receipts": receipts}))
    for arrival in arrivals:
        if arrival.lease.hint.delivery_id not in kept:
            end_if_held(connection, arrival.lease.hint, arrival.answer, actor=actor, check_after=check_after)
    hints = [arrival.lease.hint for arrival in arrivals]
    return {hint.delivery_id: hint.request_id for hint in hints if hint.delivery_id in kept}


def _write_retries(connection: Connection, retries: Sequence[Retry], *, check_after: float) -> set[UUID]:
    """The deliveries that wait for their next try."""
    if not retries:
        return set()
    before_retry()
    settlements = [retry.settlement for retry in retries]
    parameters = {
        **_leases_of(retries),
        "refunded": [retry.lease.refunded + retry.settlement.refund for retry in retries],
        "may_repeat": [settlement.may_repeat for settlement in settlements],
        "delays": [timedelta(seconds=settlement.delay_seconds) for settlement in settlements],
        "kinds": [settlement.problem.kind for settlement in settlements],
        "codes": [plain_text(settlement.problem.code) for settlement in settlements],
        "details": [plain_text(settlement.problem.detail) for settlement in settlements],
        "check_in": timedelta(seconds=check_after),
    }
    return set(connection.scalars(_PUT_OFF, parameters))


def _leases_of(endings: Sequence[Ending]) -> dict[str, Any]:
    leases = [ending.lease for ending in endings]
    return {
        "ids": [lease.hint.delivery_id for lease in leases],
        "tokens": [lease.token for lease in leases],
        "of_series": [lease.hint.series for lease in leases],
        "numbers": [lease.attempt for lease in leases],
    }
