"""The commands for channels: what stops them, and who may stop and start them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from assistance.deliveries.channel_states import PauseCause, change_breaker, pause
from assistance.status.gauges import database_gauges
from tests.builders import World
from tests.terminal import Terminal


def listed(terminal: Terminal) -> dict[str, Any]:
    code, out = terminal.run("channels", "list", "--json")
    assert code == 0
    return {found["channel"]: found for found in map(json.loads, out.splitlines())}


def test_an_operator_pauses_a_channel_with_a_reason_and_everybody_can_see_it(world: World, terminal: Terminal) -> None:
    assert terminal.run("channels", "pause", "people", "--reason", "Moving house") == (0, "people is paused.\n")
    again = terminal.run("channels", "pause", "people", "--reason", "Another")
    assert again == (0, "people was paused already; its reason stays as it was.\n")
    shown = listed(terminal)
    assert (shown["people"]["pause_cause"], shown["people"]["pause_reason"]) == ("operator", "Moving house")
    assert shown["people"]["paused_by"].startswith("cli")
    assert (shown["inbox"]["pause_cause"], shown["inbox"]["breaker"]) == (None, "closed")
    code, out = terminal.run("channels", "check", "people")
    assert code == 1
    assert "Moving house." in out
    code, out = terminal.run("doctor")
    assert code == 1
    assert "Channel people: Paused since " in out
    assert "Moving house" in terminal.run("channels", "list")[1]

    assert terminal.run("channels", "resume", "people") == (0, "people is resumed.\n")
    assert terminal.run("channels", "resume", "people") == (0, "people was not paused.\n")
    assert listed(terminal)["people"]["out_since"] is None


def test_a_resume_by_hand_ends_a_pause_because_of_the_configuration_and_says_what_else_stops_it(
    world: World, terminal: Terminal
) -> None:
    def stop(connection: Any) -> None:
        pause(connection, "people", cause=PauseCause.CONFIGURATION, reason="token_revoked: x", by="worker")
        change_breaker(connection, "people", lambda breaker, now: breaker.opened(now, 30), reason="Nobody answers.")

    world.database.run(stop)
    code, out = terminal.run("channels", "resume", "people")
    assert code == 0
    assert out.startswith("people is resumed.\nIts circuit breaker is open since ")
    assert out.endswith(": Nobody answers.\n")


@pytest.mark.parametrize("command", ["pause", "resume"])
def test_a_channel_that_is_not_configured_can_be_neither_paused_nor_resumed(
    world: World, terminal: Terminal, command: str
) -> None:
    words = ["channels", command, "nowhere", *(["--reason", "x"] if command == "pause" else [])]
    assert terminal.run(*words)[0] == 2
    assert terminal.err == "Channel 'nowhere' is not in the configuration file.\n"
    assert world.count("channel_states") == 0


def test_a_pause_without_a_reason_is_refused(world: World, terminal: Terminal) -> None:
    assert terminal.run("channels", "pause", "people")[0] == 2
    assert terminal.run("channels", "pause", "people", "--reason", " ")[0] == 2
    assert world.count("channel_states") == 0


def test_a_check_works_without_the_database_and_says_what_it_does_not_know(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSISTANCE_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    code, out = terminal.run("channels", "check", "people")
    assert (code, out[:8]) == (1, "people: ")  # nobody listens at its endpoint
    assert terminal.err == "Whether channels are paused is unknown: The database is unavailable.\n"


@pytest.mark.parametrize(("breaker", "number"), [("closed", 0), ("half_open", 1), ("open", 2)])
def test_the_gauges_show_breakers_and_pauses(world: World, breaker: str, number: int) -> None:
    out = breaker != "closed"
    world.execute(
        "INSERT INTO channel_states (channel, breaker, probe_at, out_since) VALUES ('people', :breaker,"
        " CASE WHEN :out THEN now() END, CASE WHEN :out THEN now() END)",
        breaker=breaker,
        out=out,
    )
    world.database.run(lambda connection: pause(connection, "inbox", cause=PauseCause.OPERATOR, reason="x", by="me"))
    found = {
        (sample.name, sample.labels["channel"]): sample.value
        for metric in database_gauges(world.database, ["people", "inbox"]).collect()
        for sample in metric.samples
        if "channel" in sample.labels
    }
    assert found["circuit_breaker_state", "people"] == number
    assert found["circuit_breaker_state", "inbox"] == 0
    assert found["assistance_channel_paused", "people"] == 0
    assert found["assistance_channel_paused", "inbox"] == 1
