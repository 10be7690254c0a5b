"""Whatever fails, in whatever order: nothing is lost, what is doubled could not be known, and everything ends."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.simulation.actors import submit
from tests.simulation.campaign import run_twice
from tests.simulation.design import REAL, RETRY
from tests.simulation.fallback import PLANS
from tests.simulation.people import caller, new_client
from tests.simulation.run import fingerprint, play, run, start_processes
from tests.simulation.scheduler import Steps
from tests.simulation.world import World

ROOT = Path(__file__).resolve().parents[2]
#: Where nobody needs an operator and no step begins by time.
PLANS_WITHOUT_PEOPLE = (PLANS[0], PLANS[1], PLANS[3])
RUNS_OF_A_BLOCK = 600
#: What a block of so many runs must have gone through at least; a calm run proves nothing.
AT_LEAST = {
    "crashes": 2000,
    "stops": 300,
    "database kills": 200,
    "broker kills": 200,
    "queues lost": 100,
    "ambiguous commits": 300,
    "ambiguous confirms": 200,
    "ambiguous attempts": 300,
    "lost or slow answers": 300,
    "providers silent": 100,
    "breaker open": 15,
    "breaker closed": 15,
    "copies": 300,
    "nacked": 50,
    "returned": 10,
    "replays": 50,
    "re-armed": 30,
    "held, settled by hand": 50,
    "delivered": 1000,
    "dead": 20,
    "cancelled": 50,
    "seen again on blind": 30,
}


@pytest.mark.parametrize("block", range(6))
def test_whatever_fails_nothing_is_lost_and_everything_ends(block: int) -> None:
    first = block * RUNS_OF_A_BLOCK
    totals = run_twice(range(first, first + RUNS_OF_A_BLOCK))
    assert totals.violations == []
    missed = {name: totals.counts[name] for name, least in AT_LEAST.items() if totals.counts[name] < least}
    assert not missed, f"too calm: {missed}"


def test_a_run_depends_on_its_seed_alone() -> None:
    script = "from tests.simulation.run import fingerprint, run; print([fingerprint(run(seed)) for seed in range(20)])"
    environment = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    other = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    )
    assert other.stdout.strip() == str([fingerprint(run(seed)) for seed in range(20)])


def test_the_order_and_the_number_of_messages_change_nothing() -> None:
    for seed in range(150):
        assert _rows_of_calm_run(seed, copies=0.0) == _rows_of_calm_run(seed, copies=0.6), seed


def _rows_of_calm_run(seed: int, *, copies: float) -> list[tuple[object, ...]]:
    """The rows after a run in which only the providers fail, and the broker copies and shuffles if asked to."""
    world = World(seed, REAL)
    patient = replace(RETRY, give_up_after=1e6)  # whether time is up may depend on the order
    world.lines = {
        name: replace(line, policy=replace(line.policy, retry=patient)) for name, line in world.lines.items()
    }
    world.providers.trouble = 0.3
    world.broker.in_order = not copies
    world.broker.copy_rate = copies
    start_processes(world)
    for number in range(1, 4):
        client = new_client(world, number, PLANS_WITHOUT_PEOPLE)
        client.open_calls = 1
        world.scheduler.spawn(partial(caller, world, client), 5 * world.random.random())
    assert play(world, seed).violations == []
    rows = sorted(world.store.deliveries.values(), key=lambda row: row.id)
    return [(row.id, row.state, row.series, row.attempt, row.refunded) for row in rows]


def test_a_client_is_never_told_an_id_that_a_crash_took_back() -> None:
    world = World(1, REAL)
    told: list[int] = []

    def impatient() -> Steps[None]:
        client = new_client(world, 1, PLANS)
        told.append((yield from submit(world, client, client.body)))
        world.store.kill(1.0)

    world.scheduler.spawn_once(impatient(), 0.0)
    world.scheduler.run(5.0)
    assert told
    assert set(told) <= world.store.requests.keys()
