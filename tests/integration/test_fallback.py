"""Fallback: the next step begins by death or by time, and the plan is that of the acceptance."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import event, exc

from assistance.deliveries.lease import Lease
from assistance.deliveries.settle import Deliver, Problem, Settlement, TryAgain
from assistance.deliveries.transition import conclude
from assistance.domain.outcome import Outcome
from assistance.status.query import orphaned_channels
from tests.builders import CHECK_AFTER, RECEIPT, World, in_transaction
from tests.integration.fallback_tools import (
    LATER,
    REJECTED,
    TOPICS,
    begun,
    closes,
    let_time_pass,
    replay_letter,
    states,
    timers,
)


@pytest.fixture
def world(worlds: Callable[..., World]) -> World:
    return worlds(TOPICS)


def test_the_whole_plan_is_frozen_at_acceptance_and_only_the_first_step_begins(world: World) -> None:
    request = world.submit("sales").id
    assert world.request(request).route["steps"] == [
        {"to": ["team"]},
        {"to": ["mail"], "after": 120.0},
        {"to": ["lead"], "after": 600.0},
        {"to": ["ops"]},
    ]
    assert states(world, request) == {"team": "pending"}
    assert timers(world) == [(1, 120.0)]
    world.submit("help")
    assert world.count("timers") == 1
    assert closes(world)


def test_a_dead_step_begins_the_next_one_in_the_same_transaction(world: World) -> None:
    request = world.submit("sales").id
    concluded = world.deliver(request, REJECTED, "team")
    assert concluded.request_status == "accepted"
    assert states(world, request) == {"team": "dead", "mail": "pending"}
    mail = world.delivery(request, "mail")
    assert (mail.step, mail.required, mail.series) == (1, True, 1)
    assert (mail.check_at - mail.created_at).total_seconds() == CHECK_AFTER
    assert world.count("outbox", "channel = 'mail' AND available_at <= now()") == 1
    assert begun(world, request) == [(1, "dead", ["mail"])]
    assert timers(world) == [(2, 600.0)]
    found = world.request(request)
    assert (found.status, found.state_version, found.ended_at) == ("accepted", 2, None)
    assert closes(world)


def test_a_failure_while_the_next_step_begins_undoes_the_death_too(world: World) -> None:
    request = world.submit("sales").id
    lease = world.take(request, "team").lease
    world.execute("CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE division_by_zero; END$$")
    world.execute("CREATE TRIGGER fail BEFORE INSERT ON deliveries FOR EACH ROW EXECUTE FUNCTION fail()")
    with pytest.raises(exc.DBAPIError):
        world.end(lease, REJECTED)
    assert (states(world, request), world.letters(), timers(world)) == ({"team": "sending"}, [], [(1, 120.0)])
    let_time_pass(world, request, 121)
    with pytest.raises(exc.DBAPIError):
        world.fire_timers()
    assert timers(world) == [(1, 120.0)]
    world.execute("DROP TRIGGER fail ON deliveries")
    world.end(lease, REJECTED)
    assert states(world, request) == {"team": "dead", "mail": "pending"}


def test_when_the_time_comes_the_next_step_begins_while_the_first_keeps_trying(world: World) -> None:
    request = world.submit("sales").id
    world.deliver(request, LATER, "team")
    let_time_pass(world, request, 119)
    world.fire_timers()
    assert states(world, request) == {"team": "pending"}
    let_time_pass(world, request, 2)
    world.fire_timers()
    world.fire_timers()
    assert states(world, request) == {"team": "pending", "mail": "pending"}
    assert begun(world, request) == [(1, "time", ["mail"])]
    assert timers(world) == [(2, 600.0)]
    assert world.take(request, "mail").unconfirmed == ("team",)
    assert world.take(request, "team").unconfirmed == ()
    let_time_pass(world, request, 500)
    world.fire_timers()
    assert states(world, request) == {"team": "sending", "mail": "sending", "lead": "pending"}
    assert world.take(request, "lead").unconfirmed == ("team", "mail")
    assert timers(world) == []
    assert closes(world)


def test_the_last_resort_waits_until_every_other_step_ended_dead(world: World) -> None:
    request = world.submit("sales").id
    world.deliver(request, LATER, "team")
    let_time_pass(world, request, 601)
    world.fire_timers()
    world.fire_timers()
    for channel in ("mail", "lead"):
        world.deliver(request, REJECTED, channel)
    assert states(world, request) == {"team": "pending", "mail": "dead", "lead": "dead"}
    world.deliver(request, REJECTED, "team")
    assert states(world, request)["ops"] == "pending"
    assert world.request(request).status == "accepted"
    assert world.deliver(request, REJECTED, "ops").request_status == "undeliverable"
    found = world.request(request)
    assert (found.status, found.ended_at is not None) == ("undeliverable", True)
    assert begun(world, request) == [(1, "time", ["mail"]), (2, "time", ["lead"]), (3, "dead", ["ops"])]
    assert found.state_version == 1 + world.count("events")
    assert len(world.letters()) == 4
    assert closes(world)


def test_a_replay_of_an_undeliverable_request_opens_it_and_begins_nothing_new(world: World) -> None:
    request = world.submit("pair").id
    world.deliver(request, REJECTED, "left")
    world.deliver(request, REJECTED, "mail")
    assert world.request(request).status == "undeliverable"
    replay_letter(world, world.letters()[0].id)
    assert world.request(request).status == "accepted"
    world.deliver(request, REJECTED, "left")
    assert world.request(request).status == "undeliverable"
    assert states(world, request) == {"left": "dead", "right": "pending", "mail": "dead"}
    assert closes(world)


def test_a_step_whose_channel_left_the_configuration_waits_and_is_shown(world: World) -> None:
    request = world.submit("sales").id
    world.deliver(request, REJECTED, "team")
    assert world.request(request).status == "accepted"
    assert in_transaction(world.database, lambda c: orphaned_channels(c, {"team", "lead", "ops"})) == {"mail": 1}


def test_a_request_from_before_there_were_steps_ends_as_it_always_did(world: World) -> None:
    request = world.submit("sales").id
    world.execute("""UPDATE requests SET route = '{"topic": "sales", "configuration": "sha256:old"}'""")
    world.execute("DELETE FROM timers")
    world.deliver(request, REJECTED, "team")
    assert (states(world, request), world.request(request).status) == ({"team": "dead"}, "undeliverable")
    assert closes(world)


def test_a_changed_file_never_changes_a_request_under_way(world: World, worlds: Callable[..., World]) -> None:
    request = world.submit("sales").id
    changed = worlds({"sales": ("other",)})
    changed.deliver(request, REJECTED, "team")
    assert states(changed, request) == {"team": "dead", "mail": "pending"}


def test_a_request_without_a_fallback_pays_nothing_for_it(world: World) -> None:
    first, second = world.submit("help").id, world.submit("help").id
    failing, arriving = world.take(first, "team").lease, world.take(second, "team").lease
    again = TryAgain(delay_seconds=0.0, refund=False, problem=Problem(kind="retry_later", code="busy", detail="Busy."))
    assert statements_of(world, failing, again, LATER) == ["SELECT", "UPDATE", "UPDATE", "INSERT"]
    told = statements_of(world, arriving, Deliver(receipt=RECEIPT.receipt), RECEIPT)
    assert told == ["SELECT", "UPDATE", "UPDATE", "SELECT", "SELECT", "UPDATE", "INSERT"]


def statements_of(world: World, lease: Lease, settlement: Settlement, outcome: Outcome) -> list[str]:
    """What concluding sends to the database."""
    sent: list[str] = []
    with world.database.transaction() as connection:
        event.listen(connection, "before_cursor_execute", lambda *call: sent.append(call[2].split()[0]))
        conclude(connection, lease, settlement, outcome, actor="tester", check_after=CHECK_AFTER)
    return sent
