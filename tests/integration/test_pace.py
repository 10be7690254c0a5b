"""A pace in the real database: shared by all consumers, never exceeded, and waiting costs no attempt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from uuid import UUID

import pytest

from assistance.conciliation.ledger import read_ledger
from assistance.deliveries.claim import claim
from assistance.deliveries.lease import Claim, NothingToDo, ToLookUp, ToSend
from assistance.deliveries.pace import Pacer, Slot
from assistance.domain.outcome import Delivered, RetryLater, Unknown
from assistance.resilience.pacing import Pace
from tests.builders import CHECK_AFTER, Line, ScriptedChannel, World, in_transaction

UNKNOWN = Unknown(code="cut", detail="Cut.")


def pacer(rate: float, channel: str = "people") -> Pacer:
    return Pacer(channel=channel, pace=Pace(per_second=rate), destination={"to": "people"}, check_after_seconds=300)


def slot_for(world: World, request: UUID, rate: float = 1.0, channel: str = "people") -> Slot | None:
    hint = world.hint(request, channel)
    return world.database.run(lambda connection: pacer(rate, channel).take_slot(connection, hint))


def paced_claim(world: World, request: UUID, rate: float = 1.0) -> Claim:
    """What a consumer of a channel with this pace does with the delivery's hint."""
    slot, hint = slot_for(world, request, rate), world.hint(request)
    return world.database.run(
        lambda connection: claim(
            connection, hint, "people", worker="tester", lease_seconds=60, is_paced=True, slot=slot
        )
    )


def forward(world: World, seconds: float) -> None:
    """Let everything have happened that many seconds earlier."""
    for column in ("slot_at", "next_attempt_at", "first_attempt_at"):
        world.execute(f"UPDATE deliveries SET {column} = {column} - make_interval(secs => :s)", s=seconds)
    world.execute(
        "UPDATE paces SET next_slot_at = next_slot_at - make_interval(secs => :s),"
        " closed_until = closed_until - make_interval(secs => :s)",
        s=seconds,
    )
    world.execute("UPDATE outbox SET available_at = available_at - make_interval(secs => :s)", s=seconds)


def test_the_first_is_sent_at_once_and_the_next_ones_wait_for_their_slots(world: World) -> None:
    requests = [world.submit().id for _ in range(3)]
    world.execute("DELETE FROM outbox")
    answers = [paced_claim(world, request) for request in requests]
    assert isinstance(answers[0], ToSend)
    assert answers[1:] == [NothingToDo(reason="paced")] * 2
    second, third = (world.delivery(request) for request in requests[1:])
    assert (third.slot_at - second.slot_at).total_seconds() == 1.0
    for delivery in (second, third):
        assert (delivery.state, delivery.attempt, delivery.paced_seconds) == ("pending", 0, 0.0)
        assert delivery.next_attempt_at == delivery.slot_at
        assert (delivery.check_at - delivery.slot_at).total_seconds() == CHECK_AFTER
    due = world.rows("SELECT delivery_id, available_at FROM outbox ORDER BY available_at")
    assert [row.delivery_id for row in due] == [second.id, third.id]
    assert all(row.available_at >= slot for row, slot in zip(due, (second.slot_at, third.slot_at), strict=True))
    assert world.count("attempts") == 1


def test_at_its_slot_a_delivery_is_sent_without_taking_another(world: World) -> None:
    first, second = world.submit().id, world.submit().id
    paced_claim(world, first)
    paced_claim(world, second)
    forward(world, 1.5)
    before = world.rows("SELECT next_slot_at FROM paces")
    assert isinstance(paced_claim(world, second), ToSend)
    assert world.rows("SELECT next_slot_at FROM paces") == before
    assert world.delivery(second).slot_at is None


def test_a_slot_that_was_missed_by_far_is_taken_anew(world: World) -> None:
    first, second, third = (world.submit().id for _ in range(3))
    for request in (first, second, third):
        paced_claim(world, request)
    forward(world, 60)
    assert isinstance(paced_claim(world, second), ToSend)
    assert paced_claim(world, third) == NothingToDo(reason="paced")


def test_every_destination_has_a_pace_of_its_own(world: World) -> None:
    one, other, same = (world.submit("both").id for _ in range(3))
    world.execute("""UPDATE deliveries SET destination = '{"to": "x", "b": 1}' WHERE request_id = :id""", id=other)
    waits = [slot_for(world, one), slot_for(world, other), slot_for(world, one, channel="inbox"), slot_for(world, same)]
    assert [slot is not None and slot.is_now for slot in waits] == [True, True, True, False]
    found = world.rows("SELECT channel, destination FROM paces ORDER BY channel, destination")
    assert [tuple(row) for row in found] == [
        ("inbox", '{"to": "people"}'),
        ("people", '{"b": 1, "to": "x"}'),
        ("people", '{"to": "people"}'),
    ]


def test_hints_with_nothing_to_send_use_no_slot_up(world: World) -> None:
    looked_up, later, done, stale = (world.submit().id for _ in range(4))
    world.deliver(looked_up, UNKNOWN)
    world.deliver(done)
    world.execute("UPDATE deliveries SET next_attempt_at = now() + interval '9 s' WHERE request_id = :id", id=later)
    hint = replace(world.hint(stale), series=7)
    assert [slot_for(world, request) for request in (looked_up, later, done)] == [None] * 3
    assert world.database.run(lambda connection: pacer(1).take_slot(connection, hint)) is None
    assert world.count("paces") == 0
    assert isinstance(paced_claim(world, looked_up), ToLookUp)


