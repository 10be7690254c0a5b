"""Replay: a dead letter becomes a fresh delivery, once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest

from assistance.conciliation.ledger import read_ledger
from assistance.deadletters.letters import show_letter
from assistance.deliveries.bury import record_stray
from assistance.deliveries.lease import NothingToDo, ToSend
from assistance.deliveries.replay import discard, replay
from assistance.domain.errors import NotReplayable
from assistance.domain.outcome import Rejected, RejectionReason, RetryLater
from tests.builders import World, in_transaction

REJECTED = Rejected(code="gone", detail="Gone.", reason=RejectionReason.DESTINATION)


def dead(world: World, topic: str = "help") -> UUID:
    request = world.submit(topic).id
    world.deliver(request, REJECTED)
    world.execute("DELETE FROM outbox WHERE channel = 'people'")
    return request


def put_back(world: World, letter: int, delay: float = 0.0) -> None:
    world.database.run(
        lambda connection: replay(connection, letter, actor="operator", check_after=300, delay_seconds=delay)
    )


def test_a_replayed_letter_starts_a_new_series_and_is_delivered(world: World) -> None:
    request = world.submit().id
    world.deliver(request, RetryLater(code="busy", detail="Busy."))
    world.deliver(request, REJECTED)
    world.execute("DELETE FROM outbox")
    (letter,) = world.letters()
    put_back(world, letter.id)
    delivery = world.delivery(request)
    assert (delivery.state, delivery.series, delivery.attempt, delivery.refunded) == ("pending", 2, 0, 0)
    assert (delivery.first_attempt_at, delivery.reconciled, delivery.check_at is not None) == (None, 0, True)
    (hint,) = world.rows("SELECT series, attempt FROM outbox")
    assert tuple(hint) == (2, 1)
    (letter,) = world.letters()
    assert (letter.resolution, letter.resolved_by) == ("replayed", "operator")
    found = world.request(request)
    assert (found.status, found.ended_at, found.state_version) == ("accepted", None, 3)
    world.deliver(request)
    assert (world.request(request).status, world.request(request).state_version) == ("delivered", 4)
    events = world.rows("SELECT version, type, actor FROM events ORDER BY version")
    assert [tuple(event) for event in events] == [
        (2, "assistance.undeliverable", "tester"),
        (3, "assistance.replayed", "operator"),
        (4, "assistance.delivered", "tester"),
    ]
    assert in_transaction(world.database, read_ledger).closes


def test_the_history_of_the_first_series_is_kept(world: World) -> None:
    request = dead(world)
    put_back(world, world.letters()[0].id)
    world.deliver(request)
    attempts = world.rows("SELECT series, number, outcome FROM attempts ORDER BY series, number")
    assert [tuple(attempt) for attempt in attempts] == [(1, 1, "rejected"), (2, 1, "delivered")]


def test_a_stale_hint_of_the_old_series_is_harmless(world: World) -> None:
    request = dead(world)
    old = world.hint(request)
    put_back(world, world.letters()[0].id)
    before = world.delivery(request)
    assert world.claim(old) == NothingToDo(reason="stale")
    assert world.delivery(request) == before
    assert isinstance(world.claim(world.hint(request)), ToSend)


def test_a_delivery_that_dies_again_gets_a_letter_of_its_own(world: World) -> None:
    request = dead(world)
    put_back(world, world.letters()[0].id)
    world.deliver(request, REJECTED)
    assert [(letter.series, letter.resolution) for letter in world.letters()] == [(1, "replayed"), (2, None)]
    assert world.request(request).status == "undeliverable"


def test_a_request_with_another_dead_delivery_stays_undeliverable_but_is_not_over(world: World) -> None:
    request = dead(world, "both")
    world.deliver(request, REJECTED, "inbox")
    assert world.request(request).ended_at is not None
    put_back(world, world.letters()[0].id)
    assert (world.request(request).status, world.request(request).ended_at) == ("undeliverable", None)
    world.deliver(request)
    assert (world.request(request).status, world.request(request).ended_at is None) == ("undeliverable", False)


def test_a_delayed_replay_waits_its_time(world: World) -> None:
    request = dead(world)
    put_back(world, world.letters()[0].id, delay=100)
    delivery = world.delivery(request)
    assert (delivery.next_attempt_at - delivery.updated_at).total_seconds() == 100
    assert (delivery.check_at - delivery.updated_at).total_seconds() == 400
    assert world.claim(world.hint(request)) == NothingToDo(reason="not_due")
    assert world.count("outbox", "available_at > now() + interval '90 s'") == 1


def test_a_letter_is_replayed_once(world: World) -> None:
    dead(world)
    letter = world.letters()[0].id
    put_back(world, letter)
    with pytest.raises(NotReplayable, match="is resolved already"):
        put_back(world, letter)
    assert world.rows("SELECT series FROM deliveries")[0].series == 2


def test_of_several_operators_who_replay_the_same_letter_one_succeeds(world: World) -> None:
    dead(world)
    letter = world.letters()[0].id

    def attempt(_: int) -> bool:
        try:
            put_back(world, letter)
        except NotReplayable:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(attempt, range(6))) == 1
    assert (world.rows("SELECT series FROM deliveries")[0].series, world.count("outbox")) == (2, 1)


def test_what_cannot_be_replayed_is_refused_with_the_reason(world: World) -> None:
    in_transaction(
        world.database,
        lambda connection: record_stray(
            connection, source="broker", reason="undecodable", error="?", message_id=None, body=b"?", headers={}
        ),
    )
    with pytest.raises(NotReplayable, match="belongs to no delivery"):
        put_back(world, world.letters()[0].id)
    with pytest.raises(NotReplayable, match="There is no dead letter 999"):
        put_back(world, 999)
    assert world.letters()[0].resolved_at is None


def test_a_letter_whose_delivery_lives_is_refused_and_stays_open(world: World) -> None:
    request = world.submit().id
    delivery = world.delivery(request).id
    world.execute(
        "INSERT INTO dead_letters (delivery_id, series, source, reason) VALUES (:d, 1, 'broker', 'x')", d=delivery
    )
    with pytest.raises(NotReplayable, match="is not dead any more"):
        put_back(world, world.letters()[0].id)
    assert world.letters()[0].resolved_at is None
    assert world.delivery(request).series == 1


def test_discarding_closes_the_letter_and_leaves_the_delivery_dead(world: World) -> None:
    request = dead(world)
    letter = world.letters()[0].id
    in_transaction(world.database, lambda connection: discard(connection, letter, actor="operator"))
    assert (world.letters()[0].resolution, world.delivery(request).state) == ("discarded", "dead")
    for again in (letter, 999):
        with pytest.raises(NotReplayable, match="There is no open dead letter"):
            in_transaction(world.database, lambda connection, n=again: discard(connection, n, actor="x"))  # type: ignore[misc]
    with pytest.raises(NotReplayable, match="is resolved already"):
        put_back(world, letter)
    assert in_transaction(world.database, read_ledger).closes


def test_a_letter_is_shown_with_its_request(world: World) -> None:
    request = dead(world)
    (letter,) = world.letters()
    shown = in_transaction(world.database, lambda connection: show_letter(connection, letter.id))
    assert shown is not None
    assert (shown.ref, shown.topic) == (world.request(request).ref, "help")
    assert in_transaction(world.database, lambda connection: show_letter(connection, 999)) is None
