"""A request that was cancelled or has expired is told to nobody who did not read it before."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from assistance.conciliation.ledger import read_ledger
from assistance.deliveries.lease import NothingToDo
from assistance.deliveries.replay import replay
from assistance.domain.errors import NotCancellable, NotReplayable
from assistance.domain.outcome import Delivered, Rejected, RejectionReason, RetryLater, Unknown
from assistance.domain.route import Route, Step
from tests.builders import CHECK_AFTER, World

LATER = RetryLater(code="busy", detail="Come back.")
NO = Rejected(code="no", detail="Nobody lives here.", reason=RejectionReason.DESTINATION)


@pytest.fixture
def world_of_two(database_url: str) -> Iterator[World]:
    world = World(database_url, {"both": ("people", "others")})
    yield world
    world.close()


def in_an_hour() -> datetime:
    return datetime.now(UTC) + timedelta(hours=1)


def ledger_closes(world: World) -> bool:
    return world.database.run(read_ledger).closes


def test_a_cancelled_request_is_told_to_nobody(world: World) -> None:
    request = world.submit().id
    hint = world.hint(request)
    assert world.cancel(request, "The customer found it.")
    assert world.claim(hint) == NothingToDo(reason="finished")
    row = world.request(request)
    assert (row.status, row.called_off, row.ended_at is not None) == ("cancelled", "cancelled", True)
    assert world.count("outbox") == 0
    assert world.rows("SELECT data FROM events")[0].data == {"reason": "The customer found it."}
    assert ledger_closes(world)


def test_cancelling_twice_changes_nothing(world: World) -> None:
    request = world.submit().id
    assert world.cancel(request)
    assert world.cancel(request)
    assert world.event_types(request) == ["cancelled"]


def test_nobody_cancels_what_does_not_exist(world: World) -> None:
    assert not world.cancel(uuid4())


def test_what_people_were_told_cannot_be_cancelled(world: World) -> None:
    request = world.submit().id
    world.deliver(request)
    with pytest.raises(NotCancellable):
        world.cancel(request)


def test_a_try_under_way_that_fails_is_not_repeated(world: World) -> None:
    request = world.submit().id
    taken = world.take(request)
    world.cancel(request)
    assert world.request(request).ended_at is None
    assert world.end(taken.lease, LATER).cancelled
    assert world.delivery(request).state == "cancelled"
    assert world.request(request).ended_at is not None
    assert ledger_closes(world)


def test_a_try_under_way_that_succeeds_makes_the_request_delivered_and_people_hear_of_the_end(world: World) -> None:
    request = world.submit().id
    taken = world.take(request)
    world.cancel(request)
    world.end(taken.lease, Delivered(receipt={"ts": "1.2"}))
    assert world.request(request).status == "delivered"
    told = world.rows("SELECT * FROM deliveries WHERE purpose = 'follow_up'")
    assert [(row.event_version, row.state) for row in told] == [(2, "pending")]
    assert ledger_closes(world)


def test_a_try_whose_fate_is_unknown_is_looked_up_before_it_is_given_up(world: World) -> None:
    request = world.submit().id
    taken = world.take(request)
    world.cancel(request)
    world.end(taken.lease, Unknown(code="no_answer", detail="The line went dead."))
    assert world.delivery(request).state == "unknown"


def test_those_who_read_it_are_told_that_it_is_not_needed_any_more(world_of_two: World) -> None:
    world = world_of_two
    request = world.submit("both").id
    world.deliver(request, channel="people")
    world.cancel(request)
    told = world.rows("SELECT * FROM deliveries WHERE purpose = 'follow_up'")
    assert [row.channel for row in told] == ["people"]
    assert world.request(request).status == "cancelled"
    assert ledger_closes(world)


def test_the_dead_letter_of_a_cancelled_request_stays_dead(database_url: str) -> None:
    route = Route(to=("first",), fallback=(Step(to=("second",), after_seconds=60),))
    world = World(database_url, {"help": route})
    try:
        request = world.submit().id
        world.deliver(request, NO, channel="first")
        world.cancel(request)
        assert world.request(request).status == "cancelled"
        letter = world.letters()[0].id
        with pytest.raises(NotReplayable):
            world.database.run(lambda connection: replay(connection, letter, actor="tester", check_after=CHECK_AFTER))
        assert ledger_closes(world)
    finally:
        world.close()


def test_a_request_that_expires_before_it_is_told_is_told_to_nobody(world: World) -> None:
    request = world.submit(expires_at=in_an_hour()).id
    world.fire_timers()
    assert world.request(request).status == "accepted"
    world.execute("UPDATE timers SET due_at = now() - interval '1 s'")
    world.fire_timers()
    row = world.request(request)
    assert (row.status, row.ended_at is not None) == ("expired", True)
    assert world.delivery(request).state == "cancelled"
    assert world.event_types(request) == ["expired"]
    assert ledger_closes(world)


def test_a_request_that_was_told_in_time_does_not_expire(world: World) -> None:
    request = world.submit(expires_at=in_an_hour()).id
    world.deliver(request)
    assert world.count("timers") == 0
    assert world.request(request).status == "delivered"


def test_a_scheduled_request_begins_at_its_time(world: World) -> None:
    accepted = world.submit(not_before=in_an_hour())
    assert accepted.status == "scheduled"
    assert world.count("deliveries") == 0
    assert ledger_closes(world)
    world.add(accepted.id, "More.")
    world.execute("UPDATE timers SET due_at = now() - interval '1 s'")
    world.fire_timers()
    assert world.request(accepted.id).status == "accepted"
    assert world.event_types(accepted.id) == ["follow_up", "started"]
    purposes = [row.purpose for row in world.rows("SELECT purpose FROM deliveries ORDER BY event_version")]
    assert purposes == ["notify", "follow_up"]
    world.execute("DELETE FROM deliveries WHERE purpose = 'follow_up'")
    world.deliver(accepted.id)
    assert world.request(accepted.id).status == "delivered"


def test_a_scheduled_request_may_be_cancelled(world: World) -> None:
    request = world.submit(not_before=in_an_hour()).id
    assert world.cancel(request)
    assert world.request(request).ended_at is not None
    assert world.count("timers") == 0
    assert ledger_closes(world)


def test_a_time_that_has_passed_begins_at_once(world: World) -> None:
    accepted = world.submit(not_before=datetime.now(UTC) - timedelta(hours=1))
    assert accepted.status == "accepted"
    assert world.delivery(accepted.id).state == "pending"
