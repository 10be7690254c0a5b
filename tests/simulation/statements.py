"""The statements that change rows, one function for each of the project's, with a step between any two of them.

They follow `deliveries.claim`, `deliveries.transition`, `deliveries.replay`, `outbox`, `conciliation.stragglers` and
`deadletters.recorder`; what they decide is decided by the project's own code.
"""

from __future__ import annotations

from typing import NamedTuple

from assistance.deliveries.claim import LOOKER_DIED
from assistance.deliveries.request_state import status_of
from assistance.deliveries.settle import Bury, Cancel, Deliver, Hold, LookUp, Settlement, TryAgain
from assistance.domain.delivery import FINISHED, AttemptOutcome, DeliveryState
from assistance.domain.outcome import Delivered, Outcome, Rejected, RetryLater
from assistance.domain.request import RequestStatus
from tests.simulation.channels import outage_seconds, pause
from tests.simulation.design import CHECK_AFTER, LEASE, Design
from tests.simulation.fallback import append, deliveries_of, follow_plan, unless_handled_elsewhere
from tests.simulation.rows import Attempt, Delivery, Hint, Letter, Request
from tests.simulation.scheduler import STEP, Steps
from tests.simulation.store import Transaction, Violation

_PENDING, _SENDING, _UNKNOWN = DeliveryState.PENDING, DeliveryState.SENDING, DeliveryState.UNKNOWN
_DELIVERED, _DEAD, _CANCELLED = DeliveryState.DELIVERED, DeliveryState.DEAD, DeliveryState.CANCELLED


class Lease(NamedTuple):
    """The right to end one try or one look-up; `in_steps` where the request has a fallback."""

    token: int
    hint: Hint
    request: int
    attempt: int
    refunded: int
    looks: int
    elapsed: float
    claimed_at: float
    in_steps: bool


class ToSend(NamedTuple):
    lease: Lease
    may_repeat: bool


class ToLookUp(NamedTuple):
    lease: Lease
    late_receipt: bool
    looker_died: bool


class Nothing(NamedTuple):
    """`reason` is that of `NothingToDo`, or `dead`, or `no_such_delivery`."""

    reason: str


Claim = ToSend | ToLookUp | Nothing


def claim(design: Design, transaction: Transaction, hint: Hint) -> Steps[Claim]:
    """Take a delivery for one try or one look-up, if it is due."""
    key = ("delivery", hint.delivery)
    yield from transaction.lock(key)
    row: Delivery | None = transaction.get(key)
    if row is None:
        return Nothing("no_such_delivery")
    if row.series != hint.series and not design.series_ignored:
        return Nothing("stale")
    now = transaction.store.scheduler.now
    if row.state is _DEAD:
        return Nothing("dead")
    if row.state in FINISHED:
        return Nothing("finished")
    if row.held_at is not None:
        return Nothing("held")
    if row.lease_until is not None and row.lease_until > now and not design.no_lease:
        yield from append(transaction, hint._replace(attempt=row.attempt), row.lease_until - now)
        return Nothing("busy")
    if row.state is _SENDING and not (design.no_look_up or design.no_lease):
        mark_attempt_unknown(transaction, row)
        return _take_look(transaction, hint, row, looks=0)
    if row.next_attempt_at > now and row.state is not _SENDING:
        number = row.attempt + 1 if row.state is _PENDING else row.attempt
        yield from append(transaction, hint._replace(attempt=number), row.next_attempt_at - now)
        return Nothing("not_due")
    if (row.state is _UNKNOWN and not design.no_look_up) or (row.attempt and late_receipt(transaction, row)):
        return _take_look(transaction, hint, row, looks=row.looks)
    return _take_send(transaction, hint, row)


def _take_send(transaction: Transaction, hint: Hint, row: Delivery) -> ToSend:
    request = transaction.store.requests[row.request]
    if request.steps and row.series == 1 and request.status is RequestStatus.DELIVERED:
        raise Violation(f"I8: delivery {row.id} is sent although another step told people")
    now = transaction.store.scheduler.now
    lease = _lease(transaction, hint, row, row.attempt + 1, 0)
    row = row.copy()
    row.state = _SENDING
    row.attempt = lease.attempt
    row.looks = 0
    if row.first_attempt_at is None:
        row.first_attempt_at = now
        row.out_before = outage_seconds(transaction, row.channel)
    row.lease_token = lease.token
    row.lease_until = row.check_at = now + LEASE
    transaction.put(("delivery", row.id), row)
    transaction.put(("attempt", (row.id, row.series, row.attempt)), Attempt(now))
    return ToSend(lease, row.may_repeat)


