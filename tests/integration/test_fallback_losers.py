"""Fallback: the first step that tells people ends the others, whatever they are doing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from assistance.deliveries.lease import NothingToDo
from assistance.deliveries.settle import Hold, Problem
from assistance.domain.outcome import CannotTell, Found, NotFound, Outcome
from assistance.runtime.clock import Deadline
from assistance.status.finding import Finder
from tests.builders import RECEIPT, World
from tests.integration.fallback_tools import (
    LATER,
    REJECTED,
    TOPICS,
    UNKNOWN,
    closes,
    let_time_pass,
    replay_letter,
    states,
)

FAILURES: dict[str, Outcome] = {"later": LATER, "rejected": REJECTED, "unknown": UNKNOWN}


@pytest.fixture
def world(worlds: Callable[..., World]) -> World:
    return worlds(TOPICS)


def test_the_first_step_that_tells_people_ends_the_others(world: World) -> None:
    request = world.submit("sales").id
    world.deliver(request, LATER, "team")
    let_time_pass(world, request, 121)
    world.fire_timers()
    assert world.deliver(request, RECEIPT, "mail").request_status == "delivered"
    assert states(world, request) == {"team": "cancelled", "mail": "delivered"}
    team = world.delivery(request, "team")
    assert (team.check_at, team.last_error_class, team.last_error_code) == (None, "cancelled", "handled_elsewhere")
    assert team.last_error_detail == "Handled elsewhere: delivered to mail."
    assert (world.count("timers"), world.count("outbox", "channel = 'team'")) == (0, 0)
    found = world.request(request)
    assert (found.status, found.state_version, found.ended_at is not None) == ("delivered", 3, True)
    assert world.claim(world.hint(request, "team")) == NothingToDo(reason="finished")
    shown = Finder(world.database)(request, Deadline.after(5), client=None)
    assert shown is not None
    assert [(d["channel"], d["step"], d["state"]) for d in shown["deliveries"]] == [
        ("team", 0, "cancelled"),
        ("mail", 1, "delivered"),
    ]
    assert closes(world)


def test_the_first_step_ends_the_later_ones_just_so(world: World) -> None:
    request = world.submit("sales").id
    let_time_pass(world, request, 121)
    world.fire_timers()
    world.deliver(request, RECEIPT, "team")
    assert states(world, request) == {"team": "delivered", "mail": "cancelled"}
    assert world.count("timers") == 0
    let_time_pass(world, request, 3600)
    world.fire_timers()
    assert len(states(world, request)) == 2


def test_a_step_of_two_tells_people_when_both_did(world: World) -> None:
    request = world.submit("pair").id
    let_time_pass(world, request, 121)
    world.fire_timers()
    world.deliver(request, RECEIPT, "left")
    assert states(world, request) == {"left": "delivered", "right": "pending", "mail": "pending"}
    assert world.take(request, "mail").unconfirmed == ("right",)
    world.deliver(request, RECEIPT, "right")
    assert states(world, request) == {"left": "delivered", "right": "delivered", "mail": "sending"}
    assert world.request(request).status == "delivered"


@pytest.mark.parametrize("is_held", [False, True])
def test_a_loser_that_waits_for_a_look_or_an_operator_is_cancelled(world: World, is_held: bool) -> None:
    request = world.submit("sales").id
    lease = world.take(request, "team").lease
    if is_held:
        problem = Problem(kind="unknown", code="no_lookup", detail="Nobody can tell.")
        assert world.write(lease, Hold(problem=problem), UNKNOWN).kept
    else:
        world.end(lease, UNKNOWN)
    let_time_pass(world, request, 121)
    world.fire_timers()
    world.deliver(request, RECEIPT, "mail")
    team = world.delivery(request, "team")
    assert (team.state, team.held_at, world.request(request).ended_at is not None) == ("cancelled", None, True)
    assert closes(world)


@pytest.mark.parametrize("failure", FAILURES)
def test_a_loser_that_is_being_sent_is_cancelled_when_its_try_fails(world: World, failure: str) -> None:
    request = world.submit("sales").id
    team = world.take(request, "team").lease
    let_time_pass(world, request, 121)
    world.fire_timers()
    world.deliver(request, RECEIPT, "mail")
    assert states(world, request)["team"] == "sending"
    assert (world.request(request).status, world.request(request).ended_at) == ("delivered", None)
    concluded = world.end(team, FAILURES[failure])
    assert (concluded.kept, concluded.cancelled, concluded.request_status) == (True, True, "delivered")
    assert states(world, request)["team"] == "cancelled"
    assert world.request(request).ended_at is not None
    assert (world.letters(), world.count("outbox", "channel = 'team' AND attempt > 1")) == ([], 0)
    assert closes(world)


def test_a_loser_that_arrives_all_the_same_is_delivered(world: World) -> None:
    request = world.submit("sales").id
    team = world.take(request, "team").lease
    let_time_pass(world, request, 121)
    world.fire_timers()
    world.deliver(request, RECEIPT, "mail")
    assert world.end(team, RECEIPT).cancelled is False
    assert states(world, request) == {"team": "delivered", "mail": "delivered"}
    found = world.request(request)
    assert (found.status, found.state_version, found.ended_at is not None) == ("delivered", 3, True)
    assert closes(world)


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (Found(receipt={"ts": "1"}), "delivered"),
        (NotFound(), "cancelled"),
        (CannotTell(code="down", detail="Down.", look_again=True), "cancelled"),
        (CannotTell(code="no_lookup", detail="No look-up."), "cancelled"),
    ],
    ids=["found", "not found", "down", "no look-up"],
)
@pytest.mark.parametrize("holder", ["looks", "died"])
def test_the_look_up_settles_a_loser_that_nobody_knows_about(
    world: World, answer: Any, state: str, holder: str
) -> None:
    request = world.submit("sales").id
    if holder == "looks":
        world.deliver(request, UNKNOWN, "team")
        look = world.take(request, "team").lease
    else:
        world.take(request, "team")
    let_time_pass(world, request, 121)
    world.fire_timers()
    world.deliver(request, RECEIPT, "mail")
    if holder == "died":
        world.end_leases()
        world.conciliation().one_pass()
        look = world.take(request, "team").lease
    world.end_look(look, answer)
    assert states(world, request) == {"team": state, "mail": "delivered"}
    assert world.request(request).ended_at is not None
    assert closes(world)


def test_an_operators_replay_goes_on_although_another_step_told_people(world: World) -> None:
    request = world.submit("sales").id
    world.deliver(request, REJECTED, "team")
    world.deliver(request, RECEIPT, "mail")
    assert world.request(request).status == "delivered"
    replay_letter(world, world.letters()[0].id)
    found = world.request(request)
    assert (found.status, found.ended_at) == ("delivered", None)
    world.deliver(request, LATER, "team")
    assert states(world, request)["team"] == "pending"
    world.deliver(request, RECEIPT, "team")
    assert world.request(request).ended_at is not None
    assert closes(world)
