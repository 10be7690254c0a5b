"""Take several deliveries at once, for their first try: one transaction for all, as long as nothing is particular.

What is particular about a delivery (a retry, a look-up, a lease of somebody else, a follow-up, a callback, a step of a
fallback) is left to `claim`, and so is a row that somebody else has locked: whoever takes a group never waits for one
of it, so that two groups cannot wait for each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    ARRAY,
    UUID,
    Connection,
    Integer,
    Interval,
    Row,
    Select,
    Text,
    and_,
    bindparam,
    case,
    false,
    func,
    select,
    true,
    update,
)

from assistance.deliveries.channel_states import outage_seconds
from assistance.deliveries.claim_send import TOLD, to_send, with_what_it_replays, write_attempts
from assistance.deliveries.lease import Lease, ToSend
from assistance.domain.delivery import DeliveryState, Purpose
from assistance.domain.hint import Hint
from assistance.runtime import ids
from assistance.storage.expressions import as_arrays, given
from assistance.storage.tables import deliveries, requests


def _taken() -> Select[Any]:
    wanted = given("wanted", id=UUID, channel=Text, series=Integer, token=UUID)
    is_ordinary = and_(
        deliveries.c.channel == wanted.c.channel,
        deliveries.c.state == DeliveryState.PENDING,
        deliveries.c.next_attempt_at <= func.now(),
        deliveries.c.first_attempt_at.is_(None),
        deliveries.c.attempt == 0,
        deliveries.c.purpose == Purpose.NOTIFY,
        deliveries.c.step == 0,
    )
    ordinary = (
        select(deliveries.c.id, wanted.c.token, outage_seconds(deliveries.c.channel).label("out_before"))
        .join_from(deliveries, wanted, (deliveries.c.id == wanted.c.id) & (deliveries.c.series == wanted.c.series))
        .where(
            deliveries.c.id == func.any(bindparam("wanted_id", type_=ARRAY(UUID))),
            # In an expression that no index knows: a plan that was made while few deliveries waited would go through
            # all that wait, however many there are later.
            case((is_ordinary, true()), else_=false()),
        )
        .with_for_update(of=deliveries, skip_locked=True)
        .cte("ordinary")
    )
    until = func.now() + bindparam("lease", type_=Interval)
    taken = (
        update(deliveries)
        .where(deliveries.c.id == ordinary.c.id)
        .values(
            state=DeliveryState.SENDING,
            attempt=1,
            first_attempt_at=func.now(),
            out_seconds_before=ordinary.c.out_before,
            slot_at=None,
            lease_token=ordinary.c.token,
            lease_until=until,
            check_at=until,
            updated_at=func.now(),
        )
        .returning(
            deliveries.c.id,
            deliveries.c.request_id,
            deliveries.c.event_version,
            deliveries.c.destination,
            deliveries.c.payload,
            deliveries.c.refunded,
            deliveries.c.may_repeat,
            deliveries.c.lease_token,
        )
        .cte("taken")
    )
    return select(taken, *TOLD).join_from(taken, requests, requests.c.id == taken.c.request_id)


_TAKE = _taken()


def claim_many(
    connection: Connection, hints: Sequence[Hint], *, worker: str, lease_seconds: float, begun: float
) -> list[ToSend | None]:
    """Take what can be sent for the first time now, in the order of the hints; none where `claim` has to look.

    A hint names the channel whose queue it came from; only a delivery to that channel is taken. `begun` is when the
    transaction did, on the monotonic clock of this process, or earlier: a process that is stopped from there on must
    find its lease over. Commit before acting on the result.
    """
    wanted = {hint.delivery_id: hint for hint in reversed(hints)}
    rows = [
        {"id": hint.delivery_id, "channel": hint.channel, "series": hint.series, "token": ids.token()}
        for hint in wanted.values()
    ]
    lease = {"lease": timedelta(seconds=lease_seconds)}
    found = connection.execute(_TAKE, as_arrays("wanted", rows) | lease).all()
    taken = {}
    for row in found:
        held = with_what_it_replays(connection, _lease(wanted[row.id], row, begun))
        taken[row.id] = to_send(held, row, destination=row.destination)
    if taken:
        write_attempts(connection, [each.lease for each in taken.values()], worker)
    # Each once: of two hints of one delivery the second finds it busy.
    return [taken.pop(hint.delivery_id, None) for hint in hints]


def _lease(hint: Hint, row: Row[Any], begun: float) -> Lease:
    return Lease(
        token=row.lease_token,
        hint=replace(hint, request_id=row.request_id),
        attempt=1,
        refunded=row.refunded,
        looks=0,
        elapsed_seconds=0.0,
        claimed_at=begun,
        in_steps=row.in_steps,
        traceparent=row.traceparent,
    )