def _take_look(transaction: Transaction, hint: Hint, row: Delivery, *, looks: int) -> ToLookUp:
    lease = _lease(transaction, hint, row, row.attempt, looks)
    looker_died = row.state is _UNKNOWN and (row.lease_token is not None or row.error == LOOKER_DIED)
    row = row.copy()
    row.state = _UNKNOWN
    row.looks = looks
    row.lease_token = lease.token
    row.lease_until = row.check_at = transaction.store.scheduler.now + LEASE
    transaction.put(("delivery", row.id), row)
    return ToLookUp(lease, late_receipt(transaction, row), looker_died)


def _lease(transaction: Transaction, hint: Hint, row: Delivery, attempt: int, looks: int) -> Lease:
    now = transaction.store.scheduler.now
    elapsed = 0.0
    if row.first_attempt_at is not None:
        out = outage_seconds(transaction, row.channel) - row.out_before
        elapsed = max(0.0, now - row.first_attempt_at - out)
    hint = hint._replace(channel=row.channel)
    in_steps = bool(transaction.store.requests[row.request].steps)
    token = transaction.store.next_number()
    return Lease(token, hint, row.request, attempt, row.refunded, looks, elapsed, now, in_steps)


def late_receipt(transaction: Transaction, row: Delivery) -> bool:
    """Whether a holder whose lease was over wrote down a receipt since."""
    for number in range(1, row.attempt + 1):
        attempt: Attempt | None = transaction.get(("attempt", (row.id, row.series, number)))
        if attempt is not None and attempt.receipt:
            return True
    return False


def mark_attempt_unknown(transaction: Transaction, row: Delivery) -> None:
    """Close the attempt of a holder whose lease ran out."""
    key = ("attempt", (row.id, row.series, row.attempt))
    attempt: Attempt | None = transaction.get(key)
    if attempt is not None and attempt.outcome is AttemptOutcome.SENDING:
        transaction.put(key, attempt._replace(outcome=AttemptOutcome.UNKNOWN))


def conclude(
    design: Design, transaction: Transaction, lease: Lease, settlement: Settlement, outcome: Outcome | None
) -> Steps[Settlement | None]:
    """Write a settlement down, or the one that took its place meanwhile; none when the lease had been taken over."""
    stops_channel = isinstance(settlement, TryAgain) and settlement.pause_channel
    settlement = yield from _under_lock(design, transaction, lease, settlement)
    ends = isinstance(settlement, Deliver | Bury | Cancel)
    key = ("delivery", lease.hint.delivery)
    yield from transaction.lock(key)
    row: Delivery = transaction.get(key)
    kept = row.lease_token == lease.token or design.no_fencing
    if kept:
        transaction.put(key, _settled(design, row, lease, settlement, transaction.store.scheduler.now))
    if outcome is not None:
        _write_attempt(transaction, lease, outcome)
    if not kept:
        if isinstance(outcome, Delivered):
            yield from _end_if_held(design, transaction, lease, row)
        return None
    yield STEP
    if isinstance(settlement, TryAgain) and not design.outbox_apart:
        yield from append(transaction, lease.hint._replace(attempt=lease.attempt + 1), settlement.delay_seconds)
    elif isinstance(settlement, LookUp):
        yield from append(transaction, lease.hint._replace(attempt=lease.attempt), settlement.delay_seconds)
    elif isinstance(settlement, Bury) and not design.letter_apart:
        bury(transaction, lease.hint, settlement.reason)
    if ends:
        yield from refresh_request(design, transaction, lease.request)
    if stops_channel:
        yield from pause(transaction, lease.hint.channel)
    return settlement


def _under_lock(design: Design, transaction: Transaction, lease: Lease, settlement: Settlement) -> Steps[Settlement]:
    """Lock the request where its other deliveries are concerned; the settlement in the light of what happened since."""
    if design.lock_within_reading or not (lease.in_steps or isinstance(settlement, Deliver | Bury | Hold)):
        return settlement
    yield from transaction.lock(("request", lease.request))
    if isinstance(settlement, Hold) and late_receipt(transaction, transaction.get(("delivery", lease.hint.delivery))):
        return Deliver(receipt={"id": "1"})
    if lease.in_steps and transaction.get(("request", lease.request)).status is RequestStatus.DELIVERED:
        return unless_handled_elsewhere(transaction, lease.hint, lease.request, settlement)
    return settlement


