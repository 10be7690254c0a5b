"""Deliver: decode, claim, send or look up, settle, answer the broker. One `Deliverer` per channel."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar, assert_never

import structlog
from sqlalchemy import Connection

from assistance.broker.contract import Answer, Received
from assistance.channels.contract import Channel
from assistance.configuration import ChannelSettings
from assistance.consumer.calls import Calls
from assistance.consumer.gate import Gate, Mode
from assistance.consumer.report import report
from assistance.consumer.shared import SharedTransactions, Times
from assistance.consumer.traces import processing, settling
from assistance.consumer.view import view_of
from assistance.deliveries.bury import record_stray
from assistance.deliveries.claim import LOOKER_DIED, claim
from assistance.deliveries.lease import AlreadyDead, Claim, Lease, NoSuchDelivery, NothingToDo, ToLookUp, ToSend
from assistance.deliveries.pace import Pacer
from assistance.deliveries.settle import (
    Bury,
    Deliver,
    Policy,
    Settlement,
    Standing,
    TryAgain,
    settle_look,
    settle_send,
)
from assistance.deliveries.transition import Concluded, conclude
from assistance.domain.errors import UndecodableMessage
from assistance.domain.hint import Hint, decode
from assistance.domain.outcome import (
    CannotTell,
    Found,
    Lookup,
    Outcome,
    RetryLater,
)
from assistance.resilience.pacing import Pace
from assistance.runtime import metrics
from assistance.runtime.clock import monotonic, random_fraction, unix_nanoseconds
from assistance.runtime.faults import fault_point
from assistance.runtime.loop import Stopped, patiently
from assistance.storage.database import Database

log = structlog.get_logger()

Result = TypeVar("Result")

#: How long a result in hand waits for the database after the process was asked to stop.
_GRACE_SECONDS = 20.0


class Deliverer:
    """Handles the messages of one channel's queue; called by several threads at once."""

    def __init__(
        self,
        database: Database,
        settings: ChannelSettings,
        channel: Channel,
        *,
        gate: Gate,
        worker: str,
        times: Times,
        shared: SharedTransactions,
        stop: threading.Event,
    ) -> None:
        self._database = database
        self._gate = gate
        self._name = settings.name
        self._calls = Calls(settings.name, channel, timeout_seconds=settings.timeout_seconds, lease_seconds=times.lease)
        self._capabilities = settings.type.capabilities
        self._policy = Policy(
            retry=settings.retry,
            settle_seconds=settings.settle_seconds,
            looks=settings.looks,
            on_unknown=settings.on_unknown,
        )
        self._pacer = _pacer(settings, channel, times)
        self._worker = worker
        self._times = times
        self._stop = stop
        self._shared = shared

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
            if self._gate.mode is Mode.OUT:
                return Answer.LEAVE  # the pause that follows gives it back
            fault_point("consumer.before_claim")
            began_ns = unix_nanoseconds()
            claimed = self._claim(hint)
            with processing(received, hint, claimed, began_ns):
                return self._act(received, claimed)

    def _act(self, received: Received, claimed: Claim) -> Answer:
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

    def _claim(self, hint: Hint) -> Claim:
        pacer = self._pacer
        if pacer is None and (taken := self._shared.claim(replace(hint, channel=self._name))) is not None:
            return taken
        slot = self._patiently(lambda connection: pacer.take_slot(connection, hint)) if pacer else None
        return self._patiently(
            lambda connection: claim(
                connection,
                hint,
                self._name,
                worker=self._worker,
                lease_seconds=self._times.lease,
                is_paced=pacer is not None,
                slot=slot,
            )
        )

    def _send(self, claimed: ToSend) -> Answer:
        lease = claimed.lease
        view = view_of(claimed, self._capabilities)
        started = monotonic()
        fault_point("consumer.after_claim")
        outcome = self._calls.send(view, claimed)
        fault_point("consumer.after_send")
        self._count(outcome)
        standing = Standing(spent=lease.spent, looks=0, elapsed_seconds=lease.elapsed_now)
        settlement = settle_send(outcome, standing, self._policy, random_fraction())
        self._let_others_wait(claimed, settlement, outcome)
        concluded = self._conclude(lease, settlement, outcome)
        if isinstance(settlement, TryAgain) and settlement.pause_channel:
            self._gate.close()
        report(self._name, outcome, lease, settlement, concluded, seconds=monotonic() - started)
        # A callback tells of the end of a telling, which the time since the request was accepted says nothing about.
        if isinstance(settlement, Deliver) and concluded.kept and not lease.calls_back:
            late = claimed.late_seconds + monotonic() - started
            metrics.delivery_end_to_end.labels(self._name).observe(late)
        return _answer_for(settlement, concluded)

    def _count(self, answer: Outcome | Lookup) -> None:
        """Tell the circuit breaker, where trouble with one message says something about the others."""
        if self._capabilities.one_provider:
            self._gate.record(answer)

    def _let_others_wait(self, claimed: ToSend, settlement: Settlement, outcome: Outcome) -> None:
        """A provider that asks to slow down means everything that goes to this destination."""
        pacer = self._pacer
        if pacer is None or not isinstance(settlement, TryAgain) or not isinstance(outcome, RetryLater):
            return
        wait = settlement.delay_seconds
        if outcome.retry_after_seconds is not None:
            self._patiently(
                lambda connection: pacer.close(connection, claimed.destination, wait), grace_seconds=_GRACE_SECONDS
            )

    def _look_up(self, claimed: ToLookUp) -> Answer:
        lease = claimed.lease
        started = monotonic()
        if claimed.late_receipt is not None:
            lookup: Lookup = Found(receipt=claimed.late_receipt)
        elif claimed.looker_died and not self._policy.retry.allows(lease.elapsed_now, 0):
            # Perhaps the look itself kills its worker, and each time those that are busy beside it: not for ever.
            detail = "The worker that looked it up did not come back."
            lookup = CannotTell(code=LOOKER_DIED, detail=detail, look_again=True)
        else:
            lookup = self._calls.look_up(claimed)
            fault_point("consumer.after_look")
            self._count(lookup)
        standing = Standing(spent=lease.spent, looks=lease.looks, elapsed_seconds=lease.elapsed_now)
        settlement = settle_look(lookup, standing, self._policy, random_fraction())
        concluded = self._conclude(lease, settlement, None)
        report(self._name, lookup, lease, settlement, concluded, seconds=monotonic() - started)
        return _answer_for(settlement, concluded)

    def _conclude(self, lease: Lease, settlement: Settlement, outcome: Outcome | None) -> Concluded:
        """Write the result down; worth waiting for even when asked to stop: without it the message may go out twice."""
        with settling(settlement) as span:
            concluded = self._shared.conclude(lease, settlement, outcome)
            if concluded is None:
                concluded = self._patiently(
                    lambda connection: conclude(
                        connection, lease, settlement, outcome, actor=self._worker, check_after=self._times.check_after
                    ),
                    grace_seconds=_GRACE_SECONDS,
                )
            span.note({"assistance.kept": concluded.kept, "assistance.cancelled": concluded.cancelled})
        fault_point("consumer.after_settled")
        return concluded

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


def _pacer(settings: ChannelSettings, channel: Channel, times: Times) -> Pacer | None:
    if settings.pace_per_second is None:
        return None
    return Pacer(
        channel=settings.name,
        pace=Pace(per_second=settings.pace_per_second),
        destination=channel.destination,
        check_after_seconds=times.check_after,
    )


def _answer_for(settlement: Settlement, concluded: Concluded) -> Answer:
    if isinstance(settlement, Bury) and concluded.kept and not concluded.cancelled:
        fault_point("consumer.before_reject")
        return Answer.REJECT
    return Answer.ACK
