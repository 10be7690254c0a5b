"""What must hold at the end of a run; the numbers are those of the invariants in docs/simulation.md."""

from __future__ import annotations

from collections.abc import Iterator

from assistance.deliveries.request_state import status_of
from assistance.domain.delivery import FINISHED, DeliveryState
from assistance.domain.request import RequestStatus
from tests.simulation.design import RETRY
from tests.simulation.world import LIVENESS_SECONDS, World

#: Tries that count within the budget, when each waits as briefly as the jitter allows.
_shortest = [delay * (1 - RETRY.jitter) for delay in RETRY.delays]
MOST_ATTEMPTS = 2 + len(RETRY.delays) + int((RETRY.give_up_after - sum(_shortest)) / _shortest[-1])


def violations(world: World) -> Iterator[str]:
    """Every invariant that does not hold, one sentence each."""
    yield from _nothing_lost(world)
    yield from _idempotency(world)
    yield from _everything_ended(world)
    yield from _accounts(world)
    yield from _letters(world)
    yield from _what_people_saw(world)
    yield from _attempts(world)


def _nothing_lost(world: World) -> Iterator[str]:
    told = {number for client in world.clients for number in client.told}
    for number in sorted(told - world.store.requests.keys()):
        yield f"I1: request {number} was accepted and is gone"
    for number in sorted(world.store.requests):
        if not any(row.request == number for row in world.store.deliveries.values()):
            yield f"I1: request {number} has no delivery"


def _idempotency(world: World) -> Iterator[str]:
    ids: dict[int, set[int]] = {}
    for client in world.clients:
        if client.key is not None:
            stored = {row.id for row in world.store.requests.values() if row.client == client.number}
            ids.setdefault(client.key, set()).update(stored, client.told)
    for key, found in sorted(ids.items()):
        if len(found) > 1:
            yield f"I7: key {key} made the requests {sorted(found)}"


def _everything_ended(world: World) -> Iterator[str]:
    if world.scheduler.is_over:
        return
    for row in world.store.deliveries.values():
        if row.state is DeliveryState.SENDING:
            yield f"I10: delivery {row.id} is still sending {LIVENESS_SECONDS:g} s after the last fault"
        elif row.state not in FINISHED:
            yield f"I2: delivery {row.id} is still {row.state} {LIVENESS_SECONDS:g} s after the last fault"
    if not world.broker.is_empty() or world.store.outbox:
        yield f"I11: hints are left {LIVENESS_SECONDS:g} s after the last fault"
    for client in world.clients:
        if client.open_calls:
            yield f"I16: client {client.number} is still not answered"


def _accounts(world: World) -> Iterator[str]:
    store = world.store
    for request in store.requests.values():
        rows = [row for row in store.deliveries.values() if row.request == request.id]
        if request.status is not status_of(rows, len(request.steps)):
            yield f"I8: request {request.id} is {request.status}, its deliveries are {[str(row.state) for row in rows]}"
        if request.status is RequestStatus.ACCEPTED and world.scheduler.is_over:
            yield f"I2: request {request.id} is still accepted, its deliveries are {[str(row.state) for row in rows]}"
        ended = request.status is not RequestStatus.ACCEPTED and all(row.state in FINISHED for row in rows)
        if request.ended is not ended:
            yield f"I8: request {request.id} has ended: {request.ended}, its deliveries say {ended}"


def _letters(world: World) -> Iterator[str]:
    store = world.store
    letters = list(store.letters.values())
    for row in store.deliveries.values():
        of_series = [x for x in letters if x.delivery == row.id and x.series == row.series]
        if row.state is DeliveryState.DEAD and (len(of_series) != 1 or not row.error):
            yield f"I11: dead delivery {row.id} has {len(of_series)} letters and the error {row.error}"
    for letter in letters:
        about = store.deliveries.get(letter.delivery)
        if letter.resolution is not None or about is None:
            continue
        if about.state is not DeliveryState.DEAD or about.series != letter.series:
            yield f"I11: an open letter about series {letter.series} of delivery {about.id}, which is {about.state}"
    strays = sum(letter.delivery < 0 for letter in letters)
    if world.scheduler.is_over and strays != world.strays and not world.scheduler.counts["queues lost"]:
        yield f"I11: {world.strays} messages belonged to no delivery, {strays} were recorded"


def _what_people_saw(world: World) -> Iterator[str]:
    store, providers = world.store, world.providers
    for row in store.deliveries.values():
        if row.state is DeliveryState.DELIVERED and (row.id, row.series) not in providers.shown:
            yield f"I9: delivery {row.id} is delivered and nobody saw it"
    for key, shown in providers.shown.items():
        delivery, series = key
        row = store.deliveries[delivery]
        unsure = sum(attempt[:2] == key for attempt in store.unsure)
        arrived = row.state is DeliveryState.DELIVERED and row.series == series
        if len(shown) > unsure + arrived:
            yield f"I5: delivery {delivery} was seen {len(shown)} times with {unsure} unsure attempts"
        if world.lines[row.channel].lookup and len(shown) > 1 and key not in providers.stale:
            yield f"I6: delivery {delivery} was seen {len(shown)} times on a channel with look-up"
        if row.channel == "hold" and len(shown) > 1 + world.resends.get(key, 0) and key not in providers.stale:
            yield f"I5: delivery {delivery} was seen {len(shown)} times on a channel that holds"


def _attempts(world: World) -> Iterator[str]:
    for row in world.store.deliveries.values():
        if row.attempt - row.refunded > MOST_ATTEMPTS + world.resends.get((row.id, row.series), 0):
            yield f"I12: delivery {row.id} was tried {row.attempt} times, {row.refunded} of them free"