def _end_if_held(design: Design, transaction: Transaction, lease: Lease, row: Delivery) -> Steps[None]:
    """A receipt is the truth, however late it comes; the request is locked already, as for every receipt."""
    if row.held_at is None or row.series != lease.hint.series:
        return
    row = row.copy()
    row.state, row.check_at, row.receipt, row.error, row.held_at = _DELIVERED, None, True, None, None
    transaction.put(("delivery", row.id), row)
    yield from refresh_request(design, transaction, row.request)


def bury(transaction: Transaction, hint: Hint, reason: str) -> None:
    """Open the letter of the series, unless it is open already."""
    letters = transaction.store.letters.values()
    if not any(x.delivery == hint.delivery and x.series == hint.series and x.resolution is None for x in letters):
        number = transaction.store.next_number()
        transaction.put(("letter", number), Letter(hint.delivery, hint.series, reason))


def _settled(design: Design, row: Delivery, lease: Lease, settlement: Settlement, now: float) -> Delivery:
    row = row.copy()
    row.lease_token = row.lease_until = None
    row.reconciled = 0
    if isinstance(settlement, Deliver):
        row.state, row.check_at, row.receipt, row.error = _DELIVERED, None, True, None
        return row
    row.error = settlement.problem.code
    if isinstance(settlement, TryAgain):
        row.state = _PENDING
        row.refunded = lease.refunded + settlement.refund
        row.may_repeat = row.may_repeat or settlement.may_repeat
        row.looks = 0
        row.next_attempt_at = now + settlement.delay_seconds
        row.check_at = None if design.check_at_forgotten else row.next_attempt_at + CHECK_AFTER
    elif isinstance(settlement, LookUp):
        row.state, row.looks = _UNKNOWN, settlement.looks
        row.next_attempt_at = now + settlement.delay_seconds
        row.check_at = row.next_attempt_at + CHECK_AFTER
    elif isinstance(settlement, Hold):
        row.state, row.held_at, row.check_at = _UNKNOWN, now, now + CHECK_AFTER
    else:
        row.state, row.check_at = _CANCELLED if isinstance(settlement, Cancel) else _DEAD, None
    return row


def _write_attempt(transaction: Transaction, lease: Lease, outcome: Outcome) -> None:
    key = ("attempt", (lease.hint.delivery, lease.hint.series, lease.attempt))
    attempt: Attempt | None = transaction.get(key)
    if attempt is None or attempt.outcome not in (AttemptOutcome.SENDING, AttemptOutcome.UNKNOWN):
        return
    if isinstance(outcome, Delivered):
        written = attempt._replace(outcome=AttemptOutcome.DELIVERED, receipt=True)
    elif isinstance(outcome, RetryLater):
        written = attempt._replace(outcome=AttemptOutcome.RETRY_LATER)
    elif isinstance(outcome, Rejected):
        written = attempt._replace(outcome=AttemptOutcome.REJECTED)
    else:
        written = attempt._replace(outcome=AttemptOutcome.UNKNOWN)
    transaction.put(key, written)


def refresh_request(design: Design, transaction: Transaction, request_id: int) -> Steps[None]:
    """Bring the request in line with its deliveries; the caller holds its lock."""
    rows = deliveries_of(transaction, request_id)
    if design.lock_within_reading:
        # A statement reads what was committed when it began, and that was before it got the lock.
        yield from transaction.lock(("request", request_id))
    request: Request = transaction.get(("request", request_id)).copy()
    if request.steps and (yield from follow_plan(design, transaction, request, rows)):
        rows = deliveries_of(transaction, request_id)
        request = transaction.get(("request", request_id)).copy()
    found = status_of(rows, len(request.steps))
    if request.status is not found:
        request.status = found
        request.version += 1
        if request.steps and found is not RequestStatus.ACCEPTED:
            transaction.put(("timer", request_id), None)
    request.ended = found is not RequestStatus.ACCEPTED and all(row.state in FINISHED for row in rows)
    transaction.put(("request", request_id), request)
