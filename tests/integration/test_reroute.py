"""A dead channel's backlog moves to another channel: nothing is lost on the way, nothing is told twice."""

from __future__ import annotations

import io
import json
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from assistance.cli import run
from assistance.conciliation.ledger import read_ledger
from assistance.deliveries import reroute as module
from assistance.deliveries.reroute import Reroute, Rerouted, reroute, survey
from assistance.domain.errors import AssistanceError
from assistance.domain.outcome import Delivered, Rejected, RejectionReason, RetryLater, Unknown
from tests.builders import CHECK_AFTER, Line, ScriptedChannel, World, in_transaction

BUSY = RetryLater(code="busy", detail="Busy.")
GONE = Rejected(code="gone", detail="Gone.", reason=RejectionReason.DESTINATION)


def order(source: str = "people", target: str = "inbox", topic: str | None = None) -> Reroute:
    return Reroute(source=source, target=target, actor="operator", check_after=CHECK_AFTER, topic=topic)


def states(world: World, request: UUID) -> dict[str, str]:
    rows = world.rows("SELECT channel, state FROM deliveries WHERE request_id = :id", id=request)
    return {row.channel: row.state for row in rows}


def assert_ledger_closes(world: World) -> None:
    assert in_transaction(world.database, read_ledger).violations == {}


def test_what_waits_is_cancelled_and_starts_anew_on_the_other_channel(world: World) -> None:
    fresh, tried = world.submit().id, world.submit().id
    world.deliver(tried, BUSY)
    assert reroute(world.database, order()) == Rerouted(moved=2)
    for request in (fresh, tried):
        old, new = world.delivery(request), world.delivery(request, "inbox")
        assert (old.state, old.check_at, old.last_error_class) == ("cancelled", None, "rerouted")
        assert old.last_error_detail == "Rerouted to inbox by operator."
        assert (new.state, new.series, new.attempt, new.required, new.step) == ("pending", 1, 0, True, old.step)
        assert new.check_at is not None
        assert world.request(request).status == "accepted"
        world.deliver(request, channel="inbox")
        assert world.request(request).status == "delivered"
    assert world.count("outbox", "channel = 'people'") == 0
    assert_ledger_closes(world)


def test_the_timeline_says_who_moved_it(world: World) -> None:
    request = world.submit().id
    reroute(world.database, order())
    (event,) = world.rows("SELECT version, type, actor, data FROM events")
    assert tuple(event) == (2, "assistance.rerouted", "operator", {"from": "people", "to": "inbox"})
    assert world.request(request).state_version == 2


def test_moved_deliveries_arrive_once_and_only_on_the_new_channel(world: World) -> None:
    requests = [world.submit().id for _ in range(7)]
    people, inbox = ScriptedChannel(), ScriptedChannel()
    reroute(world.database, order())
    line = Line(world, {"people": people, "inbox": inbox})
    try:
        line.run_until(lambda: world.count("requests", "status = 'delivered'") == len(requests), 60)
    finally:
        line.stop()
    assert people.sent == []
    assert set(Counter(key.delivery_id for key in inbox.sent).values()) == {1}
    assert len(inbox.sent) == 7
    assert_ledger_closes(world)


def test_a_request_that_the_other_channel_has_already_is_only_cancelled(world: World) -> None:
    waiting, told = world.submit("both").id, world.submit("both").id
    world.deliver(told, channel="inbox")
    assert reroute(world.database, order()) == Rerouted(there_already=2)
    assert states(world, waiting) == {"people": "cancelled", "inbox": "pending"}
    assert world.request(waiting).status == "accepted"
    assert world.request(told).status == "delivered"
    assert world.count("deliveries") == 4
    assert_ledger_closes(world)


