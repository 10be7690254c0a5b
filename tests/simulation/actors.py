"""The processes: API, relay, consumer, recorder, conciliation. Each starts again when it was killed."""

from __future__ import annotations

from functools import partial

from assistance.broker.contract import Confirmation
from assistance.deliveries.claim import LOOKER_DIED
from assistance.deliveries.settle import Bury, Deliver, Settlement, Standing, TryAgain, settle_look, settle_send
from assistance.domain.outcome import CannotTell, Found, Lookup, Outcome, Unknown
from tests.simulation import nets
from tests.simulation.broker import DEAD_LETTERS
from tests.simulation.design import CONCILIATION_INTERVAL
from tests.simulation.fallback import append, begin_due_steps, set_timer, start_deliveries
from tests.simulation.gate import Gate
from tests.simulation.rows import Hint, Key, OutboxRow, Request
from tests.simulation.scheduler import STEP, Steps
from tests.simulation.statements import (
    Claim,
    Lease,
    Nothing,
    ToLookUp,
    ToSend,
    bury,
    claim,
    conclude,
)
from tests.simulation.store import DatabaseLost, Transaction
from tests.simulation.world import Client, World

_BATCH = 3


class KeyReused(Exception):
    """This key came with another body before."""


def submit(world: World, client: Client, body: int) -> Steps[int]:
    """One call of the API; the id that the client is told.

    Raises `KeyReused`, `DatabaseLost`.
    """
    client.calls += 1
    base = client.number * 1000 + client.calls * 10
    while True:
        told = yield from _store(world, client, body, base)
        if told is not None:
            return told


def _store(world: World, client: Client, body: int, base: int) -> Steps[int | None]:
    """None: a call with the same key was committed meanwhile."""
    transaction = world.store.begin()
    try:
        yield STEP
        if client.key is not None and (known := world.store.keys.get(client.key)) is not None:
            if known.body != body:
                raise KeyReused
            return known.request
        hints = insert_request(world, transaction, client, base)
        yield STEP
        if not world.design.outbox_apart:
            for hint in hints:
                yield from append(transaction, hint, 0.0)
            yield STEP
        if client.key is not None and not world.design.idempotency_apart:
            yield from transaction.lock(("key", client.key))
            if client.key in world.store.keys:
                return None
            transaction.put(("key", client.key), Key(body, base))
            yield STEP
        transaction.commit()
    finally:
        transaction.abort()
    yield from _what_a_mutant_stores_later(world, client, body, base, hints)
    return base


def insert_request(world: World, transaction: Transaction, client: Client, base: int) -> list[Hint]:
    """Write a request with the deliveries of its first step; the hints are the caller's to append."""
    steps = client.plan if len(client.plan) > 1 else ()
    request = Request(base, client.number, steps, world.scheduler.now)
    transaction.put(("request", base), request)
    hints = start_deliveries(transaction, request, client.plan[0].to, 0)
    if steps:
        set_timer(transaction, request, 1)
    return hints


def _what_a_mutant_stores_later(world: World, client: Client, body: int, base: int, hints: list[Hint]) -> Steps[None]:
    if world.design.outbox_apart:
        yield STEP
        for hint in hints:
            yield from write_apart(world, hint, 0.0)
    if world.design.idempotency_apart and client.key is not None:
        yield STEP
        world.store.keys.setdefault(client.key, Key(body, base))


def write_apart(world: World, hint: Hint, delay: float) -> Steps[None]:
    """Write a hint in a transaction of its own."""
    yield from world.patiently(lambda transaction: append(transaction, hint, delay))


def relay(world: World) -> Steps[None]:
    while True:
        try:
            if world.scheduler.now >= world.broker.away_until:
                yield from _one_pass(world)
        except DatabaseLost:
            pass
        yield from world.store.until_a_hint_is_due()


def _one_pass(world: World) -> Steps[None]:
    store, now = world.store, world.scheduler.now
    due = sorted((row.available_at, row.id, row) for row in store.outbox.values() if row.available_at <= now)
    if world.design.relay_keeps_a_cursor:
        due = [found for found in due if found[1] > world.cursor]
    if not due:
        return
    transaction = store.begin()
    try:
        rows = [row for _, _, row in due if transaction.try_lock(("outbox", row.hint[:3]))][:_BATCH]
        yield STEP
        for row in rows:
            _publish(world, transaction, row)
            yield STEP
        transaction.commit()
    finally:
        transaction.abort()
    world.cursor = max([world.cursor, *(row.id for row in rows)])


def _publish(world: World, transaction: Transaction, row: OutboxRow) -> None:
    key, now = ("outbox", row.hint[:3]), world.scheduler.now
    confirmation = world.broker.publish(row.hint)
    if confirmation is Confirmation.CONFIRMED or world.design.confirm_not_awaited:
        transaction.put(key, None)
    elif confirmation is Confirmation.UNKNOWN:
        transaction.put(key, row._replace(available_at=now + 5.0))
    else:
        pause = 2.0 ** (row.refusals + 1) * (0.8 + 0.4 * world.scheduler.random())
        transaction.put(key, row._replace(available_at=now + min(pause, 300.0), refusals=row.refusals + 1))


def consumer(world: World, channel: str) -> Steps[None]:
    broker, gate = world.broker, Gate(world, channel)
    while True:
        try:
            wait = yield from gate.look()
        except DatabaseLost:
            wait = 1.0
        if wait:
            yield wait
            continue
        taken = broker.take(channel)
        if taken is None:
            yield None
            continue
        number, hint = taken
        yield STEP
        if world.design.acks_before_recording:
            broker.ack(number)
        rejected = yield from _handle(world, gate, channel, hint)
        yield STEP
        if rejected:
            broker.reject(number)
        else:
            broker.ack(number)


