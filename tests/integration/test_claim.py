"""Claim: who may work on a delivery, and what a hint that is early, late or doubled does."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from uuid import UUID, uuid4

import pytest

from assistance.deliveries.lease import AlreadyDead, Claim, NoSuchDelivery, NothingToDo, ToLookUp, ToSend
from assistance.domain.hint import Hint
from assistance.domain.outcome import CannotTell, Delivered, Rejected, RejectionReason, RetryLater, Unknown
from tests.builders import RECEIPT, World

REJECTED = Rejected(code="gone", detail="Gone.", reason=RejectionReason.DESTINATION)
UNKNOWN = Unknown(code="cut", detail="Cut.")


def outbox_hint(world: World) -> tuple[int, int, str, float]:
    """Series, attempt, channel and due time in seconds of the one hint that waits."""
    (row,) = world.rows(
        "SELECT series, attempt, channel, extract(epoch FROM available_at - now())::float AS due FROM outbox"
    )
    return row.series, row.attempt, row.channel, row.due


def cleared(world: World, request_id: UUID) -> Hint:
    """The delivery's hint, after the relay has published it."""
    world.execute("DELETE FROM outbox")
    return world.hint(request_id)


def test_a_pending_delivery_is_taken_with_a_lease_and_an_attempt_on_disk(world: World) -> None:
    accepted = world.submit()
    claimed = world.claim(world.hint(accepted.id), lease_seconds=60)
    assert isinstance(claimed, ToSend)
    assert (claimed.request.id, claimed.request.ref, claimed.request.topic) == (accepted.id, accepted.ref, "help")
    assert (claimed.lease.attempt, claimed.lease.spent, claimed.event_version) == (1, 1, 1)
    assert claimed.late_seconds >= 0
    delivery = world.delivery(accepted.id)
    assert (delivery.state, delivery.attempt, delivery.lease_token) == ("sending", 1, claimed.lease.token)
    assert delivery.check_at == delivery.lease_until
    assert (delivery.lease_until - delivery.updated_at).total_seconds() == 60
    (attempt,) = world.rows("SELECT * FROM attempts")
    assert (attempt.series, attempt.number, attempt.outcome, attempt.worker) == (1, 1, "sending", "tester")


def test_a_delivery_whose_time_has_not_come_gets_its_hint_back_for_that_time(world: World) -> None:
    request = world.submit().id
    world.execute("UPDATE deliveries SET next_attempt_at = now() + interval '100 s'")
    assert world.claim(cleared(world, request)) == NothingToDo(reason="not_due")
    series, attempt, channel, due = outbox_hint(world)
    assert (series, attempt, channel) == (1, 1, "people")
    assert 95 < due <= 100


def test_a_look_up_whose_time_has_not_come_waits_under_the_attempt_it_is_for(world: World) -> None:
    request = world.submit().id
    world.deliver(request, UNKNOWN)
    world.execute("UPDATE deliveries SET next_attempt_at = now() + interval '50 s'")
    assert world.claim(cleared(world, request)) == NothingToDo(reason="not_due")
    series, attempt, _, due = outbox_hint(world)
    assert (series, attempt) == (1, 1)
    assert 45 < due <= 50


@pytest.mark.parametrize("looking", [False, True])
def test_a_delivery_that_somebody_holds_is_offered_again_when_the_lease_ends(world: World, looking: bool) -> None:
    request = world.submit().id
    if looking:
        world.deliver(request, UNKNOWN)
    held = world.take(request).lease
    hint = replace(cleared(world, request), attempt=1)
    assert world.claim(hint) == NothingToDo(reason="busy")
    assert 55 < outbox_hint(world)[3] <= 60
    assert world.delivery(request).lease_token == held.token


def test_hints_for_what_is_over_change_nothing(world: World) -> None:
    delivered, dead, cancelled = (world.submit().id for _ in range(3))
    hints = {request: world.hint(request) for request in (delivered, dead, cancelled)}
    world.deliver(delivered)
    world.deliver(dead, REJECTED)
    world.execute("UPDATE deliveries SET state = 'cancelled', check_at = NULL WHERE request_id = :id", id=cancelled)
    world.execute("DELETE FROM outbox")
    before = world.rows("SELECT * FROM deliveries ORDER BY id")
    assert world.claim(hints[delivered]) == NothingToDo(reason="finished")
    assert isinstance(world.claim(hints[dead]), AlreadyDead)
    assert world.claim(hints[cancelled]) == NothingToDo(reason="finished")
    assert world.rows("SELECT * FROM deliveries ORDER BY id") == before
    assert world.count("outbox") == 0


@pytest.mark.parametrize("series", [1, 3])
def test_a_hint_of_another_series_is_stale_in_every_state(world: World, series: int) -> None:
    for outcome in (None, RECEIPT, REJECTED, UNKNOWN):
        request = world.submit().id
        if outcome is not None:
            world.deliver(request, outcome)
        world.execute("UPDATE deliveries SET series = 2 WHERE request_id = :id", id=request)
        hint = replace(world.hint(request), series=series)
        assert world.claim(hint) == NothingToDo(reason="stale")
        assert world.delivery(request).lease_token is None


def test_a_delivery_that_the_database_does_not_know_is_said_to_be_missing(world: World) -> None:
    hint = Hint(delivery_id=uuid4(), request_id=uuid4(), channel="people", series=1, attempt=1)
    assert isinstance(world.claim(hint), NoSuchDelivery)


