"""Write down that several messages arrived: one transaction for all, as long as nothing is particular.

It locks as `conclude` does, the requests first, in one order; a group never holds a delivery while it waits for a
request.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Connection, Integer, Select, Text, bindparam, cast, column, func, null, select, update
from sqlalchemy import UUID as UUID_TYPE
from sqlalchemy.dialects.postgresql import JSONB

from assistance.deliveries.lease import Lease
from assistance.deliveries.request_state import lock_requests, refresh_requests
from assistance.deliveries.settle import Deliver, Settlement
from assistance.deliveries.transition import ARRIVED, Concluded, before_commit, end_if_held
from assistance.domain.delivery import AttemptOutcome
from assistance.domain.outcome import Delivered, Outcome
from assistance.storage.plain import plain_json
from assistance.storage.tables import attempts, deliveries


@dataclass(frozen=True, slots=True)
class Arrival:
    """A lease whose message arrived, and the answer that says so."""

    lease: Lease
    answer: Delivered


def arrival_of(lease: Lease, settlement: Settlement, outcome: Outcome | None) -> Arrival | None:
    """The end of a try as one of many; none where it has consequences of its own, which `conclude` knows."""
    if not isinstance(settlement, Deliver) or not isinstance(outcome, Delivered):
        return None
    return Arrival(lease, outcome) if lease.notifies and not lease.in_steps else None


def _written() -> Select[Any]:
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
    # In one order, so that two groups never wait for each other.
    locked = (
        select(deliveries.c.id)
        .where(deliveries.c.id == func.any(bindparam("ids", type_=ARRAY(UUID_TYPE))))
        .order_by(deliveries.c.id)
        .with_for_update()
        .cte("locked")
    )
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


_WRITTEN = _written()


def conclude_many(
    connection: Connection, arrivals: Sequence[Arrival], *, actor: str, check_after: float
) -> list[Concluded]:
    """Write down that these messages arrived, in their order; see `conclude`."""
    leases = [arrival.lease for arrival in arrivals]
    lock_requests(connection, {lease.hint.request_id for lease in leases})
    kept = set(
        connection.scalars(
            _WRITTEN,
            {
                "ids": [lease.hint.delivery_id for lease in leases],
                "tokens": [lease.token for lease in leases],
                "of_series": [lease.hint.series for lease in leases],
                "numbers": [lease.attempt for lease in leases],
                "receipts": [json.dumps(plain_json(arrival.answer.receipt)) for arrival in arrivals],
            },
        )
    )
    for arrival in arrivals:
        if arrival.lease.hint.delivery_id not in kept:
            end_if_held(connection, arrival.lease.hint, arrival.answer, actor=actor, check_after=check_after)
    told: set[UUID] = {lease.hint.request_id for lease in leases if lease.hint.delivery_id in kept}
    statuses = refresh_requests(connection, told, actor, check_after=check_after)
    before_commit()
    return [
        Concluded(kept=True, request_status=statuses[lease.hint.request_id])
        if lease.hint.delivery_id in kept
        else Concluded(kept=False)
        for lease in leases
    ]
