"""One seed, one run: faults, then none; then the accounts are checked."""

from __future__ import annotations

import marshal
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from zlib import crc32

from tests.simulation.actors import conciliation, consumer, recorder, relay
from tests.simulation.checker import violations
from tests.simulation.design import LEASE, REAL, Design
from tests.simulation.people import add_client, operator, schedule_faults
from tests.simulation.store import Violation
from tests.simulation.world import FAULTS_SECONDS, LIVENESS_SECONDS, World


@dataclass(slots=True)
class Report:
    """What one run did."""

    seed: int
    violations: list[str]
    steps: int
    seconds: float  # of the model, from the last fault to the end
    trace: bytes
    counts: Counter[str] = field(default_factory=Counter)


def run(seed: int, design: Design = REAL) -> Report:
    """Play one seed."""
    world = World(seed, design)
    start_processes(world)
    start_people(world)
    schedule_faults(world)
    return play(world, seed)


def play(world: World, seed: int) -> Report:
    """Run a world to its end and check it."""
    scheduler = world.scheduler
    try:
        scheduler.run(FAULTS_SECONDS + LIVENESS_SECONDS)
        found = list(violations(world))
    except Violation as violation:
        found = [str(violation)]
    counts = scheduler.counts
    _count_what_was_seen(world)
    return Report(
        seed=seed,
        violations=found,
        steps=scheduler.taken,
        seconds=scheduler.now - FAULTS_SECONDS,
        trace=marshal.dumps([*scheduler.trace, sorted(counts.items())], 2),
        counts=counts,
    )


def start_processes(world: World) -> None:
    """Relays, consumers, recorder, conciliation."""
    scheduler, draw = world.scheduler, world.scheduler.random
    scheduler.stop_seconds = 1.5 * LEASE
    scheduler.on_loss = world.broker.disconnect
    for _ in range(1 + (draw() < 0.5)):
        scheduler.spawn(partial(relay, world), draw())
    for name in world.lines:
        scheduler.spawn(partial(consumer, world, name), draw())
        scheduler.spawn(partial(consumer, world, name), draw())
    scheduler.spawn(partial(recorder, world), draw())
    for _ in range(1 + (draw() < 0.3)):
        scheduler.spawn(partial(conciliation, world), 4 * draw())


def start_people(world: World) -> None:
    """An operator, and one to three callers."""
    scheduler, draw = world.scheduler, world.scheduler.random
    scheduler.spawn(partial(operator, world), 10 * draw())
    for number in range(1, 2 + int(draw() * 3)):
        add_client(world, number)


def _count_what_was_seen(world: World) -> None:
    counts, store = world.scheduler.counts, world.store
    counts["deliveries"] += len(store.deliveries)
    for row in store.deliveries.values():
        counts[row.state.value] += 1
    counts["ambiguous attempts"] += len(store.unsure)
    counts["sends by holders that stood still"] += len(world.providers.stale)
    for (delivery, _), shown in world.providers.shown.items():
        channel = store.deliveries[delivery].channel if delivery in store.deliveries else "lookup"
        counts[f"seen again on {channel}"] += len(shown) - 1


def fingerprint(report: Report) -> int:
    """A short number for a trace, the same in every process."""
    return crc32(report.trace)
