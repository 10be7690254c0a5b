"""The command line: what the person on call sees, and the exit codes that scripts rely on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from assistance.deliveries.bury import record_stray
from assistance.domain.outcome import Rejected, RejectionReason, RetryLater
from assistance.storage.tables import SCHEMA_REVISION
from tests.builders import World, in_transaction
from tests.terminal import FILE, Terminal

REJECTED = Rejected(code="gone", detail="Nobody lives there.", reason=RejectionReason.DESTINATION)


def dead(world: World, topic: str = "help") -> UUID:
    request = world.submit(topic).id
    world.deliver(request, REJECTED)
    return request


def test_show_tells_the_whole_story_of_a_request_by_code_or_id(world: World, terminal: Terminal) -> None:
    accepted = world.submit("both")
    world.deliver(accepted.id, RetryLater(code="busy", detail="Come back later."))
    world.deliver(accepted.id, REJECTED)
    for name in (accepted.ref, accepted.ref.lower(), str(accepted.id)):
        code, out = terminal.run("show", name)
        assert code == 0
        for part in (accepted.ref, "undeliverable", "The printer is on fire.", "1/1", "1/2", "busy", "tester"):
            assert part in out
        assert "assistance.undeliverable" in out
        assert "(open): rejected: gone: Nobody lives there." in out


@pytest.mark.parametrize("name", ["A-000000", "nonsense", "00000000-0000-0000-0000-000000000000"])
def test_show_of_something_unknown_is_one_sentence_and_exit_code_1(terminal: Terminal, name: str) -> None:
    assert terminal.run("show", name)[0] == 1
    assert terminal.err == f"Error: No request is called {name}.\n"


def test_list_shows_the_newest_first_and_filters(world: World, terminal: Terminal) -> None:
    first, second, third = world.submit(), world.submit("both"), world.submit()
    world.deliver(third.id)
    world.execute("UPDATE requests SET created_at = now() - interval '3 h' WHERE id = :id", id=first.id)
    third_at = world.request(third.id).created_at.isoformat()

    def listed(*options: str) -> list[str]:
        code, out = terminal.run("list", "--json", *options)
        assert code == 0, terminal.err
        return [json.loads(line)["ref"] for line in out.splitlines()]

    assert listed() == [third.ref, second.ref, first.ref]
    assert listed("--limit", "1") == [third.ref]
    assert listed("--status", "delivered") == [third.ref]
    assert listed("--topic", " BOTH ") == [second.ref]
    assert listed("--channel", "inbox") == [second.ref]
    assert listed("--since", "2h") == [third.ref, second.ref]
    assert listed("--until", third_at) == [second.ref, first.ref]
    assert listed("--older-than", "1.5h") == [first.ref]
    assert listed("--state", "delivered", "--channel", "people") == [third.ref]
    assert listed("--text", "PRINTER is on") == listed()
    assert listed("--text", "printer_") == listed("--client", "nobody") == listed("--customer", "cus_1") == []
    code, out = terminal.run("list")
    assert code == 0
    assert "inbox: pending" in out
    assert "people: delivered" in out


def test_a_wrong_option_is_usage_and_exit_code_2(terminal: Terminal) -> None:
    assert terminal.run("list", "--since", "yesterday")[0] == 2
    assert terminal.err.startswith("The filter since has to be a time such as")
    assert terminal.run("list", "--since", "99999999999h")[0] == 2
    assert "is longer than ten years" in terminal.err
    assert terminal.run("list", "--status", "lost")[0] == 2
    assert terminal.run("nonsense")[0] == 2
    assert terminal.run("dead-letters", "replay")[0] == 2
    assert "Name letters by ID" in terminal.err
    assert terminal.run("dead-letters", "replay", "1", "--all")[0] == 2


def test_the_ledger_closes_with_0_and_not_with_1(world: World, terminal: Terminal) -> None:
    world.deliver(world.submit().id)
    world.submit()
    code, out = terminal.run("ledger")
    assert code == 0
    assert "2 requests = 1 accepted + 1 delivered" in out
    assert "The ledger closes." in out
    world.execute("UPDATE requests SET status = 'cancelled' WHERE status = 'delivered'")
    code, out = terminal.run("ledger", "--json")
    assert (code, json.loads(out)["closes"]) == (1, False)
    code, out = terminal.run("ledger")
    assert code == 1
    assert "1 requests whose status disagrees with their deliveries" in out


def test_dead_letters_are_listed_and_shown(world: World, terminal: Terminal) -> None:
    ref = world.request(dead(world)).ref
    (letter,) = world.letters()
    code, out = terminal.run("dead-letters", "list")
    assert code == 0
    for part in (str(letter.id), ref, "people", "rejected", "gone: Nobody lives there."):
        assert part in out
    code, out = terminal.run("dead-letters", "list", "--json", "--channel", "people", "--reason", "rejected")
    assert [json.loads(line)["id"] for line in out.splitlines()] == [letter.id]
    cause = json.loads(out)["cause"]
    for options in (("--cause", cause), ("--topic", "HELP"), ("--since", "2h"), ("--since", "2026-01-01")):
        assert terminal.run("dead-letters", "list", "--json", *options) == (0, out)
    for options in (("--channel", "inbox"), ("--cause", "another"), ("--topic", "both"), ("--since", "0s")):
        assert terminal.run("dead-letters", "list", "--json", *options) == (0, "")
    assert terminal.run("dead-letters", "list", "--since", "soon")[0] == 2
    assert terminal.err.startswith("The filter since has to be a time")
    code, out = terminal.run("dead-letters", "show", str(letter.id))
    assert code == 0
    assert f"ref: {ref}" in out
    assert "reason: rejected" in out
    assert terminal.run("dead-letters", "show", "999")[0] == 1
    assert terminal.err == "Error: There is no dead letter 999.\n"


def test_a_dry_run_says_how_many_and_changes_nothing(world: World, terminal: Terminal) -> None:
    dead(world)
    code, out = terminal.run("dead-letters", "replay", "--all", "--dry-run")
    assert code == 0
    assert "1 dead letters would be replayed." in out
    assert world.letters()[0].resolved_at is None


def test_letters_are_replayed_by_channel_one_after_the_other(world: World, terminal: Terminal) -> None:
    requests = [dead(world) for _ in range(3)]
    other = world.submit("both").id
    world.deliver(other, REJECTED, "inbox")
    in_transaction(
        world.database,
        lambda connection: record_stray(
            connection, source="broker", reason="undecodable", error="?", message_id=None, body=b"?", headers={}
        ),
    )
    world.execute("DELETE FROM outbox")
    code, out = terminal.run("dead-letters", "replay", "--channel", "people", "--rate", "0.1")
    assert code == 0
    assert "3 dead letters replayed." in out
    assert [world.delivery(request).series for request in requests] == [2, 2, 2]
    assert world.delivery(other, "inbox").state == "dead"
    due = world.rows("SELECT extract(epoch FROM available_at - now())::float AS due FROM outbox ORDER BY id")
    assert [round(row.due / 10) for row in due] == [0, 1, 2]
    assert world.letters()[0].resolved_by.startswith("cli")


def test_a_letter_that_cannot_be_replayed_or_discarded_is_said_and_exit_code_1(
    world: World, terminal: Terminal
) -> None:
    dead(world)
    letter = str(world.letters()[0].id)
    assert terminal.run("dead-letters", "replay", letter, "999")[0] == 1
    assert "There is no dead letter 999." in terminal.err
    assert world.letters()[0].resolution == "replayed"
    assert terminal.run("dead-letters", "discard", letter)[0] == 1
    assert f"There is no open dead letter {letter}." in terminal.err


def test_a_discarded_letter_is_closed(world: World, terminal: Terminal) -> None:
    dead(world)
    code, out = terminal.run("dead-letters", "discard", str(world.letters()[0].id))
    assert code == 0
    assert "1 dead letters discarded." in out
    assert world.letters()[0].resolution == "discarded"


def test_routes_are_checked_and_explained_without_any_server(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSISTANCE_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    assert terminal.run("routes", "check") == (0, "2 topics, 2 channels: no mistakes.\n")
    code, out = terminal.run("routes", "explain", " Both ")
    assert code == 0
    assert "→ people, type webhook, time-out 10 s" in out
    assert "→ inbox, type webhook, time-out 2.5 s" in out
    assert terminal.run("routes", "explain", "sales")[0] == 1
    assert terminal.err == "Error: No topic 'sales' is configured. Configured: both, help.\n"
    (tmp_path / "assistance.toml").write_text(FILE + '[channels.x]\ntype = "fax"\n', encoding="utf-8")
    assert terminal.run("routes", "check")[0] == 2
    assert terminal.err.count("\n") == 1
    (tmp_path / "assistance.toml").write_text(FILE.replace("url =", "urls ="), encoding="utf-8")
    code, out = terminal.run("routes", "check")
    assert code == 2
    assert "[channels.people] urls is not a key of type 'webhook'" in out


def test_the_doctor_finds_a_healthy_installation_healthy(
    own_postgres: Callable[..., Any], terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    safe = own_postgres(fsync="on", synchronous_commit="on", full_page_writes="on")
    monkeypatch.setenv("ASSISTANCE_DATABASE_URL", safe.url)
    assert terminal.run("doctor") == (0, "No problems found.\n")


def test_the_doctor_warns_of_a_server_that_may_forget_what_it_accepted(
    own_postgres: Callable[..., Any], terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSISTANCE_DATABASE_URL", own_postgres(fsync="off", synchronous_commit="on").url)
    code, out = terminal.run("doctor")
    assert code == 1
    assert "PostgreSQL runs with fsync = off: an accepted request may be lost in a crash." in out
    assert "synchronous_commit" not in out


def test_the_doctor_names_what_is_wrong(
    world: World, terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.submit("both")
    (tmp_path / "assistance.toml").write_text(
        '[channels.people]\ntype = "webhook"\nurls = "x"\n[topics]\nhelp = "people"\n', encoding="utf-8"
    )
    monkeypatch.setenv("ASSISTANCE_BROKER_URL", "amqp://guest:s3cret@127.0.0.1:1/")
    code, out = terminal.run("doctor")
    assert code == 1
    assert "Channel inbox left the configuration with 1 deliveries open: they wait for it." in out
    assert "[channels.people] urls is not a key" in out
    assert "Broker: " in out
    assert "s3cret" not in out


def test_mistakes_in_the_settings_are_one_sentence_each_and_exit_code_2(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSISTANCE_DATABASE_URLS", "x")
    assert terminal.run("ledger")[0] == 2
    assert terminal.err == "ASSISTANCE_DATABASE_URLS is not a setting, did you mean ASSISTANCE_DATABASE_URL.\n"
    monkeypatch.delenv("ASSISTANCE_DATABASE_URLS")
    monkeypatch.setenv("ASSISTANCE_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none?colour=red")
    assert terminal.run("ledger")[0] == 2
    assert "ASSISTANCE_DATABASE_URL is wrong" in terminal.err
    monkeypatch.setenv("ASSISTANCE_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    assert terminal.run("ledger")[0] == 1  # a server that is away is a problem, not a mistake
    assert terminal.err == "The database is unavailable.\n"
    monkeypatch.delenv("ASSISTANCE_CONFIG")
    assert terminal.run("routes", "check")[0] == 2
    assert "ASSISTANCE_CONFIG is not set" in terminal.err


def test_a_database_without_the_schema_is_refused_until_it_is_migrated(
    terminal: Terminal, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSISTANCE_DATABASE_URL", empty_database_url)
    assert terminal.run("ledger")[0] == 2
    assert "run `assistance migrate`" in terminal.err
    assert terminal.run("migrate") == (0, f"Migrated from nothing to {SCHEMA_REVISION}.\n")
    assert terminal.run("migrate") == (0, f"The schema is at {SCHEMA_REVISION}.\n")
    assert terminal.run("ledger")[0] == 0


def test_one_round_of_conciliation_ends_by_itself(world: World, terminal: Terminal) -> None:
    world.submit()
    world.execute("DELETE FROM outbox")
    world.execute("UPDATE deliveries SET check_at = now()")
    environment = {**os.environ, "ASSISTANCE_LOG_LEVEL": "error"}
    done = subprocess.run([sys.executable, "-m", "assistance", "conciliation", "--once"], env=environment, timeout=60)
    assert done.returncode == 0
    assert world.count("outbox") == 1
