"""Conclude: what is written when a try or a look-up ends, and what follows for the request."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from uuid import UUID

import pytest

from assistance.domain.outcome import (
    CannotTell,
    Delivered,
    Found,
    NotFound,
    Rejected,
    RejectionReason,
    RetryLater,
    Unknown,
)
from tests.builders import RECEIPT, World

LATER = RetryLater(code="busy", detail="Busy.")
REJECTED = Rejected(code="gone", detail="Nobody lives there.", reason=RejectionReason.DESTINATION)
UNKNOWN = Unknown(code="cut", detail="Cut.")


def attempt(world: World, request_id: UUID, number: int = 1) -> Any:
    (row,) = world.rows(
        "SELECT a.* FROM attempts a JOIN deliveries d ON d.id = a.delivery_id"
        " WHERE d.request_id = :id AND a.number = :number",
        id=request_id,
        number=number,
    )
    return row


def hints(world: World) -> list[tuple[int, int, float]]:
    return [
        (row.series, row.attempt, round(row.due))
        for row in world.rows(
            "SELECT series, attempt, extract(epoch FROM available_at - now())::float AS due FROM outbox ORDER BY id"
        )
    ]


def test_a_receipt_finishes_delivery_attempt_and_request(world: World) -> None:
    request = world.submit().id
    world.deliver(request, LATER)
    world.deliver(request, Delivered(receipt={"ts": "1.2"}))
    delivery = world.delivery(request)
    assert (delivery.state, delivery.receipt, delivery.check_at, delivery.lease_token) == (
        "delivered",
        {"ts": "1.2"},
        None,
        None,
    )
    assert (delivery.last_error_class, delivery.last_error_code, delivery.last_error_detail) == (None, None, None)
    assert (attempt(world, request, 2).outcome, attempt(world, request, 2).receipt) == ("delivered", {"ts": "1.2"})
    found = world.request(request)
    assert (found.status, found.state_version, found.ended_at is not None) == ("delivered", 2, True)
    (event,) = world.rows("SELECT version, type, actor FROM events")
    assert tuple(event) == (2, "assistance.delivered", "tester")


def test_a_failed_try_and_its_next_hint_are_one_transaction(world: World) -> None:
    request = world.submit().id
    claimed = world.take(request)
    world.execute("DELETE FROM outbox")
    concluded = world.end(claimed.lease, RetryLater(code="busy", detail="Busy.", retry_after_seconds=100))
    assert (concluded.kept, concluded.request_status) == (True, None)
    delivery = world.delivery(request)
    assert (delivery.state, delivery.attempt, delivery.refunded, delivery.lease_token) == ("pending", 1, 1, None)
    assert (delivery.next_attempt_at - delivery.updated_at).total_seconds() == 100
    assert (delivery.check_at - delivery.next_attempt_at).total_seconds() == 300
    assert (delivery.last_error_class, delivery.last_error_code) == ("retry_later", "busy")
    assert (attempt(world, request).outcome, attempt(world, request).code) == ("retry_later", "busy")
    assert hints(world) == [(1, 2, 100)]
    assert (world.request(request).status, world.request(request).state_version) == ("accepted", 1)


def test_an_unclear_answer_leads_to_a_look_up_under_the_same_attempt(world: World) -> None:
    request = world.submit().id
    claimed = world.take(request)
    world.execute("DELETE FROM outbox")
    world.end(claimed.lease, UNKNOWN)
    delivery = world.delivery(request)
    assert (delivery.state, delivery.attempt, delivery.looks, delivery.last_error_class) == ("unknown", 1, 0, "unknown")
    assert (attempt(world, request).outcome, hints(world)) == ("unknown", [(1, 1, 0)])


def test_a_rejection_buries_the_delivery_with_its_reason(world: World) -> None:
    request = world.submit().id
    concluded = world.deliver(request, REJECTED)
    assert concluded.request_status == "undeliverable"
    delivery = world.delivery(request)
    assert (delivery.state, delivery.check_at, delivery.last_error_class) == ("dead", None, "destination")
    (letter,) = world.letters()
    assert (letter.delivery_id, letter.series, letter.channel) == (delivery.id, 1, "people")
    assert (letter.source, letter.reason, letter.error) == ("consumer", "rejected", "gone: Nobody lives there.")
    assert attempt(world, request).outcome == "rejected"
    (event,) = world.rows("SELECT version, type FROM events")
    assert tuple(event) == (2, "assistance.undeliverable")


def test_a_message_that_is_found_is_delivered_without_another_attempt(world: World) -> None:
    request = world.submit().id
    world.deliver(request, UNKNOWN)
    world.end_look(world.take(request).lease, Found(receipt={"ts": "7"}))
    delivery = world.delivery(request)
    assert (delivery.state, delivery.receipt, delivery.attempt) == ("delivered", {"ts": "7"}, 1)
    assert (attempt(world, request).outcome, world.request(request).status) == ("unknown", "delivered")


def test_a_message_that_two_looks_missed_is_sent_again(world: World) -> None:
    request = world.submit().id
    world.deliver(request, UNKNOWN)
    world.end_look(world.take(request).lease, NotFound())
    delivery = world.delivery(request)
    assert (delivery.state, delivery.looks) == ("unknown", 1)
    world.end_look(world.take(request).lease, NotFound())
    delivery = world.delivery(request)
    assert (delivery.state, delivery.looks, delivery.attempt, delivery.refunded) == ("pending", 0, 1, 0)
    world.deliver(request)
    assert (world.delivery(request).state, world.delivery(request).attempt) == ("delivered", 2)


def test_a_look_that_cannot_tell_leaves_the_question_open(world: World) -> None:
    request = world.submit().id
    world.deliver(request, UNKNOWN)
    again = CannotTell(code="down", detail="Down.", look_again=True, retry_after_seconds=50)
    world.end_look(world.take(request).lease, again)
    delivery = world.delivery(request)
    assert (delivery.state, delivery.looks, delivery.last_error_code) == ("unknown", 0, "down")
    assert hints(world)[-1] == (1, 1, 50)


@pytest.mark.parametrize("outcome", [RECEIPT, LATER, REJECTED, UNKNOWN])
def test_a_holder_whose_lease_was_taken_over_changes_nothing(world: World, outcome: Any) -> None:
    request = world.submit().id
    stale = world.take(request).lease
    world.end_leases()
    world.take(request)
    world.execute("DELETE FROM outbox")
    before = world.delivery(request)
    assert not world.end(stale, outcome).kept
    assert world.delivery(request) == before
    assert (world.count("outbox"), world.count("dead_letters"), world.count("events")) == (0, 0, 0)
    assert world.request(request).status == "accepted"


def test_what_a_stale_holder_learnt_is_kept_on_its_attempt(world: World) -> None:
    request = world.submit().id
    stale = world.take(request).lease
    world.end_leases()
    world.take(request)
    world.end(stale, Delivered(receipt={"id": "late"}))
    assert (attempt(world, request).outcome, attempt(world, request).receipt) == ("delivered", {"id": "late"})


def test_a_late_answer_never_overwrites_a_finished_attempt_or_that_of_another_try(world: World) -> None:
    request = world.submit().id
    stale = world.take(request).lease
    world.end(stale, LATER)
    second = world.take(request).lease
    assert not world.end(stale, RECEIPT).kept
    assert (attempt(world, request, 1).outcome, attempt(world, request, 2).outcome) == ("retry_later", "sending")
    assert world.end(second, RECEIPT).kept


def test_settling_twice_counts_once(world: World) -> None:
    request = world.submit().id
    lease = world.take(request).lease
    assert world.end(lease, RECEIPT).kept
    assert not world.end(lease, RECEIPT).kept
    assert (world.request(request).state_version, world.count("events")) == (2, 1)


def test_a_request_ends_when_the_last_of_its_deliveries_has(world: World) -> None:
    request = world.submit("both").id
    world.deliver(request, REJECTED, "people")
    found = world.request(request)
    assert (found.status, found.ended_at) == ("undeliverable", None)
    world.deliver(request, RECEIPT, "inbox")
    found = world.request(request)
    assert (found.status, found.ended_at is not None, found.state_version) == ("undeliverable", True, 2)
    assert world.count("events") == 1


def test_a_request_is_delivered_when_every_required_delivery_is(world: World) -> None:
    request = world.submit("both").id
    world.deliver(request, RECEIPT, "people")
    assert world.request(request).status == "accepted"
    world.deliver(request, RECEIPT, "inbox")
    assert world.request(request).status == "delivered"


def test_an_optional_delivery_that_dies_leaves_the_request_delivered_and_only_ends_it(world: World) -> None:
    request = world.submit("both").id
    world.execute("UPDATE deliveries SET required = false WHERE channel = 'inbox'")
    world.deliver(request, RECEIPT, "people")
    assert (world.request(request).status, world.request(request).ended_at) == ("delivered", None)
    world.deliver(request, REJECTED, "inbox")
    assert (world.request(request).status, world.request(request).ended_at is None) == ("delivered", False)


def test_two_deliveries_that_settle_at_the_same_time_never_leave_the_request_behind(world: World) -> None:
    rounds = 100
    leases = []
    for _ in range(rounds):
        request = world.submit("both").id
        leases.append((world.take(request, "people").lease, world.take(request, "inbox").lease))
    ready = Barrier(2)

    def settle_all(column: int) -> None:
        for row in leases:
            ready.wait(30)
            assert world.end(row[column], RECEIPT).kept

    with ThreadPoolExecutor(2) as pool:
        for task in [pool.submit(settle_all, column) for column in (0, 1)]:
            task.result(100)
    assert world.count("requests", "status = 'delivered' AND state_version = 2 AND ended_at IS NOT NULL") == rounds
    assert world.count("events") == rounds
