"""Callbacks: an event of a request as deliveries to the bot's server, with the words fixed when it happened.

They never change the request, keep none open and cause no event. Those of one request to one destination go out one
after the other in the order of the events: the next one gets its hint when the one before ends, under the request's
lock, which every event and every end of a callback takes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, timedelta
from typing import Any
from uuid import UUID

from pydantic import SecretStr
from sqlalchemy import ColumnElement, Connection, Interval, Row, Text, bindparam, exists, func, literal, select, update
from sqlalchemy.dialects.postgresql import ARRAY, insert

from assistance.deliveries.settle import Bury, Cancel, Problem, Settlement
from assistance.deliveries.webhooks import disable, secrets_for_single_requests, secrets_of_webhook
from assistance.domain.delivery import CALLBACKS, DeliveryState, Purpose
from assistance.domain.event import EventType
from assistance.domain.hint import Hint
from assistance.domain.outcome import RejectionReason
from assistance.outbox.append import append
from assistance.runtime import ids
from assistance.storage.expressions import from_now, seconds
from assistance.storage.tables import deliveries, requests, webhooks

MOST_PAYLOAD_BYTES = 20_000
#: When conciliation looks at a callback that was never tried.
_CHECK_SECONDS = 300.0
#: One that waits for another is woken by its end; conciliation need not look before that one can have ended.
_CHECK_WAITING_SECONDS = 6 * 3600.0
_NO_LONGER_WANTED = Problem(kind="cancelled", code="not_wanted", detail="Its webhook is disabled or deleted.")

_START = insert(deliveries).values(check_at=func.now() + bindparam("check_in", type_=Interval))
_before = requests.alias("before")
#: What `start_callbacks` needs to know of a request whose event is being written. The statement that changes the
#: request returns it; a query within still sees the row as it was before.
AFTER = (
    requests.c.ref,
    requests.c.client,
    requests.c.topic,
    requests.c.dedup_key,
    requests.c.metadata.label("said"),
    requests.c.updated_at.label("at"),
    requests.c.callback_url,
    requests.c.route["callbacks"].label("configured"),
    requests.c.route["callback_to"].label("callback_to"),
    func.coalesce(requests.c.handling, requests.c.status).label("status"),
    select(func.coalesce(_before.c.handling, _before.c.status))
    .where(_before.c.id == requests.c.id)
    .correlate(requests)
    .scalar_subquery()
    .label("previous"),
    exists()
    .where(webhooks.c.client == requests.c.client, webhooks.c.url != "", webhooks.c.disabled_at.is_(None))
    .correlate(requests)
    .label("has_webhooks"),
)


def start_callbacks(connection: Connection, request_id: UUID, event: EventType, version: int, after: Row[Any]) -> None:
    """Tell an event to everybody who wants to be called back; the caller holds the request's lock."""
    if not (after.callback_url or after.configured or after.has_webhooks):
        return
    targets = _targets(connection, event, after)
    if not targets:
        return
    payload = payload_of(request_id, event, version, after)
    busy = _unfinished_destinations(connection, request_id)
    rows: list[dict[str, Any]] = [
        {
            "id": ids.uuid7(),
            "request_id": request_id,
            "event_version": version,
            "purpose": Purpose.CALLBACK,
            "channel": CALLBACKS,
            "step": number,
            "required": False,
            "destination": target,
            "payload": payload,
            "check_in": timedelta(seconds=_CHECK_WAITING_SECONDS if target in busy else _CHECK_SECONDS),
        }
        for number, target in enumerate(targets)
    ]
    connection.execute(_START, rows)
    append(
        connection,
        [
            Hint(delivery_id=row["id"], request_id=request_id, channel=CALLBACKS, series=1, attempt=1)
            for row in rows
            if row["destination"] not in busy
        ],
    )


