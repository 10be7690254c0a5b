"""Deliver: decode, claim, send or look up, settle, answer the broker. One `Deliverer` per channel."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, assert_never

import structlog
from sqlalchemy import Connection

from assistance.broker.contract import Answer, Received
from assistance.channels.contract import Channel, DeliveryKey, View
from assistance.configuration import ChannelSettings
from assistance.deliveries.bury import record_stray
from assistance.deliveries.claim import (
    AlreadyDead,
    Lease,
    NoSuchDelivery,
    NothingToDo,
    ToLookUp,
    ToSend,
    claim,
)
from assistance.deliveries.settle import (
    Bury,
    Deliver,
    Policy,
    Settlement,
    Standing,
    settle_look,
    settle_send,
)
from assistance.deliveries.transition import Concluded, conclude
from assistance.domain.errors import UndecodableMessage
from assistance.domain.hint import decode
from assistance.domain.outcome import (
    CannotTell,
    Delivered,
    Found,
    Lookup,
    NotFound,
    Outcome,
    Rejected,
    RetryLater,
    Unknown,
)
from assistance.runtime import metrics
from assistance.runtime.clock import Deadline, monotonic, random_fraction
from assistance.runtime.loop import Stopped, patiently
from assistance.storage.database import Database

log = structlog.get_logger()

Result = TypeVar("Result")

#: The call must end well before its lease does, or somebody else would look the message up meanwhile.
_PART_OF_LEASE = 0.8
#: How long a result in hand waits for the database after the process was asked to stop.
_GRACE_SECONDS = 20.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Times:
    """Seconds that operators turn."""

    lease: float
    check_after: float


class Deliverer:
    """Handles the messages of one channel's queue; called by several threads at once."""

    def __init__(
        self,
        database: Database,
        settings: ChannelSettings,
        channel: Channel,
        *,
        worker: str,
        times: Times,
        stop: threading.Event,
    ) -> None:
        self._database = database
        self._name = settings.name
        self._channel = channel
        self._policy = Policy(retry=settings.retry, settle_seconds=settings.settle_seconds, looks=settings.looks)
        self._timeout = min(settings.timeout_seconds, times.lease * _PART_OF_LEASE)
        self._worker = worker
        self._times = times
        self._stop = stop

    def handle(self, received: Received) -> Answer:
        """Work on one message and say what the broker shall do with it."""
        busy = metrics.active_workers.labels(self._name)
        busy.inc()
        try:
            return self._handle(received)
        except Stopped:
            # The database is away and we are asked to stop: the broker keeps the message for the next consumer.
            return Answer.LEAVE
        finally:
            busy.dec()

    def _handle(self, received: Received) -> Answer:
        try:
            hint = decode(received.body, received.type)
        except UndecodableMessage as error:
            log.warning("consumer.undecodable", channel=self._name, message_id=received.message_id, reason=str(error))
            return Answer.REJECT
        with structlog.contextvars.bound_contextvars(
            channel=self._name, delivery=str(hint.delivery_id), request=str(hint.request_id)
        ):
            claimed = self._patiently(
                lambda connection: claim(
                    connection, hint, self._name, worker=self._worker, lease_seconds=self._times.lease
                )
            )
            match claimed:
                case ToSend():
                    return self._send(claimed)
                case ToLookUp():
                    return self._look_up(claimed)
                case AlreadyDead():
                    metrics.delivery_duplicates.labels("dead").inc()
                    return Answer.REJECT
                case NothingToDo(reason=reason):
                    metrics.delivery_duplicates.labels(reason).inc()
                    return Answer.ACK
                case NoSuchDelivery():
                    self._record_unknown(received)
                    return Answer.ACK
            assert_never(claimed)

    def _send(self, claimed: ToSend) -> Answer:
        lease = claimed.lease
        view = View(request=claimed.request, event_version=claimed.event_version, late_seconds=claimed.late_seconds)
        started = monotonic()
        outcome = self._call_send(view, claimed)
        standing = Standing(spent=lease.spent, looks=0, elapsed_seconds=lease.elapsed_now)
        settlement = settle_send(outcome, standing, self._policy, random_fraction())
        concluded = self._conclude(lease, settlement, outcome)
        self._report(name_of(outcome), lease, settlement, concluded, seconds=monotonic() - started)
        if isinstance(settlement, Deliver) and concluded.kept:
            late = claimed.late_seconds + monotonic() - started
            metrics.delivery_end_to_end.labels(self._name).observe(late)
        return _answer_for(settlement, concluded)

    def _call_send(self, view: View, claimed: ToSend) -> Outcome:
        try:
            rendered = self._channel.render(view)
            destination = claimed.destination or self._channel.destination
            return self._channel.send(rendered, destination, _key(claimed.lease), Deadline.after(self._timeout))
        except Exception as error:
            # A channel type broke its contract. Whether bytes went out is anybody's guess, so nobody guesses.
            log.exception("consumer.channel_raised")
            return Unknown(code="channel_raised", detail=f"The channel type raised {type(error).__name__}.")

    def _look_up(self, claimed: ToLookUp) -> Answer:
        lease = claimed.lease
        started = monotonic()
        if claimed.late_receipt is not None:
            lookup: Lookup = Found(receipt=claimed.late_receipt)
        else:
            lookup = self._call_lookup(claimed)
        standing = Standing(spent=lease.spent, looks=lease.looks, elapsed_seconds=lease.elapsed_now)
        settlement = settle_look(lookup, standing, self._policy, random_fraction())
        concluded = self._conclude(lease, settlement, None)
        self._report(name_of(lookup), lease, settlement, concluded, seconds=monotonic() - started)
        return _answer_for(settlement, concluded)

    def _call_lookup(self, claimed: ToLookUp) -> Lookup:
        try:
            destination = claimed.destination or self._channel.destination
            return self._channel.lookup(destination, _key(claimed.lease), claimed.since, Deadline.after(self._timeout))
        except Exception as error:
            log.exception("consumer.channel_raised")
            detail = f"The channel type raised {type(error).__name__}."
            return CannotTell(code="channel_raised", detail=detail, look_again=True)

    def _conclude(self, lease: Lease, settlement: Settlement, outcome: Outcome | None) -> Concluded:
        """Write the result down; worth waiting for even when asked to stop: without it the message may go out twice."""
        return self._patiently(
            lambda connection: conclude(
                connection, lease, settlement, outcome, actor=self._worker, check_after=self._times.check_after
            ),
            grace_seconds=_GRACE_SECONDS,
        )

    def _record_unknown(self, received: Received) -> None:
        log.error("consumer.unknown_delivery")
        self._patiently(
            lambda connection: record_stray(
                connection,
                source="consumer",
                reason="unknown_delivery",
                error="The database does not know this delivery; was it restored from an older backup?",
                message_id=received.message_id,
                body=received.body,
                headers={},
            )
        )

    def _patiently(self, work: Callable[[Connection], Result], *, grace_seconds: float = 0.0) -> Result:
        return patiently(
            lambda: self._database.run(work), self._stop, waiting_for="database", grace_seconds=grace_seconds
        )

    def _report(
        self, answer: str, lease: Lease, settlement: Settlement, concluded: Concluded, *, seconds: float
    ) -> None:
        metrics.delivery.labels(self._name, answer).inc()
        if not concluded.kept:
            metrics.delivery_lease_lost.inc()
            log.error("consumer.lease_lost", attempt=lease.attempt, answer=answer)
            return
        log.info(
            "consumer.settled",
            attempt=lease.attempt,
            series=lease.hint.series,
            answer=answer,
            settlement=type(settlement).__name__,
            ms=round(seconds * 1000, 1),
            **({} if isinstance(settlement, Deliver) else {"code": settlement.problem.code}),
        )


def name_of(answer: Outcome | Lookup) -> str:
    """The word for an answer in metrics and logs."""
    match answer:
        case Delivered():
            return "delivered"
        case RetryLater():
            return "retry_later"
        case Rejected():
            return "rejected"
        case Unknown():
            return "unknown"
        case Found():
            return "found"
        case NotFound():
            return "not_found"
        case CannotTell():
            return "cannot_tell"
    assert_never(answer)


def _key(lease: Lease) -> DeliveryKey:
    return DeliveryKey(delivery_id=lease.hint.delivery_id, series=lease.hint.series)


def _answer_for(settlement: Settlement, concluded: Concluded) -> Answer:
    dead = isinstance(settlement, Bury) and concluded.kept
    return Answer.REJECT if dead else Answer.ACK