def test_what_is_being_sent_or_may_have_arrived_stays_and_is_counted(world: World) -> None:
    sending, unknown, held, late, waiting = (world.submit().id for _ in range(5))
    world.take(sending)
    world.deliver(unknown, Unknown(code="cut", detail="Cut."))
    world.deliver(held, Unknown(code="cut", detail="Cut."))
    world.execute("UPDATE deliveries SET held_at = now() WHERE request_id = :id", id=held)
    world.deliver(late, BUSY)
    world.execute("""UPDATE attempts SET receipt = '{"id": 1}' WHERE delivery_id = :id""", id=world.delivery(late).id)
    expected = Rerouted(moved=1, left=Counter({"being sent": 1, "outcome unknown": 3}))
    assert survey(world.database, order()) == expected
    assert reroute(world.database, order()) == expected
    assert states(world, waiting) == {"people": "cancelled", "inbox": "pending"}
    assert states(world, sending) == {"people": "sending"}
    assert states(world, unknown) == states(world, held) == {"people": "unknown"}
    assert states(world, late) == {"people": "pending"}


def test_what_is_dead_on_the_other_channel_stays_where_it_can_still_be_told(world: World) -> None:
    request = world.submit("both").id
    world.deliver(request, GONE, "inbox")
    assert reroute(world.database, order()) == Rerouted(left=Counter({"dead on the target": 1}))
    assert states(world, request) == {"people": "pending", "inbox": "dead"}


def test_a_request_that_another_step_tells_the_target_is_only_cancelled(world: World) -> None:
    request = world.submit("both").id
    world.execute("UPDATE deliveries SET step = 1 WHERE channel = 'inbox'")
    assert reroute(world.database, order()) == Rerouted(there_already=1)
    assert states(world, request) == {"people": "cancelled", "inbox": "pending"}
    assert world.request(request).status == "accepted"


def test_readers_of_the_other_channel_are_told_that_it_may_be_a_repetition(world: World) -> None:
    request = world.submit().id
    world.execute("UPDATE deliveries SET may_repeat = true")
    reroute(world.database, order())
    assert world.delivery(request, "inbox").may_repeat
    world.execute("UPDATE deliveries SET may_repeat = (channel = 'inbox')")
    reroute(world.database, order("inbox", "people"))
    assert world.delivery(request).may_repeat


def test_moving_there_and_back_again_loses_nothing(world: World) -> None:
    request = world.submit().id
    reroute(world.database, order())
    assert reroute(world.database, order("inbox", "people")) == Rerouted(moved=1)
    delivery = world.delivery(request)
    assert (delivery.state, delivery.series, delivery.attempt, delivery.last_error_class) == ("pending", 2, 0, None)
    assert world.request(request).status == "accepted"
    world.deliver(request)
    assert world.request(request).status == "delivered"
    assert_ledger_closes(world)


def test_a_repetition_moves_nothing_a_second_time(world: World) -> None:
    world.submit()
    reroute(world.database, order())
    assert reroute(world.database, order()) == Rerouted()
    assert world.count("deliveries") == 2


def test_a_dry_run_changes_nothing(world: World) -> None:
    request, both = world.submit().id, world.submit("both").id
    assert survey(world.database, order()) == Rerouted(moved=1, there_already=1)
    assert states(world, request) == {"people": "pending"}
    assert states(world, both) == {"people": "pending", "inbox": "pending"}


def test_only_the_named_topic_and_no_more_than_the_limit_is_moved(world: World) -> None:
    first, second = world.submit().id, world.submit().id
    both = world.submit("both").id
    assert reroute(world.database, order(topic="help"), limit=1) == Rerouted(moved=1)
    assert "inbox" in states(world, first)
    assert "inbox" not in states(world, second)
    assert reroute(world.database, order(topic="help")) == Rerouted(moved=1)
    assert states(world, both) == {"people": "pending", "inbox": "pending"}


