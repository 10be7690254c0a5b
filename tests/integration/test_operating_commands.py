"""The commands that begin and watch operations, and those that read the audit log."""

from __future__ import annotations

import csv
import io
import json
import threading
from collections.abc import Iterator

import pytest

from assistance.search import letters
from tests.builders import World
from tests.integration.operating_tools import add_dead, audited, finish, jobs_on
from tests.terminal import Terminal


@pytest.fixture
def carried_out(world: World) -> Iterator[None]:
    """A worker that carries operations out meanwhile."""
    stop, worker = threading.Event(), jobs_on(world)

    def work() -> None:
        while not stop.is_set():
            if not worker.one_pass():
                stop.wait(0.02)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    stop.set()
    thread.join()


def test_more_than_a_hundred_letters_are_an_operation_that_the_command_watches(
    world: World, terminal: Terminal, carried_out: None
) -> None:
    add_dead(world, 101)
    code, out = terminal.run("dead-letters", "replay", "--channel", "people", "--rate", "1000", "--because", "Mended.")
    assert code == 0
    assert "done: 101 done, 0 refused, of 101." in out
    (operation,) = world.rows("SELECT * FROM operations")
    assert (operation.filter, operation.reason) == ({"channel": "people", "replayable": "true"}, "Mended.")
    assert (operation.actor.startswith("cli"), operation.via) == (True, "command")
    assert len(audited(world, "replay")) == 101


def test_more_than_a_hundred_are_all_meant_also_where_counting_them_stopped_before(
    world: World, terminal: Terminal, carried_out: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_dead(world, 101)
    monkeypatch.setattr(letters, "MOST_READ", 50)
    assert terminal.run("dead-letters", "discard", "--channel", "people", "--rate", "1000")[0] == 0
    assert world.count("operations") == 1
    assert world.rows("SELECT count(*) AS open FROM dead_letters WHERE resolved_at IS NULL")[0].open == 0


def test_a_few_are_done_by_the_command_itself_with_a_line_each(world: World, terminal: Terminal) -> None:
    add_dead(world, 3)
    assert terminal.run("dead-letters", "discard", "--all", "--dry-run") == (0, "3 dead letters would be discarded.\n")
    assert terminal.run("dead-letters", "discard", "--all", "--because", "Old.") == (0, "3 dead letters discarded.\n")
    assert [line.reason for line in audited(world, "discard")] == ["Old."] * 3
    assert world.count("operations") == 0
    assert terminal.run("dead-letters", "discard")[0] == 2
    assert "Name letters by ID" in terminal.err


def test_an_operation_is_begun_listed_cancelled_resumed_and_shown(world: World, terminal: Terminal) -> None:
    for _ in range(2):
        world.submit()
    words = ("operations", "begin", "cancel", "topic=help")
    assert terminal.run(*words, "--dry-run") == (0, "2 match.\n")
    code, out = terminal.run(*words, "--yes", "--no-wait", "--because", "Not needed.")
    (row,) = world.rows("SELECT * FROM operations")
    assert (code, out) == (0, f"Operation {row.id} has begun.\n")
    code, out = terminal.run("operations", "list", "--open")
    assert code == 0
    for part in (str(row.id), "cancel", "topic=help", "waiting"):
        assert part in out
    assert terminal.run("operations", "cancel", str(row.id))[0] == 0
    assert terminal.run("operations", "list", "--open", "--json") == (0, "")
    assert terminal.run("operations", "cancel", str(row.id))[0] == 1
    assert terminal.err == "The operation is cancelled already.\n"
    assert terminal.run("operations", "watch", str(row.id))[0] == 1
    assert terminal.run("operations", "resume", str(row.id), "--no-wait")[0] == 0
    assert finish(world, row.id).state == "done"
    code, out = terminal.run("operations", "show", str(row.id))
    first, *others = out.splitlines()[-3:]  # the worker of this test has said something as well
    assert (code, first.startswith("cancel topic=help by cli")) == (0, True)
    assert others == ["because: Not needed.", "done: 2 done, 0 refused, of 2."]
    assert json.loads(terminal.run("operations", "show", str(row.id), "--json")[1])["done"] == 2
    assert terminal.run("operations", "watch", str(row.id))[0] == 0
    assert terminal.run("operations", "show", "00000000-0000-0000-0000-000000000000")[0] == 1
    assert "There is no operation" in terminal.err


def test_an_order_that_makes_no_sense_is_one_sentence(world: World, terminal: Terminal) -> None:
    world.submit()
    for words, code, sentence in (
        (("cancel", "colour=red"), 2, "The filter colour does not exist.\n"),
        (("cancel", "red"), 2, "'red' is no NAME=VALUE."),
        (("cancel", "since=soon"), 2, "The filter since has to be a time"),
        (("reroute", "topic=help"), 2, "The filter to is needed to reroute.\n"),
        (("reroute", "topic=help", "--to", "fax"), 2, "Channel 'fax' is not in the configuration file.\n"),
        (("cancel", "topic=nobody"), 1, "Nothing matches any more.\n"),
        (("explode",), 2, "is not one of"),
    ):
        assert terminal.run("operations", "begin", *words, "--yes")[0] == code
        assert sentence in terminal.err
    assert world.count("operations") == 0


def test_the_log_is_listed_and_exported_with_filters(world: World, terminal: Terminal) -> None:
    terminal.run("channels", "pause", "people", "--reason", "=1+1")
    terminal.run("channels", "pause", "inbox", "--reason", "Moving.")
    terminal.run("channels", "resume", "people")
    code, out = terminal.run("audit", "list", "--subject", "people")
    assert code == 0
    assert "channel people" in out
    assert "inbox" not in out
    lines = [json.loads(line) for line in terminal.run("audit", "export")[1].splitlines()]
    assert [(line["action"], line["subject"]) for line in lines] == [
        ("resume", "people"),
        ("pause", "inbox"),
        ("pause", "people"),
    ]
    assert lines[2]["after"] == {"paused": "operator"}
    rows = list(csv.DictReader(io.StringIO(terminal.run("audit", "export", "--format", "csv", "--action", "pause")[1])))
    assert [row["reason"] for row in rows] == ["Moving.", "'=1+1"]  # no spreadsheet computes what somebody typed
    assert terminal.run("audit", "list", "--since", "1h", "--limit", "1", "--json")[1].count("\n") == 1
    assert terminal.run("audit", "list", "--until", "2020-01-01", "--json") == (0, "")
    assert terminal.run("audit", "list", "--since", "soon")[0] == 2
    assert "The filter since has to be a time" in terminal.err


def test_a_channel_is_tested_by_a_message_that_can_be_followed(world: World, terminal: Terminal) -> None:
    code, out = terminal.run("channels", "test", "people")
    (request,) = world.rows("SELECT ref FROM requests")
    assert (code, out.startswith(f"{request.ref} is on its way to people")) == (0, True)
    assert terminal.run("channels", "test", "fax")[0] == 2
    assert len(audited(world, "test")) == 1
