"""What every claim for a try reads and writes, of one delivery or of many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import UUID, Connection, Integer, Row, Text, bindparam, func, select
from sqlalchemy.dialects.postgresql import insert

from assistance.deliveries.attempts import last_attempt
from assistance.deliveries.follow_ups import Told
from assistance.deliveries.lease import Lease, ToSend
from assistance.domain.request import AssistanceRequest, Priority
from assistance.runtime.faults import fault_point
from assistance.storage.expressions import as_arrays, given, seconds
from assistance.storage.tables import attempts, requests
from assistance.tracing.context import TRACEPARENT
from assistance.tracing.spans import is_on

#: What a claim reads of the request.
TOLD = (
    requests.c.ref,
    requests.c.topic,
    requests.c.description,
    requests.c.title,
    requests.c.priority,
    requests.c.customer,
    requests.c.bot,
    requests.c.conversation,
    requests.c.transcript,
    requests.c.attachments,
    requests.c.metadata.label("request_metadata"),
    requests.c.created_at.label("requested_at"),
    requests.c.not_before,
    requests.c.route.has_key("steps").label("in_steps"),
    requests.c.route[TRACEPARENT].astext.label(TRACEPARENT),
    seconds(func.now() - func.greatest(requests.c.created_at, requests.c.not_before)).label("late_seconds"),
)
_TRY = given("tries", delivery_id=UUID, series=Integer, number=Integer)
_ATTEMPTS = insert(attempts).from_select(
    ["delivery_id", "series", "number", "worker"], select(*_TRY.c, bindparam("by", type_=Text))
)


def write_attempts(connection: Connection, leases: Sequence[Lease], worker: str) -> None:
    """Write down that these tries are under way, in the transaction that claims them."""
    fault_point("consumer.before_attempt")
    tries = [
        {"delivery_id": lease.hint.delivery_id, "series": lease.hint.series, "number": lease.attempt}
        for lease in leases
    ]
    connection.execute(_ATTEMPTS, as_arrays("tries", tries) | {"by": worker})


def with_what_it_replays(connection: Connection, lease: Lease) -> Lease:
    """The lease of a try that an operator asked for names the last attempt before that, if a trace is to show it."""
    if lease.hint.series == 1 or lease.attempt > 1 or not lease.traceparent or not is_on():
        return lease
    return replace(lease, replays_attempt=last_attempt(connection, lease.hint.delivery_id, lease.hint.series - 1))


def to_send(
    lease: Lease,
    row: Row[Any],
    *,
    destination: Mapping[str, Any] | None,
    told: Told | None = None,
    unconfirmed: tuple[str, ...] = (),
) -> ToSend:
    """What a consumer needs for one try, of a row that holds the delivery and what is `TOLD` of its request."""
    return ToSend(
        lease=lease,
        request=AssistanceRequest(
            id=row.request_id,
            ref=row.ref,
            topic=row.topic,
            description=row.description,
            created_at=row.requested_at,
            title=row.title,
            priority=Priority(row.priority),
            customer=row.customer,
            bot=row.bot,
            conversation=row.conversation,
            transcript=row.transcript,
            attachments=row.attachments,
            metadata=row.request_metadata,
            not_before=row.not_before,
        ),
        event_version=row.event_version,
        destination=destination,
        late_seconds=told.late_seconds if told else row.late_seconds,
        may_repeat=row.may_repeat,
        unconfirmed=unconfirmed,
        told=told,
        payload=row.payload,
    )
