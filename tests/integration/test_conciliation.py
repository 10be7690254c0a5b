"""Conciliation: what should have moved and did not is found and armed again."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from assistance.domain.outcome import RetryLater, Unknown
from tests.builders import AT_ONCE, Line, ScriptedChannel, World


def overdue(world: World) -> None:
    """Let every unfinished delivery's time to be looked at have come."""
    world.execute(
        "UPDATE deliveries SET check_at = now() - interval '1 s' WHERE lease_token IS NULL AND check_at < 'infinity'"
    )


def hints(world: World) -> list[tuple[str, int, int]]:
    return [tuple(row) for row in world.rows("SELECT channel, series, attempt FROM outbox ORDER BY channel")]


def test_a_delivery_whose_message_was_lost_comes_back(world: World) -> None:
    request = world.submit("both").id
    world.execute("DELETE FROM outbox")  # published, and then the queue was purged
    overdue(world)
    assert world.conciliation().one_pass() is False
    assert hints(world) == [("inbox", 1, 1), ("people", 1, 1)]
    assert world.delivery(request).reconciled == 1


def test_what_is_lost_in_every_unfinished_state_is_delivered_in_the_end(world: World) -> None:
    _pending, retrying, unknown, orphaned = (world.submit().id for _ in range(4))
    world.deliver(retrying, RetryLater(code="busy", detail="Busy."))
    world.deliver(unknown, Unknown(code="cut", detail="Cut."))
    world.take(orphaned)
    world.end_leases()
    world.execute("DELETE FROM outbox")
    overdue(world)
    line = Line(world, {"people": ScriptedChannel()})
    world.conciliation().one_pass()
    line.run_until(lambda: world.count("requests", "status = 'delivered'") == 4)
    line.stop()


def test_what_is_not_overdue_is_left_alone(world: World) -> None:
    world.submit()
    world.execute("DELETE FROM outbox")
    world.conciliation().one_pass()
    assert hints(world) == []


def test_a_delivery_whose_hint_still_waits_gets_no_second_one(world: World) -> None:
    request = world.submit().id
    overdue(world)
    world.conciliation().one_pass()
    assert len(hints(world)) == 1
    assert world.delivery(request).reconciled == 0


def test_a_delivery_that_somebody_is_working_on_is_left_alone(world: World) -> None:
    request = world.submit().id
    lease = world.take(request).lease
    world.execute("DELETE FROM outbox")
    overdue(world)
    world.conciliation().one_pass()
    assert (hints(world), world.delivery(request).lease_token) == ([], lease.token)


def test_running_twice_is_the_same_as_once(world: World) -> None:
    world.submit()
    world.execute("DELETE FROM outbox")
    overdue(world)
    for _ in range(2):
        world.conciliation().one_pass()
    before = world.rows("SELECT * FROM deliveries")
    world.execute("DELETE FROM outbox")
    world.conciliation().one_pass()
    assert (world.rows("SELECT * FROM deliveries"), hints(world)) == (before, [])


def test_several_at_once_arm_each_straggler_once(world: World) -> None:
    for _ in range(50):
        world.submit()
    world.execute("DELETE FROM outbox")
    overdue(world)
    with ThreadPoolExecutor(4) as pool:
        for task in [pool.submit(world.conciliation().one_pass) for _ in range(4)]:
            task.result(30)
    assert world.count("outbox") == 50
    assert world.count("deliveries", "reconciled = 1") == 50


def test_each_time_doubles_the_pause_up_to_six_hours(world: World) -> None:
    request = world.submit().id
    pauses = []
    for _ in range(9):
        world.execute("DELETE FROM outbox")
        overdue(world)
        world.conciliation().one_pass()
        delivery = world.delivery(request)
        pauses.append((delivery.check_at - delivery.updated_at).total_seconds())
    assert pauses == [300, 600, 1200, 2400, 4800, 9600, 19200, 21600, 21600]


def test_channels_that_left_the_configuration_are_left_alone_until_they_return(world: World) -> None:
    request = world.submit("both").id
    world.execute("DELETE FROM outbox")
    overdue(world)
    world.conciliation("people").one_pass()
    assert hints(world) == [("people", 1, 1)]
    assert world.delivery(request, "inbox").reconciled == 0
    world.conciliation("people", "inbox").one_pass()
    assert hints(world) == [("inbox", 1, 1), ("people", 1, 1)]


def test_the_lease_of_a_dead_worker_becomes_an_open_question_with_a_hint(world: World) -> None:
    request = world.submit().id
    world.take(request)
    world.execute("DELETE FROM outbox")
    world.end_leases()
    world.conciliation().one_pass()
    delivery = world.delivery(request)
    assert (delivery.state, delivery.lease_token, delivery.attempt) == ("unknown", None, 1)
    (attempt,) = world.rows("SELECT outcome, code FROM attempts")
    assert tuple(attempt) == ("unknown", "lease_expired")
    assert hints(world) == [("people", 1, 1)]


def test_a_retry_that_is_not_due_yet_is_armed_for_its_own_time(world: World) -> None:
    request = world.submit().id
    world.deliver(request, RetryLater(code="busy", detail="Busy."))
    world.execute("DELETE FROM outbox")
    world.execute("UPDATE deliveries SET next_attempt_at = now() + interval '1 h', check_at = now()")
    world.conciliation().one_pass()
    (hint,) = world.rows("SELECT attempt, available_at FROM outbox")
    assert (hint.attempt, hint.available_at) == (2, world.delivery(request).next_attempt_at)


def test_finished_deliveries_are_never_armed(world: World) -> None:
    world.deliver(world.submit().id)
    world.execute("DELETE FROM outbox")
    world.conciliation().one_pass()
    assert hints(world) == []


def test_a_batch_that_is_full_says_that_there_may_be_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assistance.conciliation.stragglers._LIMIT", 2)
    for _ in range(3):
        world.submit()
    world.execute("DELETE FROM outbox")
    overdue(world)
    assert [world.conciliation().one_pass(), world.conciliation().one_pass()] == [True, False]
    assert world.count("outbox") == 3


def test_after_a_restart_of_everything_all_unfinished_deliveries_are_armed_at_once(
    worlds: Callable[..., World],
) -> None:
    world = worlds({"help": ("people",), "both": ("people", "inbox")}, retry=AT_ONCE)
    waiting, held, looked_up, finished = (world.submit().id for _ in range(4))
    world.take(held)
    world.deliver(looked_up, Unknown(code="cut", detail="Cut."))
    world.take(looked_up)
    world.deliver(finished)
    world.execute("DELETE FROM outbox")
    world.conciliation().rearm_everything()
    assert world.count("outbox", "available_at <= now()") == 3
    assert {world.delivery(request).state for request in (held, looked_up)} == {"unknown"}
    assert world.count("deliveries", "lease_token IS NOT NULL") == 0
    assert world.delivery(waiting).state == "pending"