def payload_of(request_id: UUID, event: EventType, version: int, after: Any) -> dict[str, Any]:
    """The body of a callback, of 20,000 bytes at most: the `metadata` that would make it longer are left out."""
    payload = {
        "type": str(event),
        "timestamp": after.at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "data": {
            "id": str(request_id),
            "ref": after.ref,
            "state_version": version,
            "status": after.status,
            "previous": after.previous,
            "topic": after.topic,
            "dedup_key": after.dedup_key,
            "metadata": after.said,
        },
    }
    if len(json.dumps(payload, separators=(",", ":"))) > MOST_PAYLOAD_BYTES:
        payload["data"]["metadata"] = None
    return payload


def _targets(connection: Connection, event: EventType, after: Row[Any]) -> list[dict[str, Any]]:
    """Where the event is told: webhooks of the operator, those of the client, and the URL of this request."""
    found: list[dict[str, Any]] = [
        {"configured": name} for name, types in sorted((after.configured or {}).items()) if not types or event in types
    ]
    url = None if after.callback_to else after.callback_url
    if after.has_webhooks:
        mine = select(webhooks.c.id, webhooks.c.url, webhooks.c.events).where(
            webhooks.c.client == after.client, webhooks.c.url != "", webhooks.c.disabled_at.is_(None)
        )
        for webhook in connection.execute(mine.order_by(webhooks.c.id)).all():
            if webhook.url == url or webhook.events is None or event in webhook.events:
                found.append({"webhook": str(webhook.id), "url": webhook.url})
            if webhook.url == url:
                url = None  # told once, with the signature of the webhook
    return [*found, {"url": url}] if url else found


def _unfinished_destinations(connection: Connection, request_id: UUID) -> Sequence[Mapping[str, Any]]:
    return connection.scalars(
        select(deliveries.c.destination).where(
            deliveries.c.request_id == request_id,
            deliveries.c.purpose == Purpose.CALLBACK,
            deliveries.c.check_at.is_not(None),
        )
    ).all()


def wait_behind(connection: Connection, row: Row[Any]) -> bool:
    """Let a callback wait while an earlier one of its request to the same destination is unfinished."""
    earlier = select(deliveries.c.id).where(
        *_same_destination(row.request_id, row.destination),
        deliveries.c.event_version < row.event_version,
        deliveries.c.check_at.is_not(None),
    )
    if connection.execute(earlier.limit(1)).first() is None:
        return False
    later = from_now(_CHECK_WAITING_SECONDS)
    connection.execute(update(deliveries).where(deliveries.c.id == row.id).values(check_at=later))
    return True


def open_target(connection: Connection, row: Row[Any]) -> Mapping[str, Any] | None:
    """The destination of a callback that is about to be sent, with what to sign it with; none when it is not wanted."""
    destination: Mapping[str, Any] = row.destination
    if "configured" in destination:
        return destination
    if "webhook" in destination:
        secrets = secrets_of_webhook(connection, UUID(destination["webhook"]))
    else:
        request = connection.execute(
            select(requests.c.client, requests.c.callback_url).where(requests.c.id == row.request_id)
        ).one()
        is_wanted = request.callback_url is not None
        secrets = secrets_for_single_requests(connection, request.client) if is_wanted else ()
    return {**destination, "secrets": tuple(map(SecretStr, secrets))} if secrets else None


def call_off(connection: Connection, row: Row[Any]) -> None:
    """End a callback that nobody wants any more, which the caller has locked, and those that wait behind it."""
    cancel_callbacks(connection, *_same_destination(row.request_id, row.destination))


