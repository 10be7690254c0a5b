"""Take a delivery for one try or one look-up, under a lease.

The claim and the attempt's row are committed before anything is sent: whoever dies afterwards leaves behind that a try
was under way. The lease token fences the end: a holder whose lease was taken over changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Connection,
    Interval,
    Row,
    Select,
    bindparam,
    false,
    func,
    select,
    update,
)

from assistance.deliveries.callbacks import call_off, open_target
from assistance.deliveries.channel_states import outage_seconds
from assistance.deliveries.claim_send import TOLD, to_send, with_what_it_replays, write_attempts
from assistance.deliveries.fallback import unconfirmed
from assistance.deliveries.follow_ups import read_follow_up
from assistance.deliveries.late_receipts import late_receipt
from assistance.deliveries.lease import AlreadyDead, Claim, Lease, NoSuchDelivery, NothingToDo, ToLookUp, ToSend
from assistance.deliveries.pace import Slot
from assistance.deliveries.waits import put_off, reason_to_wait
from assistance.domain.delivery import AttemptOutcome, DeliveryState, Purpose
from assistance.domain.hint import Hint
from assistance.runtime import ids
from assistance.runtime.clock import monotonic
from assistance.storage.expressions import from_now, seconds
from assistance.storage.tables import attempts, deliveries, requests

#: What a delivery shows as its last error when the worker that looked it up did not come back before its lease ended.
LOOKER_DIED = "looker_died"


def claim(
    connection: Connection,
    hint: Hint,
    channel: str,
    *,
    worker: str,
    lease_seconds: float,
    is_paced: bool = False,
    slot: Slot | None = None,
) -> Claim:
    """Lock the delivery that the hint names and take it if it is due; commit before acting on the result.

    `channel` is the one whose queue the hint came from. The row decides where the delivery goes, not the message.
    On a channel with a pace nothing is sent without a slot, nor before it.
    """
    begun = monotonic()  # first: a process that is stopped from here on must find its lease over, not just begun
    row = connection.execute(_LOCK, {"delivery_id": hint.delivery_id}).one_or_none()
    if row is None:
        return NoSuchDelivery()
    if row.series != hint.series:
        return NothingToDo(reason="stale")
    hint = replace(hint, request_id=row.request_id, channel=row.channel)
    state = DeliveryState(row.state)
    if state is DeliveryState.DEAD:
        return AlreadyDead()
    reason = reason_to_wait(connection, hint, row, state, channel)
    if reason is not None:
        return NothingToDo(reason=reason)
    if state is DeliveryState.SENDING:
        return _take_over(connection, hint, row, lease_seconds, begun)
    if state is DeliveryState.UNKNOWN or (row.attempt and late_receipt(connection, hint) is not None):
        return _take_look(connection, hint, row, lease_seconds, begun, looks=row.looks)
    if is_paced and (slot is None or not slot.is_now):
        return NothingToDo(reason=put_off(connection, hint, row, slot))
    destination = row.destination
    if row.purpose == Purpose.CALLBACK:
        destination = open_target(connection, row)
        if destination is None:
            call_off(connection, row)
            return NothingToDo(reason="not_wanted")
    return _take_send(connection, hint, row, destination, worker, lease_seconds, begun)


def _locked_delivery() -> Select[Any]:
    now = func.now()
    out_seconds = outage_seconds(deliveries.c.channel)
    return (
        select(
            deliveries,
            *TOLD,
            func.coalesce(deliveries.c.lease_until > now, false()).label("leased"),
            seconds(deliveries.c.lease_until - now).label("lease_remaining"),
            seconds(deliveries.c.next_attempt_at - now).label("due_in"),
            out_seconds.label("channel_out_seconds"),
            func.greatest(
                0.0,
                seconds(now - deliveries.c.first_attempt_at)
                - deliveries.c.paced_seconds
                - (out_seconds - deliveries.c.out_seconds_before),
            ).label("elapsed_seconds"),
        )
        .join_from(deliveries, requests)
        .where(deliveries.c.id == bindparam("delivery_id"))
        .with_for_update(of=deliveries)
    )


# Built once: putting a statement together takes longer than the database takes to answer it.
_LOCK = _locked_delivery()
_SEND = (
    update(deliveries)
    .where(deliveries.c.id == bindparam("delivery_id"))
    .values(
        state=DeliveryState.SENDING,
        attempt=bindparam("number"),
        looks=0,
        first_attempt_at=func.coalesce(deliveries.c.first_attempt_at, func.now()),
        out_seconds_before=bindparam("out_before"),
        slot_at=None,
        lease_token=bindparam("token"),
        lease_until=func.now() + bindparam("lease", type_=Interval),
        check_at=func.now() + bindparam("lease", type_=Interval),
        updated_at=func.now(),
    )
)


def _take_send(
    connection: Connection,
    hint: Hint,
    row: Row[Any],
    destination: Mapping[str, Any] | None,
    worker: str,
    lease_seconds: float,
    begun: float,
) -> ToSend:
    lease = _lease(hint, row, begun, attempt=row.attempt + 1, looks=0)
    lease = with_what_it_replays(connection, lease)
    connection.execute(
        _SEND,
        {
            "delivery_id": hint.delivery_id,
            "number": lease.attempt,
            "out_before": row.out_seconds_before if row.first_attempt_at else row.channel_out_seconds,
            "token": lease.token,
            "lease": timedelta(seconds=lease_seconds),
        },
    )
    write_attempts(connection, [lease], worker)
    told = read_follow_up(connection, row) if row.purpose == Purpose.FOLLOW_UP else None
    return to_send(
        lease,
        row,
        destination=destination,
        told=told,
        unconfirmed=unconfirmed(connection, row) if row.step and row.purpose == Purpose.NOTIFY else (),
    )


def _take_over(connection: Connection, hint: Hint, row: Row[Any], lease_seconds: float, begun: float) -> ToLookUp:
    """The holder died or was stopped while sending: what it did is unknown."""
    mark_attempt_unknown(connection, hint.delivery_id, hint.series, row.attempt)
    return _take_look(connection, hint, row, lease_seconds, begun, looks=0)


def _take_look(
    connection: Connection, hint: Hint, row: Row[Any], lease_seconds: float, begun: float, *, looks: int
) -> ToLookUp:
    lease = _lease(hint, row, begun, attempt=row.attempt, looks=looks)
    until = from_now(lease_seconds)
    connection.execute(
        update(deliveries)
        .where(deliveries.c.id == hint.delivery_id)
        .values(
            state=DeliveryState.UNKNOWN,
            looks=looks,
            lease_token=lease.token,
            lease_until=until,
            check_at=until,
            updated_at=func.now(),
        )
    )
    ambiguous = connection.execute(
        select(attempts.c.started_at, attempts.c.receipt)
        .where(attempts.c.delivery_id == hint.delivery_id, attempts.c.series == hint.series)
        .where((attempts.c.outcome == AttemptOutcome.UNKNOWN) | attempts.c.receipt.is_not(None))
        .order_by(attempts.c.started_at)
    ).all()
    return ToLookUp(
        lease=lease,
        destination=row.destination,
        since=ambiguous[0].started_at if ambiguous else row.first_attempt_at,
        late_receipt=next((attempt.receipt for attempt in ambiguous if attempt.receipt is not None), None),
        looker_died=row.state == DeliveryState.UNKNOWN
        and (row.lease_token is not None or row.last_error_code == LOOKER_DIED),
        thread=read_follow_up(connection, row).thread if row.purpose == Purpose.FOLLOW_UP else None,
    )


def mark_attempt_unknown(connection: Connection, delivery_id: UUID, series: int, number: int) -> None:
    """Close the attempt of a holder whose lease ran out."""
    connection.execute(
        update(attempts)
        .where(attempts.c.delivery_id == delivery_id, attempts.c.series == series, attempts.c.number == number)
        .where(attempts.c.outcome == AttemptOutcome.SENDING)
        .values(
            outcome=AttemptOutcome.UNKNOWN,
            finished_at=func.now(),
            code="lease_expired",
            detail="The worker that was sending did not come back before its lease ended.",
        )
    )


def _lease(hint: Hint, row: Row[Any], begun: float, *, attempt: int, looks: int) -> Lease:
    return Lease(
        token=ids.token(),
        hint=hint,
        attempt=attempt,
        refunded=row.refunded,
        looks=looks,
        elapsed_seconds=row.elapsed_seconds,
        claimed_at=begun,
        in_steps=row.in_steps and row.purpose != Purpose.CALLBACK,
        notifies=row.purpose == Purpose.NOTIFY,
        calls_back=row.purpose == Purpose.CALLBACK,
        traceparent=row.traceparent,
    )