def test_a_command_that_dies_between_two_batches_is_finished_by_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        world.submit()
    monkeypatch.setattr(module, "_BATCH", 2)
    move, calls = module._move_batch, []

    def dies(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            move(*arguments)
            raise AssistanceError("killed before the commit")
        return move(*arguments)

    monkeypatch.setattr(module, "_move_batch", dies)
    with pytest.raises(AssistanceError):
        reroute(world.database, order())
    assert world.count("deliveries", "channel = 'inbox'") == 2
    assert_ledger_closes(world)
    assert reroute(world.database, order()) == Rerouted(moved=3)
    assert world.count("deliveries", "channel = 'inbox' AND state = 'pending'") == 5
    assert_ledger_closes(world)


def test_consumers_at_work_and_two_operators_at_once_tell_everybody_exactly_once(world: World) -> None:
    requests = [world.submit().id for _ in range(60)]
    people, inbox = ScriptedChannel(), ScriptedChannel()
    line = Line(world, {"people": people, "inbox": inbox})
    try:
        with ThreadPoolExecutor(2) as pool:
            runs = [pool.submit(reroute, world.database, order()) for _ in range(2)]
            line.run_until(lambda: world.count("requests", "status = 'delivered'") == len(requests), 60)
            moved = sum(run.result().moved for run in runs)
    finally:
        line.stop()
    assert len(people.sent) + len(inbox.sent) == 60
    assert len(inbox.sent) == moved
    assert world.count("deliveries", "state = 'delivered'") == 60
    assert_ledger_closes(world)


FILE = """
[channels.inbox]
type = "webhook"
url = "http://127.0.0.1:9/hook"
secret = "env:HOOK_SECRET"
[topics]
help = "inbox"
"""


@pytest.fixture
def command(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    """`assistance deliveries reroute` on an installation whose file knows only `inbox`: its exit code and output."""
    (tmp_path / "assistance.toml").write_text(FILE, encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["assistance"])
    monkeypatch.setenv("ASSISTANCE_DATABASE_URL", database_url)
    monkeypatch.setenv("ASSISTANCE_BROKER_URL", "memory:")
    monkeypatch.setenv("ASSISTANCE_CONFIG", str(tmp_path / "assistance.toml"))

    def call(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            run("deliveries", "reroute", *words)
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return call


def test_the_backlog_of_a_channel_that_left_the_file_is_moved_by_the_command(world: World, command: Any) -> None:
    request, unknown = world.submit().id, world.submit().id
    world.deliver(unknown, Unknown(code="cut", detail="Cut."))
    words = ("--from", "people", "--to", "inbox")
    code, out, _ = command(*words, "--dry-run")
    assert (code, out.splitlines()) == (
        0,
        ["1 deliveries would be moved from people to inbox.", "1 left on people: outcome unknown."],
    )
    assert states(world, request) == {"people": "pending"}
    code, out, _ = command(*words, "--yes", "--json", "--topic", " HELP ")
    assert (code, json.loads(out)) == (0, {"moved": 1, "there_already": 0, "left": {"outcome unknown": 1}})
    assert states(world, request) == {"people": "cancelled", "inbox": "pending"}


def test_the_command_asks_first_and_refuses_what_makes_no_sense(
    world: World, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = world.submit().id
    code, _, err = command("--from", "people", "--to", "fax", "--yes")
    assert (code, err) == (2, "Channel 'fax' is not in the configuration file.\n")
    assert command("--from", "inbox", "--to", "inbox", "--yes")[0] == 2
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    code, _, err = command("--from", "people", "--to", "inbox")
    assert code == 1
    assert "Move 1 deliveries from people to inbox?" in err
    assert states(world, request) == {"people": "pending"}


def test_a_receipt_on_the_new_channel_counts_as_delivered(world: World) -> None:
    request = world.submit().id
    reroute(world.database, order())
    world.deliver(request, Delivered(receipt={"id": "r-2"}), "inbox")
    assert world.request(request).ended_at is not None
    assert world.delivery(request, "inbox").receipt == {"id": "r-2"}