def cancel_callbacks(connection: Connection, *which: ColumnElement[bool], problem: Problem = _NO_LONGER_WANTED) -> None:
    """End callbacks without a dead letter, as far as nobody is sending them: the others end at their next claim."""
    waiting = (
        select(deliveries.c.id)
        .where(
            deliveries.c.purpose == Purpose.CALLBACK,
            deliveries.c.state.in_((DeliveryState.PENDING, DeliveryState.UNKNOWN)),
            deliveries.c.lease_token.is_(None),
            *which,
        )
        .with_for_update(skip_locked=True)
    )
    connection.execute(
        update(deliveries)
        .where(deliveries.c.id.in_(waiting))
        .values(
            state=DeliveryState.CANCELLED,
            check_at=None,
            held_at=None,
            last_error_class=problem.kind,
            last_error_code=problem.code,
            last_error_detail=problem.detail,
            updated_at=func.now(),
        )
    )


def of_webhook(webhook_id: UUID) -> ColumnElement[bool]:
    """The callbacks to one webhook, of all requests."""
    # `check_at` leads to the few that are unfinished; there is no index over destinations.
    named: ColumnElement[bool] = deliveries.c.destination["webhook"].astext == str(webhook_id)
    return named & deliveries.c.check_at.is_not(None)


def unless_gone(settlement: Settlement) -> Settlement:
    """The settlement of a callback: a server that wants nothing more is obeyed, and that is no reason for an alarm."""
    if isinstance(settlement, Bury) and settlement.problem.kind == RejectionReason.GONE:
        return Cancel(problem=settlement.problem)
    return settlement


def after_callback(connection: Connection, hint: Hint, settlement: Settlement, *, check_after: float) -> None:
    """What follows when a callback ended: nothing more for who wants nothing more, else the next one in its order.

    The caller holds the request's lock.
    """
    ended = connection.execute(
        select(deliveries.c.request_id, deliveries.c.destination, deliveries.c.event_version).where(
            deliveries.c.id == hint.delivery_id
        )
    ).one()
    if isinstance(settlement, Cancel):
        _stop(connection, ended, settlement.problem)
    else:
        _wake_next(connection, ended, check_after)


def _stop(connection: Connection, ended: Any, problem: Problem) -> None:
    """Send nothing more to where a callback was refused for good."""
    if "webhook" in ended.destination:
        webhook_id = UUID(ended.destination["webhook"])
        disable(connection, webhook_id, problem.detail)
        cancel_callbacks(connection, of_webhook(webhook_id), problem=problem)
        return
    this_request = requests.c.id == ended.request_id
    if "configured" in ended.destination:
        # The operator's file says otherwise for other requests; this one is not told there any more.
        path = literal(["callbacks", ended.destination["configured"]], ARRAY(Text))
        connection.execute(update(requests).where(this_request).values(route=requests.c.route.op("#-")(path)))
    else:
        connection.execute(update(requests).where(this_request).values(callback_url=None))
    cancel_callbacks(connection, *_same_destination(ended.request_id, ended.destination), problem=problem)


def _wake_next(connection: Connection, ended: Any, check_after: float) -> None:
    row = connection.execute(
        select(
            deliveries.c.id,
            deliveries.c.series,
            deliveries.c.attempt,
            seconds(deliveries.c.next_attempt_at - func.now()).label("due_in"),
        )
        .where(
            *_same_destination(ended.request_id, ended.destination),
            deliveries.c.event_version > ended.event_version,
            deliveries.c.state == DeliveryState.PENDING,
        )
        .order_by(deliveries.c.event_version)
        .limit(1)
    ).one_or_none()
    if row is None:
        return
    due_in = max(0.0, row.due_in)
    connection.execute(
        update(deliveries).where(deliveries.c.id == row.id).values(check_at=from_now(due_in + check_after))
    )
    hint = Hint(
        delivery_id=row.id,
        request_id=ended.request_id,
        channel=CALLBACKS,
        series=row.series,
        attempt=row.attempt + 1,
    )
    append(connection, [hint], delay_seconds=due_in)


def _same_destination(request_id: UUID, destination: Mapping[str, Any]) -> tuple[ColumnElement[bool], ...]:
    return (
        deliveries.c.request_id == request_id,
        deliveries.c.purpose == Purpose.CALLBACK,
        deliveries.c.destination == destination,
    )
