"""The history says what happened: each minute, each channel, neither more nor less."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Connection

from assistance.deliveries.channel_states import PauseCause, pause
from assistance.domain.outcome import Found, Rejected, RejectionReason, RetryLater, Unknown
from assistance.history import roll_up as roll_up_module
from assistance.history.latency import BOUNDS
from assistance.history.roll_up import RollUp
from assistance.storage.locks import Lock
from tests.builders import RECEIPT, Line, ScriptedChannel, World, in_transaction
from tests.integration.history_tools import MINUTE, count_minutes, put, roll_up, row, this_minute
from tests.integration.test_idle import exchanges

REJECTED = Rejected(code="gone", detail="Nobody lives there.", reason=RejectionReason.DESTINATION)
BUSY = RetryLater(code="busy", detail="Later.")


def place(seconds: float) -> int:
    """Where a delivery that took so long is counted."""
    return next((place for place, bound in enumerate(BOUNDS) if seconds < bound), len(BOUNDS))


def test_what_happened_in_a_minute_is_counted_for_the_whole_and_for_each_channel(world: World) -> None:
    begin = this_minute(world) - 2 * MINUTE
    quick, slow, dead, waiting = world.submit("both").id, world.submit().id, world.submit().id, world.submit().id
    world.deliver(quick)
    world.deliver(quick, channel="inbox")
    world.deliver(slow, BUSY)
    world.deliver(slow)
    world.deliver(dead, REJECTED)
    for request, seconds in ((quick, 0.4), (slow, 33.0), (dead, 1.0), (waiting, 0.0)):
        put(world, request, begin, delivered_after=seconds)
    count_minutes(world, begin)
    whole, people, inbox = (row(world, begin, channel) for channel in ("", "people", "inbox"))
    assert (whole.accepted, whole.delivered, whole.dead) == (4, 2, 1)
    assert (people.accepted, people.delivered, people.dead) == (4, 2, 1)
    assert (inbox.accepted, inbox.delivered, inbox.dead) == (1, 1, 0)
    assert whole.attempts == {"delivered": 3, "retry_later": 1, "rejected": 1}
    assert people.attempts == {"delivered": 2, "retry_later": 1, "rejected": 1}
    assert inbox.attempts == {"delivered": 1}
    for counted, took in ((whole, [0.4, 33.0]), (people, [0.4, 33.0]), (inbox, [0.4])):
        assert [n for n, many in enumerate(counted.latency) if many] == [place(seconds) for seconds in took]
    assert world.count("history", f"span_seconds = 60 AND begins_at <> '{begin.isoformat()}'") == 0


def test_a_request_for_two_channels_is_delivered_once_when_the_last_one_has_it(world: World) -> None:
    begin = this_minute(world) - 5 * MINUTE
    request = world.submit("both").id
    world.deliver(request)
    put(world, request, begin)
    world.deliver(request, channel="inbox")
    late = begin + MINUTE + timedelta(seconds=30)
    world.execute("UPDATE events SET at = :at", at=late)
    world.execute(
        "UPDATE attempts a SET started_at = :at, finished_at = :at FROM deliveries d"
        " WHERE d.id = a.delivery_id AND d.channel = 'inbox'",
        at=late,
    )
    count_minutes(world, begin, 2)
    assert [row(world, begin + n * MINUTE).delivered for n in (0, 1)] == [0, 1]
    assert row(world, begin, "people").delivered == 1
    assert row(world, begin + MINUTE, "inbox").delivered == 1
    assert row(world, begin + MINUTE).latency[place(90.0)] == 1


def test_tries_that_are_worth_another_are_told_apart_by_why(world: World) -> None:
    begin = this_minute(world) - MINUTE
    for code in ("ratelimited", "http_429", "connect_timeout", "no_time", "busy"):
        request = world.submit().id
        world.deliver(request, RetryLater(code=code, detail="Later."))
        put(world, request, begin)
    count_minutes(world, begin)
    assert row(world, begin, "people").attempts == {"throttled": 2, "timeout": 2, "retry_later": 1}


def test_what_a_look_up_finds_is_delivered_when_it_was_found(world: World) -> None:
    begin = this_minute(world) - 10 * MINUTE
    request = world.submit().id
    world.deliver(request, Unknown(code="no_answer", detail="Nobody knows."))
    world.end_look(world.take(request).lease, Found(receipt={"id": "r-1"}))
    put(world, request, begin)
    found = begin + 4 * MINUTE
    world.execute("UPDATE deliveries SET updated_at = :at", at=found)
    world.execute("UPDATE events SET at = :at", at=found)
    count_minutes(world, begin)
    count_minutes(world, found)
    assert (row(world, begin).attempts, row(world, begin).delivered) == ({"unknown": 1}, 0)
    assert (row(world, found).attempts, row(world, found).delivered) == ({}, 1)
    assert row(world, found, "people").latency[place(240.0)] == 1


def test_counting_a_minute_again_changes_nothing_but_what_came_late(world: World) -> None:
    begin = this_minute(world) - 2 * MINUTE
    first = world.submit().id
    world.deliver(first)
    put(world, first, begin)
    for _ in range(2):
        roll_up(world)
        count_minutes(world, begin)
        assert (row(world, begin).accepted, row(world, begin).delivered) == (1, 1)
    late = world.submit().id
    put(world, late, begin)
    count_minutes(world, begin)
    assert (row(world, begin).accepted, row(world, begin).delivered) == (2, 1)


def test_what_is_committed_after_its_minute_was_counted_is_counted_with_a_later_one(world: World) -> None:
    begin = this_minute(world) - 2 * MINUTE
    roll_up(world)
    world.execute("DELETE FROM history WHERE begins_at > :begin", begin=begin)
    late = world.submit().id
    put(world, late, begin)
    roll_up(world)
    assert row(world, begin).accepted == 1


def test_a_minute_is_counted_once_by_however_many_processes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[object] = []
    count = roll_up_module.count

    def kept_in_mind(connection: Connection, begin: datetime, end: datetime, *, is_now: bool) -> None:
        counted.append(end)
        count(connection, begin, end, is_now=is_now)

    monkeypatch.setattr(roll_up_module, "count", kept_in_mind)
    roll_up(world)
    several, counted[:] = len(set(counted)), []
    assert several > 1
    world.execute("DELETE FROM history WHERE begins_at = :newest", newest=this_minute(world) - MINUTE)
    together = threading.Barrier(4)

    def one_pass() -> None:
        rolling = RollUp(world.database)
        together.wait()
        rolling.one_pass()
        rolling.one_pass()

    threads = [threading.Thread(target=one_pass) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(counted) in (1, 2)  # twice, where a minute ended meanwhile


def test_whoever_finds_another_one_counting_leaves_it_alone(world: World) -> None:
    with world.database.transaction() as connection:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({int(Lock.ROLL_UP)})")
        assert not RollUp(world.database).one_pass()
    assert world.count("history") == 0


@pytest.mark.parametrize(("away", "counted"), [(timedelta(minutes=40), 40), (timedelta(hours=3), 60)])
def test_after_a_gap_up_to_an_hour_is_made_up_for(world: World, away: timedelta, counted: int) -> None:
    now = this_minute(world)
    world.execute("INSERT INTO history (span_seconds, begins_at, channel) VALUES (60, :at, '')", at=now - away - MINUTE)
    minutes_ago = (5, 30, 50)
    for minutes in minutes_ago:
        put(world, world.submit().id, now - minutes * MINUTE)
    roll_up(world)
    found = {found.begins_at: found.accepted for found in world.rows("SELECT * FROM history WHERE span_seconds = 60")}
    for minutes in range(1, 61):
        begin = now - minutes * MINUTE
        assert found.get(begin, "gap") == ("gap" if minutes > counted + 1 else int(minutes in minutes_ago)), minutes


def test_a_clock_that_was_set_back_makes_the_same_minutes_anew(world: World) -> None:
    now = this_minute(world)
    for minutes in range(-20, 5):  # what was counted before the clock was set back by twenty minutes
        world.execute(
            "INSERT INTO history (span_seconds, begins_at, channel, accepted) VALUES (60, :at, '', 7)",
            at=now - minutes * MINUTE,
        )
    put(world, world.submit().id, now - MINUTE)
    rolling = RollUp(world.database)
    rolling.one_pass()
    assert row(world, now - MINUTE).accepted == 1
    assert row(world, now - 2 * MINUTE).accepted == 0
    assert row(world, now - 3 * MINUTE).accepted == 7
    assert row(world, now + 10 * MINUTE).accepted == 7  # its time will come
    world.execute("UPDATE history SET accepted = 9")
    rolling.one_pass()
    if this_minute(world) == now:
        assert row(world, now - MINUTE).accepted == 9  # once a minute is enough


def test_what_stands_at_the_end_of_a_minute_is_written_beside_it(world: World) -> None:
    sending, retrying, unknown = (world.submit().id for _ in range(3))
    ready, _ = world.submit("both").id, world.submit().id
    world.take(sending)
    world.deliver(retrying, BUSY)
    world.deliver(unknown, Unknown(code="no_answer", detail="Nobody knows."))
    world.deliver(world.submit().id, REJECTED)
    world.execute("UPDATE deliveries SET created_at = now() - interval '90 s' WHERE request_id = :id", id=ready)
    world.execute("UPDATE outbox SET available_at = now() - interval '70 s' WHERE channel = 'inbox'")
    world.execute("INSERT INTO dead_letters (source, reason) VALUES ('broker', 'undecodable')")
    in_transaction(
        world.database,
        lambda connection: pause(connection, "people", cause=PauseCause.OPERATOR, reason="Lunch.", by="me"),
    )
    roll_up(world)
    newest = world.rows("SELECT max(begins_at) AS at FROM history WHERE span_seconds = 60")[0].at
    whole, people, inbox = (row(world, newest, channel) for channel in ("", "people", "inbox"))
    assert people.backlog == {"ready": 2, "sending": 1, "retrying": 1, "looked_up": 1, "dead": 1}
    assert inbox.backlog == {"ready": 1}
    assert whole.backlog == {"ready": 3, "sending": 1, "retrying": 1, "looked_up": 1, "dead": 2}
    assert (whole.breaker, people.breaker, inbox.breaker) == (None, "paused", "closed")
    assert whole.oldest_seconds == pytest.approx(90, abs=10)
    assert whole.outbox == world.count("outbox", "available_at <= now()")
    assert inbox.outbox_oldest_seconds == pytest.approx(70, abs=10)
    # Nothing is known of what stood at the end of the minutes before.
    assert row(world, newest - MINUTE).outbox is None


def test_a_channel_on_which_nothing_happens_costs_no_rows(world: World) -> None:
    roll_up(world)
    assert {found.channel for found in world.rows("SELECT channel FROM history")} == {""}


def test_everything_that_a_line_does_is_in_the_history(world: World) -> None:
    line = Line(
        world,
        {"people": ScriptedChannel(BUSY, *[RECEIPT] * 5, REJECTED), "inbox": ScriptedChannel()},
    )
    try:
        for number in range(12):
            world.submit("both" if number % 2 else "help")
        line.run_until(lambda: not world.count("deliveries", "check_at IS NOT NULL"))
    finally:
        line.stop()
    begin = this_minute(world) - 2 * MINUTE
    count_minutes(world, begin, 3)  # up to and with this one
    sums = {
        found.channel: found
        for found in world.rows(
            "SELECT channel, sum(accepted) AS accepted, sum(delivered) AS delivered, sum(dead) AS dead"
            " FROM history WHERE span_seconds = 60 GROUP BY channel"
        )
    }
    for channel in ("people", "inbox"):
        assert sums[channel].delivered == world.count(
            "deliveries", f"state = 'delivered' AND channel = '{channel}' AND purpose = 'notify'"
        )
        assert sums[channel].dead == world.count("dead_letters", f"channel = '{channel}'")
    assert sums[""].accepted == world.count("requests") == 12
    assert sums[""].delivered == world.count("requests", "status = 'delivered'")
    assert sums[""].dead == world.count("dead_letters")
    tries = world.rows(
        "SELECT sum(value::int) AS n FROM history, jsonb_each_text(attempts) WHERE span_seconds = 60 AND channel = ''"
    )
    assert tries[0].n == world.count("attempts", "outcome <> 'sending'")


def test_a_minute_costs_a_handful_of_exchanges(world: World) -> None:
    roll_up(world)
    world.execute("DELETE FROM history WHERE begins_at >= :newest", newest=this_minute(world) - MINUTE)
    rolling = RollUp(world.database)
    with exchanges(world.database) as said:
        rolling.one_pass()
    # Purging is for once an hour; the two coarsest spans are merged when a finer one of theirs is over.
    assert 5 <= len([one for one in said if "DELETE" not in one]) <= 8, said
    with exchanges(world.database) as said:
        rolling.one_pass()
    assert len(said) == 2  # a look, and the end of its transaction
