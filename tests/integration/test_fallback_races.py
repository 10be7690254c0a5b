"""Fallback: two things in the same moment, and several timekeepers."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import text

from tests.builders import RECEIPT, World
from tests.integration.fallback_tools import (
    LATER,
    REJECTED,
    TOPICS,
    begun,
    closes,
    let_time_pass,
    states,
    timers,
)


@pytest.fixture
def world(worlds: Callable[..., World]) -> World:
    return worlds(TOPICS)


def test_a_step_that_dies_in_the_moment_its_time_comes_begins_the_next_one_once(world: World) -> None:
    rounds = 15
    requests = [world.submit("sales").id for _ in range(rounds)]
    leases = [world.take(request, "team").lease for request in requests]
    ready = Barrier(2)

    def die() -> None:
        for lease in leases:
            ready.wait(30)
            assert world.end(lease, REJECTED).kept

    def be_late() -> None:
        for request in requests:
            let_time_pass(world, request, 121)
            ready.wait(30)
            world.fire_timers()

    with ThreadPoolExecutor(2) as pool:
        for task in [pool.submit(die), pool.submit(be_late)]:
            task.result(100)
    world.fire_timers()
    assert all(states(world, request) == {"team": "dead", "mail": "pending"} for request in requests)
    assert [len(begun(world, request)) for request in requests] == [1] * rounds
    assert timers(world) == [(2, 600.0)] * rounds
    assert closes(world)


def test_two_steps_that_tell_people_in_the_same_moment_both_count(world: World) -> None:
    leases = []
    for _ in range(15):
        request = world.submit("sales").id
        let_time_pass(world, request, 121)
        world.fire_timers()
        leases.append((world.take(request, "team").lease, world.take(request, "mail").lease))
    ready = Barrier(2)

    def settle_all(column: int) -> None:
        for row in leases:
            ready.wait(30)
            # One tells people, the other fails or tells them too: it is never tried again.
            assert world.end(row[column], RECEIPT if column else LATER).kept

    with ThreadPoolExecutor(2) as pool:
        for task in [pool.submit(settle_all, column) for column in (0, 1)]:
            task.result(100)
    assert world.count("deliveries", "channel = 'mail' AND state = 'delivered'") == 15
    assert world.count("deliveries", "channel = 'team' AND state = 'cancelled'") == 15
    assert world.count("requests", "status = 'delivered' AND ended_at IS NOT NULL") == 15
    assert world.count("timers") == 0
    assert closes(world)


def test_two_timekeepers_begin_each_step_once_however_many_are_due(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assistance.conciliation.timers._LIMIT", 3)
    requests = [world.submit("sales").id for _ in range(10)]
    for request in requests:
        let_time_pass(world, request, 121)
    with ThreadPoolExecutor(2) as pool:
        for task in [pool.submit(world.fire_timers) for _ in range(2)]:
            task.result(60)
    world.fire_timers()
    assert [begun(world, request) for request in requests] == [[(1, "time", ["mail"])]] * 10


def test_a_timer_of_a_request_that_somebody_holds_is_passed_over_and_fires_later(world: World) -> None:
    held, free = world.submit("sales").id, world.submit("sales").id
    for request in (held, free):
        let_time_pass(world, request, 121)
    with world.database.transaction() as connection:
        connection.execute(text("SELECT 1 FROM requests WHERE id = :id FOR NO KEY UPDATE"), {"id": held})
        world.fire_timers()
        assert (len(states(world, held)), len(states(world, free))) == (1, 2)
    world.fire_timers()
    assert len(states(world, held)) == 2


def test_the_winner_does_not_wait_for_the_relay_that_is_publishing_a_losers_hint(world: World) -> None:
    request = world.submit("sales").id
    let_time_pass(world, request, 121)
    world.fire_timers()
    with world.database.transaction() as relay:
        relay.execute(text("SELECT 1 FROM outbox WHERE channel = 'team' FOR UPDATE"))
        world.deliver(request, RECEIPT, "mail")
        assert states(world, request) == {"team": "cancelled", "mail": "delivered"}
    assert world.count("outbox", "channel = 'team'") == 1
