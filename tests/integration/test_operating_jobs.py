"""Operations on many things: each is done once, at the pace that was asked for, whatever happens meanwhile."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from assistance.conciliation.ledger import read_ledger
from assistance.deliveries.resolve import Resolution
from assistance.domain.errors import CountMoved, OperationOver, UnknownOperation
from assistance.domain.operator import Actor
from assistance.domain.outcome import CannotTell, Rejected, RejectionReason, Unknown
from assistance.operating import jobs
from assistance.runtime import ids
from assistance.search.mistakes import FilterMistake
from tests.builders import World, eventually, in_transaction
from tests.integration.operating_tools import (
    ANN,
    acts_on,
    add_dead,
    audited,
    begin,
    finish,
    jobs_on,
    replayed_once,
    shown,
)

REJECTED = Rejected(code="gone", detail="Gone.", reason=RejectionReason.DESTINATION)


@pytest.mark.timeout(300)
def test_a_thousand_letters_cancelled_at_half_and_resumed_are_replayed_once_each(world: World) -> None:
    add_dead(world, 1_000)
    operation = begin(world, shown=1_000, reason="The mail server is back.")
    worker = jobs_on(world)
    eventually(lambda: worker.one_pass() and shown(world, operation).done >= 500, 60)
    world.database.run(lambda connection: jobs.cancel(connection, operation, ANN))
    half = shown(world, operation)
    assert (half.state, half.cancelled_by, half.ended_at is not None) == ("cancelled", "ann", True)
    assert not worker.one_pass()
    assert replayed_once(world, half.done)
    assert half.done < 1_000

    bob = Actor(name="bob", via="command")
    world.database.run(lambda connection: jobs.resume(connection, operation, bob))
    with ThreadPoolExecutor(2) as pool:
        ends = list(pool.map(lambda _: finish(world, operation, jobs_on(world)), range(2)))
    for end in ends:
        assert (end.state, end.done, end.refused, end.expected) == ("done", 1_000, 0, 1_000)
    assert replayed_once(world, 1_000)
    assert in_transaction(world.database, read_ledger).closes
    changes = world.rows("SELECT actor, action, via FROM audit WHERE subject_kind = 'operation' ORDER BY id")
    assert [tuple(row) for row in changes] == [
        ("ann", "begin", "console"),
        ("ann", "cancel", "console"),
        ("bob", "resume", "command"),
    ]
    line = audited(world, "replay")[0]
    assert (line.actor, line.via, line.request_id, line.reason) == ("ann", "console", "r-1", "The mail server is back.")
    assert line.operation_id == operation


def test_what_comes_after_the_start_is_left_alone(world: World) -> None:
    add_dead(world, 30)
    operation = begin(world, shown=30)
    late = world.submit().id
    world.deliver(late, REJECTED)
    assert finish(world, operation).done == 30
    assert world.delivery(late).state == "dead"


def test_a_period_is_counted_from_the_start_not_from_the_moment_of_the_work(world: World) -> None:
    add_dead(world, 10)
    operation = begin(world, query={"since": "30s"}, shown=10)
    # Two minutes later they are older than 30 s.
    world.execute(
        "UPDATE operations SET upper_bound = (upper_bound::timestamptz - interval '120 s')::text,"
        " created_at = created_at - interval '120 s', updated_at = updated_at - interval '120 s'"
    )
    world.execute("UPDATE dead_letters SET created_at = created_at - interval '120 s'")
    assert finish(world, operation).done == 10


def test_an_operation_is_refused_when_the_count_moved_by_more_than_a_tenth(world: World) -> None:
    add_dead(world, 100)
    for was in (1, 89, 90, 112, 1_000):
        with pytest.raises(CountMoved, match=f"100 match now and {was:,} were shown") as refused:
            begin(world, shown=was)
        assert (refused.value.shown, refused.value.found) == (was, 100)
    assert (world.count("operations"), world.count("audit")) == (0, 0)
    for was in (91, 100, 111):
        assert shown(world, begin(world, shown=was)).expected == 100
    world.execute("DELETE FROM dead_letters WHERE id > 4")
    with pytest.raises(CountMoved):
        begin(world, shown=3)  # a tenth of a few is nothing


def test_an_operation_on_nothing_is_refused(world: World) -> None:
    with pytest.raises(CountMoved, match="Nothing matches"):
        begin(world, shown=0)


def test_orders_that_make_no_sense_are_refused_by_name(world: World) -> None:
    add_dead(world, 1)
    orders: list[tuple[str, dict[str, str], dict[str, Any], str]] = [
        ("explode", {}, {}, "kind"),
        ("replay", {"colour": "red"}, {}, "colour"),
        ("replay", {"resolved": "true"}, {}, "resolved"),
        ("replay", {"since": "yesterday"}, {}, "since"),
        ("replay", {}, {"parameters": {"to": "inbox"}}, "to"),
        ("reroute", {}, {}, "to"),
        ("resolve", {}, {}, "resolution"),
        ("resolve", {}, {"parameters": {"resolution": "lost"}}, "resolution"),
        ("resolve", {"delivery_state": "dead"}, {"parameters": {"resolution": "dead"}}, "delivery_state"),
        *(("replay", {}, {"per_second": number}, "per_second") for number in (0, -1, 1_001, float("nan"), math.inf)),
    ]
    for kind, query, more, name in orders:
        with pytest.raises(FilterMistake) as mistake:
            begin(world, kind, query, shown=1, **more)
        assert mistake.value.name == name
    assert world.count("operations") == 0


def test_the_pace_is_obeyed(world: World) -> None:
    add_dead(world, 120)
    operation = begin(world, "discard", {"reason": "rejected"}, shown=120, per_second=50)
    started = time.monotonic()
    finish(world, operation)
    # What was saved up in a second may come at once: 50, and 70 more at 50 a second.
    assert time.monotonic() - started >= 1.3
    (most,) = world.rows(
        "SELECT max(n) AS n FROM (SELECT count(*) OVER (ORDER BY at RANGE BETWEEN CURRENT ROW AND '1 s' FOLLOWING) AS n"
        " FROM audit WHERE action = 'discard') spans"
    )
    assert most.n <= 101


def test_less_than_one_a_second_is_a_pace_as_well(world: World) -> None:
    add_dead(world, 2)
    operation = begin(world, shown=2, per_second=0.5)
    worker = jobs_on(world)
    assert not worker.one_pass()
    for done in (1, 2):
        # The first is due 2 s after the beginning, the second 2 s after that; much later, it is not due at once.
        world.execute("UPDATE operations SET updated_at = updated_at - interval '1000 ms'")
        worker.one_pass()
        assert shown(world, operation).done == done - 1
        world.execute("UPDATE operations SET updated_at = updated_at - interval '60 s'")
        assert worker.one_pass()
        assert shown(world, operation).done == done


def test_what_is_refused_is_counted_with_its_sentence_and_stops_nothing(world: World) -> None:
    add_dead(world, 30)
    world.execute(
        "UPDATE requests SET called_off = 'cancelled', status = 'cancelled' WHERE id IN"
        " (SELECT id FROM requests ORDER BY id LIMIT 7)"
    )
    world.execute("INSERT INTO dead_letters (source, reason, error) VALUES ('broker', 'undecodable', '?')")
    end = finish(world, begin(world, shown=31))
    assert (end.state, end.done, end.refused) == ("done", 23, 8)
    assert end.errors == {
        "The request of dead letter … was called off: it is cancelled.": 7,
        "Dead letter … belongs to no delivery: it can be shown and discarded only.": 1,
    }
    assert len(audited(world, "replay")) == 23


def test_letters_are_discarded_with_the_reason(world: World) -> None:
    add_dead(world, 5)
    end = finish(world, begin(world, "discard", {"channel": "people"}, shown=5, reason="A test of last year."))
    assert (end.done, world.count("dead_letters", "resolution = 'discarded' AND resolved_by = 'ann'")) == (5, 5)
    assert {line.reason for line in audited(world, "discard")} == {"A test of last year."}
    assert world.count("deliveries", "state = 'dead'") == 5


def test_requests_are_cancelled_those_that_are_over_are_refused(world: World) -> None:
    waiting = [world.submit().id for _ in range(3)]
    told = world.submit().id
    world.deliver(told)
    end = finish(world, begin(world, "cancel", {"topic": "help"}, shown=4, reason="Never mind."))
    assert (end.done, end.refused, end.errors) == (3, 1, {"The request is delivered already.": 1})
    assert [world.request(request).status for request in waiting] == ["cancelled"] * 3
    (event, *_) = world.rows("SELECT actor, data FROM events WHERE type = 'assistance.cancelled'")
    assert (event.actor, event.data) == ("ann", {"by": "operator", "reason": "Never mind."})
    assert in_transaction(world.database, read_ledger).closes


def test_requests_are_rerouted_and_a_channel_that_left_the_file_fails_the_operation_until_it_is_resumed(
    world: World,
) -> None:
    requests = [world.submit().id for _ in range(3)]
    world.execute("UPDATE requests SET created_at = created_at - interval '1 s'")
    operation = begin(world, "reroute", {"channel": "people"}, shown=3, parameters={"to": "fax"})
    end = finish(world, operation)
    assert (end.state, end.errors) == ("failed", {"Channel 'fax' is not in the configuration file.": 1})
    world.execute('UPDATE operations SET parameters = \'{"to": "inbox"}\'')
    world.database.run(lambda connection: jobs.resume(connection, operation, ANN))
    end = finish(world, operation)
    assert (end.state, end.done) == ("done", 3)
    assert all(world.delivery(request, "inbox").state == "pending" for request in requests)
    (first, *_) = audited(world, "reroute")
    assert (first.before, first.after["channel"], first.after["moved"]) == ({"channels": ["people"]}, "inbox", 1)
    assert in_transaction(world.database, read_ledger).closes


def test_only_what_waits_for_the_channel_of_the_filter_is_moved(worlds: Callable[..., World]) -> None:
    world = worlds({"help": ("people", "pager"), "else": ("inbox",)})
    request = world.submit().id
    end = finish(world, begin(world, "reroute", {"channel": "pager"}, shown=1, parameters={"to": "inbox"}))
    assert end.done == 1
    states = {channel: world.delivery(request, channel).state for channel in ("people", "pager", "inbox")}
    assert states == {"people": "pending", "pager": "cancelled", "inbox": "pending"}


def test_held_deliveries_are_resolved(world: World) -> None:
    for _ in range(2):
        request = world.submit("both").id
        for channel in ("people", "inbox"):
            world.deliver(request, Unknown(code="cut", detail="Cut."), channel)
            world.end_look(world.take(request, channel).lease, CannotTell(code="no_lookup", detail="It cannot."))
    world.execute("UPDATE deliveries SET state = 'unknown', held_at = now(), lease_token = NULL, lease_until = NULL")
    parameters = {"resolution": Resolution.DELIVERED}
    end = finish(world, begin(world, "resolve", {"channel": "inbox"}, shown=2, parameters=parameters))
    assert (end.done, end.refused) == (2, 0)
    assert world.count("deliveries", "channel = 'inbox' AND state = 'delivered'") == 2
    assert world.count("deliveries", "channel = 'people' AND held_at IS NOT NULL") == 2
    assert len(audited(world, "resolve")) == 2


def test_only_what_has_not_ended_can_be_cancelled_and_only_what_stopped_can_be_resumed(world: World) -> None:
    add_dead(world, 1)
    operation = begin(world, shown=1)
    with pytest.raises(OperationOver, match="is waiting: only a cancelled or failed one"):
        world.database.run(lambda connection: jobs.resume(connection, operation, ANN))
    finish(world, operation)
    for act in (jobs.cancel, jobs.resume):
        with pytest.raises(OperationOver, match="is done"):
            world.database.run(lambda connection, act=act: act(connection, operation, ANN))  # type: ignore[misc]
        with pytest.raises(UnknownOperation):
            world.database.run(lambda connection, act=act: act(connection, ids.uuid7(), ANN))  # type: ignore[misc]
    assert not audited(world, "cancel")


def test_operations_are_listed_the_newest_first(world: World) -> None:
    add_dead(world, 1)
    acts_on(world)
    made = [begin(world, shown=1) for _ in range(3)]
    finish(world, made[0])
    with world.database.transaction() as connection:
        page = jobs.find(connection, limit=2)
        rest = jobs.find(connection, limit=2, before=page[-1])
        still_open = jobs.find(connection, limit=10, only_open=True)
        assert jobs.show(connection, ids.uuid7()) is None
    assert [row.id for row in (*page, *rest)] == made[::-1]
    assert [row.id for row in still_open] == made[:0:-1]
