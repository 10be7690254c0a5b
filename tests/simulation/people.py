"""Those outside: clients who repeat what was not answered, operators, and the faults that befall the servers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from assistance.deliveries.resolve import Resolution
from assistance.domain.route import Step
from tests.simulation import nets
from tests.simulation.actors import KeyReused, submit
from tests.simulation.fallback import PLANS
from tests.simulation.rows import Hint
from tests.simulation.scheduler import Crash, Steps
from tests.simulation.store import DatabaseLost, Violation
from tests.simulation.world import FAULTS_SECONDS, Client, World

_TRIES_WITHOUT_KEY = 3
_MOST_REPLAYS = 2


def caller(world: World, client: Client) -> Steps[None]:
    """Calls until it is answered; without a key it gives up after a few tries, because each may be a new request."""
    failures = 0
    while client.key is not None or failures < _TRIES_WITHOUT_KEY:
        try:
            if failures:
                yield 2.0
            told = yield from submit(world, client, client.body)
            _check_the_answer(world, client, told)
        except (Crash, DatabaseLost):
            failures += 1
            continue
        except KeyReused:
            if world.store.keys[client.key or 0].body == client.body:
                raise Violation(f"I7: key {client.key} is refused for the body that it came with") from None
        break
    client.open_calls -= 1


def add_client(world: World, number: int) -> None:
    """One caller: most have a key, some call twice at once, some use the key for another body too."""
    draw = world.scheduler.random
    client = new_client(world, number, PLANS)
    start = draw() * FAULTS_SECONDS * 0.6
    twins = [client]
    if client.key is not None and draw() < 0.3:
        twins.append(client)
    if client.key is not None and draw() < 0.1:
        other = Client(number=number + 50, plan=client.plan, key=client.key, body=2)
        world.clients.append(other)
        twins.append(other)
    for twin in twins:
        twin.open_calls += 1
        world.scheduler.spawn(partial(caller, world, twin), start + 0.02 * draw())


def new_client(world: World, number: int, plans: Sequence[tuple[Step, ...]]) -> Client:
    draw = world.scheduler.random
    plan = plans[int(draw() * len(plans))]
    client = Client(number=number, plan=plan, key=number if draw() < 0.7 else None, body=1)
    world.clients.append(client)
    return client


def _check_the_answer(world: World, client: Client, told: int) -> None:
    if told not in world.store.requests:
        raise Violation(f"I1: request {told} was accepted and is not there")
    client.told.append(told)
    world.scheduler.counts["accepted"] += 1
    if client.key is not None and world.keys_in_use.setdefault(client.key, client.body) != client.body:
        raise Violation(f"I7: key {client.key} was accepted with two bodies")


def operator(world: World) -> Steps[None]:
    """Replays dead letters, and settles what is held: by asking people whether it arrived."""
    while not world.scheduler.is_over:
        yield 6.0
        try:
            yield from _replay_one(world)
            yield from _settle_held(world)
        except DatabaseLost:
            pass


def _replay_one(world: World) -> Steps[None]:
    store = world.store
    for number, letter in store.letters.items():
        if letter.resolution is None and letter.delivery in store.deliveries and world.replays < _MOST_REPLAYS:
            world.replays += 1
            if (yield from world.once(partial(nets.replay, world.design, number))):
                world.scheduler.counts["replays"] += 1
            return


def _settle_held(world: World) -> Steps[None]:
    for row in list(world.store.deliveries.values()):
        if row.held_at is None:
            continue
        key = (row.id, row.series)
        resolution = Resolution.DELIVERED if key in world.providers.shown else Resolution.RESEND
        if resolution is Resolution.RESEND and world.scheduler.random() < 0.2:
            resolution = Resolution.DEAD
        if resolution is Resolution.RESEND:
            world.resends[key] = world.resends.get(key, 0) + 1
        if (yield from world.once(partial(nets.resolve, world.design, row.id, resolution))):
            world.scheduler.counts["held, settled by hand"] += 1


def schedule_faults(world: World) -> None:
    """Draw what goes wrong in this run, and when. Some runs are calm, some are terrible."""
    draw, scheduler, store, broker = world.scheduler.random, world.scheduler, world.store, world.broker
    scheduler.crash_rate = (0.0, 0.01, 0.03, 0.06)[int(draw() * 4)]
    scheduler.stop_rate = (0.0, 0.005, 0.02)[int(draw() * 3)]
    store.ambiguous_rate = (0.0, 0.02, 0.08)[int(draw() * 3)]
    broker.copy_rate = (0.0, 0.1, 0.4)[int(draw() * 3)]
    broker.nack_rate = (0.0, 0.05)[int(draw() * 2)]
    broker.unsure_rate = (0.0, 0.05, 0.2)[int(draw() * 3)]
    world.providers.trouble = (0.1, 0.4, 0.8)[int(draw() * 3)]
    if draw() < 0.4:
        scheduler.spawn_once(_kill_database(world), draw() * FAULTS_SECONDS)
    if draw() < 0.4:
        scheduler.spawn_once(_restart_broker(world), draw() * FAULTS_SECONDS)
    if draw() < 0.3:
        scheduler.spawn_once(_lose_queues(world), draw() * FAULTS_SECONDS)
    if draw() < 0.3:
        scheduler.spawn_once(_silence_providers(world), draw() * FAULTS_SECONDS)
    if draw() < 0.2:
        scheduler.spawn_once(_kill_everything(world), draw() * FAULTS_SECONDS)
    if draw() < 0.2:
        scheduler.spawn_once(_send_strays(world), draw() * FAULTS_SECONDS)
    scheduler.spawn_once(_end_faults(world), FAULTS_SECONDS)


def _kill_database(world: World) -> Steps[None]:
    world.store.kill(2.0 * world.scheduler.random())
    return
    yield


def _restart_broker(world: World) -> Steps[None]:
    away_for = 3.0 * world.scheduler.random()
    world.broker.restart(away_for)
    yield 2.0 * away_for
    world.broker.come_back()


def _silence_providers(world: World) -> Steps[None]:
    world.scheduler.counts["providers silent"] += 1
    world.providers.silent_until = world.scheduler.now + 12.0 * world.scheduler.random()
    return
    yield


def _lose_queues(world: World) -> Steps[None]:
    """The consumers lose contact first, so that there is something in the queues to be lost."""
    world.broker.stall(4.0)
    yield 2.0
    world.broker.wipe(2.0 * world.scheduler.random())
    yield 3.0
    world.broker.come_back()


def _kill_everything(world: World) -> Steps[None]:
    world.store.kill(1.0)
    world.broker.restart(1.0)
    world.scheduler.crash_all()
    yield 2.0
    world.broker.come_back()


def _send_strays(world: World) -> Steps[None]:
    """A message of a delivery that a restored database does not know, and one that nobody can read."""
    world.broker.put("lookup", Hint(-1, 1, 1, "lookup"))
    world.broker.put("blind", Hint(-2, 0, 0, "blind"))
    world.strays += 2
    return
    yield


def _end_faults(world: World) -> Steps[None]:
    scheduler, store, broker = world.scheduler, world.store, world.broker
    scheduler.crash_rate = scheduler.stop_rate = 0.0
    store.ambiguous_rate = 0.0
    broker.copy_rate = broker.nack_rate = broker.unsure_rate = 0.0
    world.providers.trouble = world.providers.silent_until = 0.0
    return
    yield
