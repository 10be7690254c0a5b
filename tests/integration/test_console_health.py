"""The sentence in the header of every page of the console."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from assistance.console.health import Health, judge
from assistance.deliveries.channel_states import PauseCause, pause
from assistance.status.signs import SIGNS, Signs
from tests.builders import World
from tests.integration.overview_tools import REFUSED, beat, open_breaker


def sentence(world: World) -> Health:
    return judge(Signs.read(world.rows(f"SELECT ({SIGNS}) AS signs")[0].signs), world.configuration)


@pytest.fixture
def working(world: World) -> World:
    """An installation where every worker is there and nothing waits."""
    beat(world, "relay", "consumer", "conciliation")
    return world


def test_an_installation_that_works_says_so(working: World) -> None:
    working.deliver(working.submit().id)
    working.execute("DELETE FROM outbox")
    assert sentence(working) == Health(words="All channels deliver", is_bad=False)


def test_without_any_worker_that_is_the_first_thing_said(world: World) -> None:
    assert sentence(world) == Health(words="No worker runs", is_bad=True, since=None)


def test_a_role_whose_last_worker_fell_silent_is_named_with_its_last_sign(working: World) -> None:
    beat(working, "relay", seconds_ago=240)
    found = sentence(working)
    assert (found.words, found.is_bad) == ("No relay runs", True)
    last = working.rows("SELECT seen_at FROM heartbeats WHERE role = 'relay'")[0].seen_at
    assert found.since == last


def test_a_paused_channel_and_an_open_breaker_are_named_the_longer_one_first(working: World) -> None:
    working.database.run(
        lambda connection: pause(connection, "inbox", cause=PauseCause.OPERATOR, reason="moving", by="ada")
    )
    open_breaker(working, "people", "It is away.")
    working.execute("UPDATE channel_states SET out_since = now() - interval '4 min' WHERE channel = 'people'")
    found = sentence(working)
    assert found.words == "people: breaker open; inbox: paused"
    assert found.since == working.rows("SELECT min(out_since) AS at FROM channel_states")[0].at


def test_hints_that_nobody_publishes_are_told_of_after_half_a_minute(working: World) -> None:
    working.submit()
    assert not sentence(working).is_bad
    working.execute("UPDATE outbox SET available_at = now() - interval '1 min'")
    assert sentence(working).words == "1 hint not published"


def test_hints_of_a_channel_that_left_the_file_are_no_fault_of_the_relay(worlds: Callable[..., World]) -> None:
    before = worlds({"help": ("people",), "old": ("gone",)})
    before.submit("old")
    after = worlds({"help": ("people",)})
    beat(after, "relay", "consumer", "conciliation")
    after.execute("UPDATE outbox SET available_at = now() - interval '1 hour'")
    assert not sentence(after).is_bad


def test_deliveries_that_should_have_moved_are_stuck_unless_their_channel_is_out(working: World) -> None:
    working.submit()
    working.execute("DELETE FROM outbox")
    working.execute("UPDATE deliveries SET check_at = now() - interval '10 min'")
    assert sentence(working).words == "1 delivery stuck"
    working.database.run(
        lambda connection: pause(connection, "people", cause=PauseCause.OPERATOR, reason="moving", by="ada")
    )
    assert sentence(working).words == "people: paused"


def test_open_dead_letters_of_the_last_hour_count_until_somebody_deals_with_them(working: World) -> None:
    working.deliver(working.submit().id, REFUSED)
    working.execute("DELETE FROM outbox")
    assert sentence(working).words == "1 dead letter in the last hour"
    working.execute("UPDATE dead_letters SET resolved_at = now(), resolved_by = 'ada', resolution = 'discarded'")
    assert not sentence(working).is_bad


def test_no_more_than_two_things_are_named(working: World) -> None:
    beat(working, "relay", "conciliation", seconds_ago=240)
    working.deliver(working.submit().id, REFUSED)
    assert sentence(working).words == "No relay runs; No conciliation runs; 1 more"