def test_a_hint_in_the_wrong_queue_is_sent_to_the_right_one(world: World) -> None:
    request = world.submit().id
    hint = cleared(world, request)
    assert world.claim(hint, channel="inbox") == NothingToDo(reason="misrouted")
    assert outbox_hint(world)[:3] == (1, 1, "people")
    assert world.delivery(request).state == "pending"


def test_the_row_decides_about_request_and_channel_and_not_the_message(world: World) -> None:
    request = world.submit().id
    forged = replace(world.hint(request), request_id=uuid4(), channel="elsewhere")
    claimed = world.claim(forged, channel="people")
    assert isinstance(claimed, ToSend)
    assert (claimed.lease.hint.request_id, claimed.lease.hint.channel) == (request, "people")


def test_an_expired_lease_is_taken_over_for_a_look_up_and_its_attempt_marked_unknown(world: World) -> None:
    request = world.submit().id
    lost = world.take(request)
    world.end_leases()
    claimed = world.claim(replace(world.hint(request), attempt=1))
    assert isinstance(claimed, ToLookUp)
    assert claimed.lease.token != lost.lease.token
    assert (claimed.lease.attempt, claimed.lease.looks, claimed.late_receipt) == (1, 0, None)
    (attempt,) = world.rows("SELECT * FROM attempts")
    assert (attempt.outcome, attempt.code, attempt.finished_at is not None) == ("unknown", "lease_expired", True)
    assert claimed.since == attempt.started_at
    delivery = world.delivery(request)
    assert (delivery.state, delivery.lease_token) == ("unknown", claimed.lease.token)


def test_an_expired_look_up_is_taken_over_by_another_look_up(world: World) -> None:
    request = world.submit().id
    world.deliver(request, UNKNOWN)
    first = world.take(request)
    assert isinstance(first, ToLookUp)
    world.end_leases()
    second = world.take(request)
    assert isinstance(second, ToLookUp)
    assert second.lease.token != first.lease.token
    assert world.count("attempts") == 1


def test_a_look_up_begins_at_the_first_attempt_that_nobody_knows_about(world: World) -> None:
    request = world.submit().id
    world.deliver(request, RetryLater(code="busy", detail="Busy."))
    world.deliver(request, UNKNOWN)
    claimed = world.take(request)
    started = {row.number: row.started_at for row in world.rows("SELECT number, started_at FROM attempts")}
    assert claimed.since == started[2] > started[1]


def test_the_first_attempt_of_a_series_stays_the_first(world: World) -> None:
    request = world.submit().id
    world.deliver(request, RetryLater(code="busy", detail="Busy."))
    world.execute("UPDATE deliveries SET first_attempt_at = first_attempt_at - interval '100 s'")
    claimed = world.take(request)
    assert 100 <= claimed.lease.elapsed_seconds < 200
    assert claimed.lease.elapsed_now >= claimed.lease.elapsed_seconds
    assert (claimed.lease.attempt, claimed.lease.spent) == (2, 2)


def test_refunded_attempts_do_not_count_as_spent(world: World) -> None:
    request = world.submit().id
    world.deliver(request, RetryLater(code="limited", detail="Slow down.", retry_after_seconds=1.0))
    world.execute("UPDATE deliveries SET next_attempt_at = now()")
    claimed = world.take(request)
    assert (claimed.lease.attempt, claimed.lease.spent) == (2, 1)


def test_of_eight_consumers_with_the_same_hint_exactly_one_wins(world: World) -> None:
    for expected in (ToSend, ToLookUp):
        request = world.submit().id
        if expected is ToLookUp:
            world.deliver(request, UNKNOWN)
        hint, ready = world.hint(request), Barrier(8)

        def race(hint: Hint = hint, ready: Barrier = ready) -> Claim:
            ready.wait(10)
            return world.claim(hint)

        with ThreadPoolExecutor(8) as pool:
            found = [task.result() for task in [pool.submit(race) for _ in range(8)]]
        assert sum(isinstance(claimed, expected) for claimed in found) == 1
        assert found.count(NothingToDo(reason="busy")) == 7
        assert world.count("attempts", f"delivery_id = '{hint.delivery_id}'") == 1


def test_a_receipt_that_came_late_answers_the_look_up(world: World) -> None:
    request = world.submit().id
    slow = world.take(request).lease
    world.end_leases()
    first_look = world.take(request)
    assert not world.end(slow, Delivered(receipt={"id": "late"})).kept
    world.end_leases()
    second_look = world.take(request)
    assert (first_look.late_receipt, second_look.late_receipt) == (None, {"id": "late"})


def test_a_receipt_that_comes_after_the_look_up_still_saves_the_second_send(world: World) -> None:
    request = world.submit().id
    slow = world.take(request).lease
    world.end_leases()
    world.end_look(world.take(request).lease, CannotTell(code="no_lookup", detail="It cannot."))
    assert world.delivery(request).state == "pending"
    assert not world.end(slow, Delivered(receipt={"id": "late"})).kept
    world.execute("UPDATE deliveries SET next_attempt_at = now()")
    claimed = world.take(request)
    assert isinstance(claimed, ToLookUp)
    assert claimed.late_receipt == {"id": "late"}
