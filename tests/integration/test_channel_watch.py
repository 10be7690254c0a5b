"""Breakers, pauses and probes as several consumers share them, over the in-memory broker and RabbitMQ."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from assistance.broker.contract import Answer, Received
from assistance.broker.memory import MemoryBroker
from assistance.broker.topology import queue_of
from assistance.conciliation.ledger import read_ledger
from assistance.consumer.deliver import Deliverer
from assistance.consumer.gate import Gate, Mode
from assistance.consumer.shared import SharedTransactions, Times
from assistance.consumer.watch import Watch, Watched
from assistance.deliveries.channel_states import (
    PauseCause,
    change_breaker,
    pause,
    resume,
    states_of,
)
from assistance.domain.errors import DatabaseUnavailable
from assistance.domain.hint import HINT_TYPE, encode
from assistance.domain.outcome import Unknown
from assistance.resilience.circuit_breaker import MOST_SILENT_IN_A_ROW, BreakerState
from tests.builders import CHECK_AFTER, World, eventually, in_transaction
from tests.integration.consumers import ARRIVED, PROBE_AFTER, REFUSED, REVOKED, SOON, Install, Provider
from tests.proxy import Proxy


def test_a_channel_that_refuses_opens_costs_no_attempt_is_probed_by_one_at_a_time_and_drains(
    worlds: Callable[..., World], install: Install
) -> None:
    consumers = install(worlds(retry=SOON))
    provider = Provider(REFUSED)
    for _ in range(2):
        consumers.consume(people=provider)
    for _ in range(20):
        consumers.world.submit()
    # Each consumer opens by its own third silence at the latest, when its four workers may have calls in hand.
    before_open = 2 * (MOST_SILENT_IN_A_ROW - 1 + 4)
    eventually(lambda: len(provider.calls) >= before_open + 3, 30)
    provider.answer = ARRIVED
    recovered = time.monotonic()
    eventually(consumers.all_delivered(20), 30)
    probes = [at for at in provider.calls if at < recovered][before_open:]
    assert all(later - earlier >= PROBE_AFTER for earlier, later in itertools.pairwise(probes))
    assert consumers.attempts() == len(provider.calls)
    assert consumers.state().breaker.state is BreakerState.CLOSED
    assert consumers.state().is_out is False
    assert in_transaction(consumers.world.database, read_ledger).closes
    assert consumers.world.letters() == []


def test_while_a_breaker_is_open_nothing_is_claimed_and_nothing_is_written(world: World, install: Install) -> None:
    consumers = install(world)
    in_transaction(
        world.database,
        lambda connection: change_breaker(
            connection, "people", lambda breaker, now: breaker.opened(now, 3600), reason="The test says so."
        ),
    )
    provider = Provider()
    consumer = consumers.consume(people=provider)
    request = world.submit().id
    before = world.delivery(request)
    eventually(lambda: world.count("outbox") == 0)
    time.sleep(0.5)
    assert consumer.gates["people"].mode is Mode.OUT
    assert (world.delivery(request), consumers.attempts(), provider.calls) == (before, 0, [])


def test_a_message_that_meets_a_closed_gate_is_left_to_the_broker_and_neither_tried_nor_looked_up(world: World) -> None:
    gate = Gate("people", threading.Event())
    gate.close()
    provider = Provider()
    times = Times(lease=60, check_after=CHECK_AFTER)
    deliverer = Deliverer(
        world.database,
        world.configuration.channels["people"],
        provider,
        gate=gate,
        worker="tester",
        times=times,
        shared=SharedTransactions(world.database, "tester", times, lambda: 1),
        stop=threading.Event(),
    )
    fresh, unclear = world.submit().id, world.submit().id
    world.deliver(unclear, Unknown(code="cut", detail="Cut."))
    for request in (fresh, unclear):
        before = world.delivery(request)
        hint = world.hint(request)
        message = Received(
            queue=queue_of("people"), message_id="m", type=HINT_TYPE, body=encode(hint), headers={}, redelivered=False
        )
        assert deliverer.handle(message) is Answer.LEAVE
        assert world.delivery(request) == before
    assert (world.count("attempts"), provider.calls, provider.looked) == (1, [], [])


def test_a_revoked_token_pauses_its_channel_alone_and_it_comes_back_by_itself_when_the_check_is_fine(
    world: World, install: Install
) -> None:
    consumers = install(world)
    people, inbox = Provider(REVOKED), Provider()
    people.problems = ("The token is revoked.",)
    consumers.consume(people=people, inbox=inbox)
    for _ in range(10):
        world.submit("both")
    eventually(lambda: world.count("deliveries", "channel = 'inbox' AND state = 'delivered'") == 10)
    eventually(lambda: consumers.state().paused_at)
    state = consumers.state()
    assert (state.pause_cause, state.pause_reason, state.paused_by) == (
        "configuration",
        "token_revoked: Slack answered token_revoked",
        "tester",
    )
    eventually(lambda: people.checks >= 2)
    assert len(people.calls) <= 4  # one per worker at most
    people.answer, people.problems = ARRIVED, ()
    eventually(consumers.all_delivered(20), 30)
    assert consumers.state().is_out is False
    assert world.letters() == []
    assert world.rows("SELECT max(attempt - refunded) AS spent FROM deliveries")[0].spent == 1


def test_a_pause_by_hand_survives_a_restart_and_only_a_hand_ends_it(world: World, install: Install) -> None:
    consumers = install(world)
    provider = Provider()
    first = consumers.consume(people=provider)
    world.submit()
    eventually(consumers.all_delivered(1))
    assert world.database.run(
        lambda connection: pause(connection, "people", cause=PauseCause.OPERATOR, reason="Moving.", by="me")
    )
    eventually(lambda: first.gates["people"].mode is Mode.OUT)
    first.stop()
    second = consumers.consume(people=provider)
    world.submit()
    eventually(lambda: world.count("outbox") == 0)
    time.sleep(3 * PROBE_AFTER)
    assert (second.gates["people"].mode, len(provider.calls), provider.checks) == (Mode.OUT, 1, 0)
    assert world.database.run(lambda connection: resume(connection, "people"))
    eventually(consumers.all_delivered(2))


def test_a_prober_that_died_makes_way_for_another(world: World, install: Install) -> None:
    consumers = install(world)
    # Somebody won the probe and died: half-open, and its time is over.
    world.execute(
        "INSERT INTO channel_states (channel, breaker, breaker_reason, probe_at, out_since)"
        " VALUES ('people', 'half_open', 'x', now() + interval '400 ms', now())"
    )
    provider = Provider()
    consumers.consume(people=provider)
    world.submit()
    eventually(consumers.all_delivered(1))
    eventually(lambda: consumers.state().breaker.state is BreakerState.CLOSED)


def test_a_trip_closes_the_gate_while_the_database_is_away_and_is_told_when_it_returns(
    database_url: str, world: World
) -> None:
    with Proxy(database_url) as proxy:
        away = World(proxy.url, deadline_seconds=1)
        broker = MemoryBroker(away.configuration.channels)
        subscriber = broker.subscriber()
        gate = Gate("people", threading.Event())
        settings = away.configuration.channels["people"]
        watch = Watch(
            away.database,
            subscriber,
            [Watched(gate=gate, settings=settings, channel=Provider(), workers=1)],
            threading.Event(),
        )
        watch.one_pass()
        proxy.go_silent()
        for _ in range(3):
            gate.record(REFUSED)
        assert gate.mode is Mode.OUT
        began = time.monotonic()
        with pytest.raises(DatabaseUnavailable):
            watch.one_pass()
        assert time.monotonic() - began < 8
        proxy.talk_again()
        eventually(lambda: watch_passes(watch))
        away.close()
    state = in_transaction(world.database, lambda connection: states_of(connection, ["people"])["people"])
    assert state.breaker.state is not BreakerState.CLOSED
    assert state.breaker_reason == "3 calls in a row were not answered, the last one: refused: Connection refused."


def test_a_probe_that_was_won_in_a_transaction_that_failed_is_nobodys(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may win the one of the very same instant, and only that one probes."""
    gate = Gate("people", threading.Event())
    watched = Watched(gate=gate, settings=world.configuration.channels["people"], channel=Provider(), workers=1)
    watch = Watch(world.database, MemoryBroker(world.configuration.channels).subscriber(), [watched], threading.Event())
    world.execute(
        "INSERT INTO channel_states (channel, breaker, breaker_reason, probe_at, out_since)"
        " VALUES ('people', 'open', 'x', now(), now())"
    )
    run, won = world.database.run, []

    def lost(work: Callable[[Any], Any], *arguments: Any) -> Any:
        def fails(connection: Any) -> None:
            won.append(work(connection)["people"].state.breaker.probe_at)
            raise DatabaseUnavailable("The commit failed.")

        return run(fails, *arguments)

    with monkeypatch.context() as patched, pytest.raises(DatabaseUnavailable):
        patched.setattr(world.database, "run", lost)
        watch.one_pass()
    world.execute("UPDATE channel_states SET breaker = 'half_open', probe_at = to_timestamp(:at)", at=won[0])
    watch.one_pass()
    assert gate.mode is Mode.OUT


def watch_passes(watch: Watch) -> bool:
    try:
        watch.one_pass()
    except DatabaseUnavailable:
        return False
    return True