def test_nothing_is_sent_without_a_slot(world: World) -> None:
    request = world.submit().id
    world.execute("DELETE FROM outbox")
    hint = world.hint(request)
    answer = world.database.run(
        lambda connection: claim(connection, hint, "people", worker="t", lease_seconds=60, is_paced=True, slot=None)
    )
    assert answer == NothingToDo(reason="not_due")
    assert (world.delivery(request).attempt, world.count("outbox", "available_at <= now()")) == (0, 1)


def test_eight_at_once_get_eight_different_slots(world: World) -> None:
    requests = [world.submit().id for _ in range(8)]
    hints, ready = [world.hint(request) for request in requests], Barrier(8)

    def take(number: int) -> Slot | None:
        ready.wait(10)
        return world.database.run(lambda connection: pacer(2.0).take_slot(connection, hints[number]))

    with ThreadPoolExecutor(8) as pool:
        found = sorted(slot.at for slot in pool.map(take, range(8)) if slot is not None)
    assert len(found) == 8
    assert [(slot - found[0]).total_seconds() for slot in found] == [pytest.approx(n * 0.5) for n in range(8)]


def test_waiting_for_a_slot_does_not_count_as_trying(world: World) -> None:
    first, second = world.submit().id, world.submit().id
    claimed = paced_claim(world, first)
    assert isinstance(claimed, ToSend)
    world.end(claimed.lease, RetryLater(code="busy", detail="Busy."))
    for _ in range(2):
        paced_claim(world, second, rate=0.01)  # keeps the destination busy for 100 s
        world.execute("UPDATE deliveries SET slot_at = NULL, next_attempt_at = now()")
    assert paced_claim(world, first, rate=0.01) == NothingToDo(reason="paced")
    waited = world.delivery(first).paced_seconds
    assert 150 < waited < 202
    forward(world, waited)
    claimed = paced_claim(world, first, rate=0.01)
    assert isinstance(claimed, ToSend)
    assert (claimed.lease.attempt, world.delivery(second).paced_seconds) == (2, 0.0)
    assert 0 <= claimed.lease.elapsed_seconds < 10


def test_a_destination_that_asks_for_a_pause_gets_it_from_everybody(world: World) -> None:
    sent, waiting, other = (world.submit().id for _ in range(3))
    paced_claim(world, sent, rate=2)
    paced_claim(world, waiting, rate=2)
    world.database.run(lambda connection: pacer(2).close(connection, None, 30))
    fresh = slot_for(world, other, rate=2)
    assert fresh is not None
    assert 29 < fresh.wait_seconds <= 30
    forward(world, 1)
    assert paced_claim(world, waiting, rate=2) == NothingToDo(reason="paced")  # its slot lay within the pause
    pause = world.rows("SELECT closed_until FROM paces")[0].closed_until
    assert world.delivery(waiting).slot_at > pause
    assert world.delivery(waiting).attempt == 0
    world.database.run(lambda connection: pacer(2).close(connection, {"to": "people"}, 1))
    assert world.rows("SELECT closed_until FROM paces")[0].closed_until == pause  # a shorter wish takes nothing back


@pytest.fixture
def lines() -> Iterator[Callable[..., Line]]:
    made: list[Line] = []

    def make(world: World, channel: ScriptedChannel) -> Line:
        made.append(Line(world, {"people": channel}))
        return made[-1]

    yield make
    for line in made:
        line.stop()


def give_pace(world: World, rate: float) -> None:
    people = replace(world.configuration.channels["people"], pace_per_second=rate)
    world.configuration = replace(world.configuration, channels={**world.configuration.channels, "people": people})


def test_two_consumers_share_one_pace_and_spend_no_attempts_on_waiting(
    world: World, lines: Callable[..., Line]
) -> None:
    give_pace(world, 20)
    begun = world.rows("SELECT now() AS at")[0].at
    requests = [world.submit().id for _ in range(20)]
    one, other = (lines(world, ScriptedChannel()) for _ in range(2))
    one.run_until(lambda: other.relay.one_pass() or world.count("deliveries", "state = 'delivered'") == len(requests))
    started = [row.started_at for row in world.rows("SELECT started_at FROM attempts ORDER BY started_at")]
    assert len(started) == len(requests)
    for position, at in enumerate(started):
        assert (at - begun).total_seconds() >= position / 20 - 0.025, "sent before its slot"
    assert world.count("deliveries", "attempt = 1 AND paced_seconds = 0") == len(requests)
    assert in_transaction(world.database, read_ledger).closes


def test_a_rate_limit_that_the_provider_states_holds_back_the_others_as_well(
    world: World, lines: Callable[..., Line]
) -> None:
    give_pace(world, 50)
    limited = RetryLater(code="limited", detail="Slow down.", retry_after_seconds=1.2)
    channel = ScriptedChannel(limited, Delivered(receipt={}))
    line = lines(world, channel)
    first = world.submit().id
    line.run_until(lambda: world.count("paces", "closed_until IS NOT NULL"))
    others = [world.submit().id for _ in range(3)]
    line.run_until(lambda: world.count("deliveries", "state = 'delivered'") == 4)
    pause = world.rows("SELECT closed_until FROM paces")[0].closed_until
    assert world.count("attempts", "outcome = 'retry_later'") == 1
    late = world.rows("SELECT started_at FROM attempts WHERE outcome = 'delivered'")
    assert all((row.started_at - pause).total_seconds() > -0.025 for row in late)
    assert (world.delivery(first).attempt, world.delivery(first).refunded) == (2, 1)
    assert {world.delivery(request).attempt for request in others} == {1}
