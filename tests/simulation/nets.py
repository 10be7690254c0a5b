"""The statements of the nets underneath: conciliation, recorder, and what operators do."""

from __future__ import annotations

from collections.abc import Callable

from assistance.deliveries.claim import LOOKER_DIED
from assistance.deliveries.resolve import Resolution
from assistance.deliveries.settle import Reason
from assistance.domain.delivery import FINISHED, DeliveryState
from tests.simulation.channels import waits_in_queue
from tests.simulation.design import CHECK_AFTER, Design
from tests.simulation.fallback import append
from tests.simulation.rows import Delivery, Hint, Letter
from tests.simulation.scheduler import STEP, Steps
from tests.simulation.statements import bury, mark_attempt_unknown, refresh_request
from tests.simulation.store import Transaction

_PENDING, _UNKNOWN, _DEAD = DeliveryState.PENDING, DeliveryState.UNKNOWN, DeliveryState.DEAD
_DELIVERED = DeliveryState.DELIVERED
RECORDER_PAUSE = 30.0


def expire_leases(transaction: Transaction) -> Steps[int]:
    """Deliveries whose holder went away become unknown and due for a look-up; how many there were."""
    store = transaction.store
    now, expired = store.scheduler.now, 0
    for row in list(store.deliveries.values()):
        if row.lease_until is None or row.lease_until >= now or not transaction.try_lock(("delivery", row.id)):
            continue
        mark_attempt_unknown(transaction, row)
        was_looked_up = row.state is _UNKNOWN
        row = row.copy()
        row.state = _UNKNOWN
        if was_looked_up:
            row.error = LOOKER_DIED
        row.lease_token = row.lease_until = None
        row.next_attempt_at = row.check_at = now
        transaction.put(("delivery", row.id), row)
        expired += 1
    yield STEP
    return expired


def rearm(transaction: Transaction, watch: Callable[[int], None] = lambda _id: None) -> Steps[int]:
    """Hint anew at what is past its `check_at` and has no hint in the outbox; how many there were.

    `watch` is told of each of them before anything is written.
    """
    store = transaction.store
    now = store.scheduler.now
    hinted = {key[0] for key in store.outbox}
    stragglers = [
        row
        for row in list(store.deliveries.values())
        if row.check_at is not None
        and row.check_at <= now
        and row.lease_token is None
        and row.held_at is None
        and row.id not in hinted
        and not waits_in_queue(transaction, row.channel)
        and transaction.try_lock(("delivery", row.id))
    ]
    for before in stragglers:
        watch(before.id)
    yield STEP
    for before in stragglers:
        row = before.copy()
        row.reconciled += 1
        row.check_at = now + CHECK_AFTER * 2 ** min(before.reconciled, 7)
        transaction.put(("delivery", row.id), row)
        yield from append(transaction, hint_for(row), max(0.0, row.next_attempt_at - now))
    return len(stragglers)


def hint_for(row: Delivery) -> Hint:
    """The hint that makes a consumer look at this row now."""
    return Hint(row.id, row.series, max(1, row.attempt + (row.state is _PENDING)), row.channel)


def record(transaction: Transaction, hint: Hint) -> Steps[str]:
    """What the recorder does with a message of the dead letter queue."""
    key = ("delivery", hint.delivery)
    yield from transaction.lock(key)
    row: Delivery | None = transaction.get(key)
    if row is None:
        return (yield from record_stray(transaction, "unknown_delivery", hint))
    if row.series != hint.series:
        return "stale"
    if row.state is _DEAD:
        return "dead"
    if row.state not in FINISHED:
        yield from append(transaction, hint_for(row), RECORDER_PAUSE)
        return "offered_again"
    return "finished"


def record_stray(transaction: Transaction, reason: str, hint: Hint) -> Steps[str]:
    """Write down a message that belongs to no delivery, once however often it comes."""
    yield from transaction.lock(("stray", hint.delivery))
    letters = transaction.store.letters.values()
    if not any(x.reason == reason and x.delivery == hint.delivery and x.resolution is None for x in letters):
        transaction.put(("letter", transaction.store.next_number()), Letter(hint.delivery, hint.series, reason))
    return reason


def replay(design: Design, number: int, transaction: Transaction) -> Steps[bool]:
    """Put a dead letter back; false when it is resolved already."""
    store = transaction.store
    letter = store.letters[number]
    row: Delivery = store.deliveries[letter.delivery]
    yield from transaction.lock(("request", row.request))
    yield from transaction.lock(("letter", number))
    letter = transaction.get(("letter", number))
    if letter.resolution is not None:
        return False
    transaction.put(("letter", number), letter._replace(resolution="replayed"))
    yield from transaction.lock(("delivery", row.id))
    row = transaction.get(("delivery", row.id))
    if row.state is not _DEAD:
        return False
    now = store.scheduler.now
    row = row.copy()
    row.state = _PENDING
    row.series += 1
    row.attempt = row.refunded = row.looks = row.reconciled = 0
    row.first_attempt_at = None
    row.may_repeat = row.may_repeat or letter.reason == Reason.OUTCOME_UNKNOWN
    row.next_attempt_at = now
    row.check_at = now + CHECK_AFTER
    transaction.put(("delivery", row.id), row)
    yield STEP
    yield from append(transaction, hint_for(row), 0.0)
    yield from refresh_request(design, transaction, row.request)
    return True


def resolve(design: Design, delivery: int, resolution: Resolution, transaction: Transaction) -> Steps[bool]:
    """An operator says what became of a held delivery; false when it is not held any more."""
    store = transaction.store
    yield from transaction.lock(("request", store.deliveries[delivery].request))
    yield from transaction.lock(("delivery", delivery))
    row: Delivery = transaction.get(("delivery", delivery))
    if row.held_at is None:
        return False
    now = store.scheduler.now
    row = row.copy()
    row.held_at = None
    if resolution is Resolution.DELIVERED:
        row.state, row.check_at, row.receipt, row.error = _DELIVERED, None, True, None
    elif resolution is Resolution.DEAD:
        row.state, row.check_at = _DEAD, None
    else:
        row.state, row.looks, row.may_repeat, row.refunded = _PENDING, 0, True, row.attempt
        row.first_attempt_at, row.reconciled, row.error = None, 0, "sent_again"
        row.next_attempt_at, row.check_at = now, now + CHECK_AFTER
    transaction.put(("delivery", delivery), row)
    yield STEP
    if resolution is Resolution.RESEND:
        yield from append(transaction, hint_for(row), 0.0)
    if resolution is Resolution.DEAD:
        bury(transaction, hint_for(row), Reason.OUTCOME_UNKNOWN)
    yield from refresh_request(design, transaction, row.request)
    return True