def _handle(world: World, gate: Gate, channel: str, hint: Hint) -> Steps[bool]:
    """Work on one message; true when it goes to the dead letters."""
    if hint.series == 0:  # nobody can read it
        return True
    claimed: Claim = yield from world.patiently(lambda t: claim(world.design, t, hint))
    if isinstance(claimed, ToSend):
        return (yield from _send(world, gate, channel, claimed))
    if isinstance(claimed, ToLookUp):
        return (yield from _look_up(world, gate, channel, claimed))
    if claimed.reason == "no_such_delivery":
        yield from world.patiently(lambda t: _stray(t, hint))
    return claimed.reason == "dead"


def _stray(transaction: Transaction, hint: Hint) -> Steps[Nothing]:
    yield from nets.record_stray(transaction, "unknown_delivery", hint)
    return Nothing("recorded")


def _send(world: World, gate: Gate, channel: str, claimed: ToSend) -> Steps[bool]:
    lease, line = claimed.lease, world.lines[channel]
    if world.design.marks_before_sending:
        yield from _conclude(world, lease, Deliver(receipt={"id": "0"}), None)
    gate.watch_call()
    outcome: Outcome = yield from world.providers.send(lease, says_repeat=claimed.may_repeat, lookup=line.lookup)
    gate.record(outcome)
    standing = Standing(spent=lease.attempt - lease.refunded, looks=0, elapsed_seconds=_elapsed(world, lease))
    settlement = settle_send(outcome, standing, line.policy, world.scheduler.random())
    if world.design.no_look_up and isinstance(outcome, Unknown):
        problem = settlement.problem if not isinstance(settlement, Deliver) else None
        assert problem is not None
        settlement = TryAgain(delay_seconds=1.0, refund=False, problem=problem, may_repeat=True)
    return (yield from _conclude(world, lease, settlement, outcome))


def _look_up(world: World, gate: Gate, channel: str, claimed: ToLookUp) -> Steps[bool]:
    lease, line = claimed.lease, world.lines[channel]
    if claimed.late_receipt:
        found: Lookup = Found(receipt={"id": "1"})
    elif claimed.looker_died and not line.policy.retry.allows(_elapsed(world, lease), 0):
        found = CannotTell(code=LOOKER_DIED, detail="Died.", look_again=True)
    else:
        if line.lookup:
            gate.watch_call()
        found = yield from world.providers.lookup(lease, possible=line.lookup)
        gate.record(found)
    standing = Standing(spent=lease.attempt - lease.refunded, looks=lease.looks, elapsed_seconds=_elapsed(world, lease))
    settlement = settle_look(found, standing, line.policy, world.scheduler.random())
    return (yield from _conclude(world, lease, settlement, None))


def _elapsed(world: World, lease: Lease) -> float:
    return lease.elapsed + world.scheduler.now - lease.claimed_at


def _conclude(world: World, lease: Lease, settlement: Settlement, outcome: Outcome | None) -> Steps[bool]:
    yield STEP
    written = yield from world.patiently(lambda t: conclude(world.design, t, lease, settlement, outcome))
    if world.design.outbox_apart and isinstance(written, TryAgain):
        yield STEP
        yield from write_apart(world, lease.hint._replace(attempt=lease.attempt + 1), written.delay_seconds)
    if world.design.letter_apart and isinstance(written, Bury):
        yield STEP
        yield from world.patiently(lambda t: _bury_apart(t, lease.hint, written.reason))
    return isinstance(written, Bury)


def _bury_apart(transaction: Transaction, hint: Hint, reason: str) -> Steps[None]:
    bury(transaction, hint, reason)
    return
    yield


def recorder(world: World) -> Steps[None]:
    broker = world.broker
    while True:
        taken = broker.take(DEAD_LETTERS)
        if taken is None:
            yield None
            continue
        number, hint = taken
        yield STEP
        yield from world.patiently(partial(_record, hint))
        yield STEP
        broker.ack(number)


def _record(hint: Hint, transaction: Transaction) -> Steps[str]:
    if hint.series == 0:
        return (yield from nets.record_stray(transaction, "undecodable", hint))
    return (yield from nets.record(transaction, hint))


def conciliation(world: World) -> Steps[None]:
    while True:
        yield CONCILIATION_INTERVAL
        try:
            yield from _conciliate(world)
        except DatabaseLost:
            continue
        if not world.faults_are_on and is_quiet(world):
            world.scheduler.is_over = True


def _conciliate(world: World) -> Steps[None]:
    """One round; a statement that would find nothing is left out, because it changes nothing and takes time."""
    store, now = world.store, world.scheduler.now
    if any(row.lease_until is not None and row.lease_until < now for row in store.deliveries.values()):
        yield from world.once(nets.expire_leases)
    if any(timer.due_at <= now for timer in store.timers.values()):
        yield from world.once(begin_due_steps)
    if any(row.check_at is not None and row.check_at <= now for row in store.deliveries.values()):
        yield from world.once(lambda t: nets.rearm(t, world.check_that_a_hint_is_left))


def is_quiet(world: World) -> bool:
    """Whether nothing is left to do."""
    return (
        not world.store.outbox
        and world.broker.is_empty()
        and not world.store.timers
        and all(row.check_at is None for row in world.store.deliveries.values())
        and all(client.open_calls == 0 for client in world.clients)
    )
