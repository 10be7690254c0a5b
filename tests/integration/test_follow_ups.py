"""What is added to a request reaches the people who read it, below the message that told them of it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from assistance.deliveries.lease import NothingToDo
from assistance.domain.answers import IdempotencyKey
from assistance.domain.errors import NotOpen
from assistance.domain.outcome import Delivered, Rejected, RejectionReason, Unknown
from assistance.domain.request import Author
from assistance.domain.route import Route, Step
from tests.builders import World

KEY = IdempotencyKey(value="k-1", fingerprint=b"f" * 32)
NO = Rejected(code="no", detail="Nobody lives here.", reason=RejectionReason.DESTINATION)


def follow_ups(world: World, request: Any) -> list[Any]:
    return world.rows(
        "SELECT * FROM deliveries WHERE request_id = :id AND purpose = 'follow_up' ORDER BY event_version, id",
        id=request,
    )


def claim_follow_up(world: World, request: Any, number: int = 0) -> Any:
    from assistance.deliveries.transition import hint_for

    world.execute("UPDATE deliveries SET next_attempt_at = now() WHERE request_id = :id", id=request)
    return world.claim(hint_for(follow_ups(world, request)[number]))


def test_what_is_added_is_told_below_the_message_that_told_the_request(world: World) -> None:
    request = world.submit().id
    world.deliver(request, Delivered(receipt={"channel": "C1", "ts": "1.2"}))
    added = world.add(request, "The customer asks again.", Author.CUSTOMER)
    assert (added.event_version, added.status) == (3, "delivered")
    taken = claim_follow_up(world, request)
    assert taken.told.data == {"text": "The customer asks again.", "from": "customer"}
    assert taken.told.thread == {"channel": "C1", "ts": "1.2"}
    world.end(taken.lease, Delivered(receipt={"ts": "1.3"}))
    assert world.event_types(request) == ["delivered", "follow_up"]


def test_a_request_that_had_ended_is_open_until_what_was_added_is_told(world: World) -> None:
    request = world.submit().id
    world.deliver(request)
    assert world.request(request).ended_at is not None
    world.add(request, "More.")
    assert world.request(request).ended_at is None
    world.end(claim_follow_up(world, request).lease, Delivered(receipt={}))
    assert world.request(request).ended_at is not None
    assert world.request(request).status == "delivered"


def test_what_is_added_waits_until_people_know_what_it_is_about(world: World) -> None:
    request = world.submit().id
    world.add(request, "First.")
    world.add(request, "Second.")
    assert claim_follow_up(world, request) == NothingToDo(reason="behind")
    world.deliver(request)
    assert claim_follow_up(world, request, 1) == NothingToDo(reason="behind")
    world.end(claim_follow_up(world, request, 0).lease, Delivered(receipt={}))
    assert claim_follow_up(world, request, 1).told.data["text"] == "Second."


def test_a_hint_that_came_too_early_comes_back(world: World) -> None:
    request = world.submit().id
    world.add(request, "First.")
    claim_follow_up(world, request)
    follow_up = follow_ups(world, request)[0]
    assert follow_up.check_at > follow_up.next_attempt_at
    waiting = world.rows("SELECT * FROM outbox WHERE delivery_id = :id AND available_at > now()", id=follow_up.id)
    assert len(waiting) == 1


def test_what_is_added_is_told_alone_where_the_request_never_arrived(world: World) -> None:
    request = world.submit().id
    world.deliver(request, NO)
    world.add(request, "More.")
    assert claim_follow_up(world, request).told.thread is None


def test_a_follow_up_that_nobody_takes_is_a_dead_letter_and_leaves_the_request_delivered(world: World) -> None:
    request = world.submit().id
    world.deliver(request)
    world.add(request, "More.")
    world.end(claim_follow_up(world, request).lease, NO)
    assert [letter.reason for letter in world.letters()] == ["rejected"]
    assert world.request(request).status == "delivered"
    assert world.request(request).ended_at is not None


def test_a_step_that_begins_later_is_told_everything_and_the_one_that_failed_no_more(database_url: str) -> None:
    route = Route(to=("first",), fallback=(Step(to=("second",), after_seconds=60),))
    world = World(database_url, {"help": route})
    try:
        request = world.submit().id
        world.add(request, "More.")
        world.deliver(request, NO, channel="first")
        told = [(row.channel, row.step) for row in follow_ups(world, request)]
        assert told == [("first", 0), ("second", 1)]
        world.deliver(request, channel="second")
        states = {row.channel: row.state for row in follow_ups(world, request)}
        assert states == {"first": "cancelled", "second": "pending"}
    finally:
        world.close()


def test_steps_that_are_not_needed_take_what_was_added_along(database_url: str) -> None:
    route = Route(to=("first",), fallback=(Step(to=("second",), after_seconds=0.001),))
    world = World(database_url, {"help": route})
    try:
        request = world.submit().id
        world.add(request, "More.")
        world.execute("UPDATE timers SET due_at = now() - interval '1 s'")
        world.fire_timers()
        world.deliver(request, channel="first")
        states = {row.channel: row.state for row in follow_ups(world, request)}
        assert states == {"first": "pending", "second": "cancelled"}
    finally:
        world.close()


def test_the_same_key_adds_once(world: World) -> None:
    request = world.submit().id
    first, second = world.add(request, "More.", key=KEY), world.add(request, "More.", key=KEY)
    assert (first.event_version, first.replayed) == (2, False)
    assert (second.event_version, second.replayed) == (2, True)
    assert len(follow_ups(world, request)) == 1


def test_nothing_is_added_to_a_request_that_was_called_off(world: World) -> None:
    request = world.submit().id
    world.cancel(request)
    with pytest.raises(NotOpen):
        world.add(request, "More.")


def test_a_second_call_with_a_dedup_key_joins_the_open_request(world: World) -> None:
    first = world.submit(dedup_key="cus_42:quote")
    second = world.submit(dedup_key="cus_42:quote", description="Hello?")
    assert (second.id, second.event_version) == (first.id, 2)
    assert follow_ups(world, first.id)[0].event_version == 2
    assert world.count("requests") == 1


def test_a_told_request_is_joined_for_an_hour_and_not_longer(world: World) -> None:
    first = world.submit(dedup_key="cus_42:quote")
    world.deliver(first.id)
    assert world.request(first.id).ended_at is None
    assert world.submit(dedup_key="cus_42:quote").id == first.id
    world.end(claim_follow_up(world, first.id).lease, Delivered(receipt={}))
    world.execute("UPDATE timers SET due_at = now() - interval '1 s' WHERE kind = 'end'")
    world.fire_timers()
    assert world.request(first.id).ended_at is not None
    assert world.submit(dedup_key="cus_42:quote").id != first.id


def test_fifty_calls_with_one_dedup_key_make_one_request(world: World) -> None:
    with ThreadPoolExecutor(16) as pool:
        accepted = list(pool.map(lambda _: world.submit(dedup_key="cus_42"), range(50)))
    assert len({one.id for one in accepted}) == 1
    assert sorted(one.event_version for one in accepted) == list(range(1, 51))


def test_a_repeat_of_a_call_that_joined_is_answered_as_that_call(world: World) -> None:
    first = world.submit(dedup_key="cus_42")
    joined, again = world.submit(key=KEY, dedup_key="cus_42"), world.submit(key=KEY, dedup_key="cus_42")
    assert (joined.id, joined.event_version, joined.replayed) == (first.id, 2, False)
    assert (again.id, again.event_version, again.replayed) == (first.id, 2, True)


def test_a_follow_up_whose_fate_is_unknown_is_looked_up_in_its_thread(world: World) -> None:
    request = world.submit().id
    world.deliver(request, Delivered(receipt={"channel": "C1", "ts": "1.2"}))
    world.add(request, "More.")
    world.end(claim_follow_up(world, request).lease, Unknown(code="no_answer", detail="The line went dead."))
    assert claim_follow_up(world, request).thread == {"channel": "C1", "ts": "1.2"}
