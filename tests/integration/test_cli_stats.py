"""`assistance stats`: the history in the terminal."""

from __future__ import annotations

import json

import pytest

from tests.builders import World
from tests.integration.history_tools import MINUTE, count_minutes, put, roll_up, this_minute
from tests.terminal import Terminal


@pytest.fixture
def busy(world: World) -> None:
    """Two requests three minutes ago, one of them for two channels."""
    begin = this_minute(world) - 3 * MINUTE
    for topic in ("both", "help"):
        request = world.submit(topic).id
        world.deliver(request)
        put(world, request, begin, delivered_after=0.4)
    count_minutes(world, begin, 2)


def test_a_table_and_plots_say_what_happened(busy: None, terminal: Terminal) -> None:
    code, out = terminal.run("stats")
    assert code == 0
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}
    assert rows["(all)"][1:4] == ["2", "1", "0"]
    assert rows["people"][1:4] == ["2", "2", "0"]
    assert rows["inbox"][1:4] == ["1", "0", "0"]
    assert rows["accepted"][-4:] == ["most:", "2", "in", "60s"]
    assert "█" in next(line for line in out.splitlines() if line.split()[:1] == ["accepted"] and "most" in line)
    assert "UTC" in out


def test_one_channel_is_shown_alone(busy: None, terminal: Terminal) -> None:
    code, out = terminal.run("stats", "--channel", "people", "--since", "30m")
    assert code == 0
    assert "people" in out
    assert "(all)" not in out


def test_programs_get_a_line_for_each_span(busy: None, terminal: Terminal) -> None:
    code, out = terminal.run("stats", "--json")
    assert code == 0
    first, second = (json.loads(line) for line in out.splitlines())
    assert (first["accepted"], first["delivered"], first["span_seconds"], first["channel"]) == (2, 1, 60, None)
    assert first["begins_at"] < second["begins_at"]
    assert second["accepted"] == 0


def test_a_narrow_terminal_is_wide_enough(busy: None, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out = terminal.run("stats", "--since", "24h")
    assert code == 0
    assert max(len(line) for line in out.splitlines()) <= 80
    assert "delivered" in out.split("(all)")[0]


def test_without_a_history_it_says_who_writes_it(world: World, terminal: Terminal) -> None:
    code, out = terminal.run("stats")
    assert code == 0
    assert "the history is written by the conciliation process" in out
    roll_up(world)
    assert "conciliation process" not in terminal.run("stats")[1]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--since", "yesterday"), 2, "is not a duration"),
        (("--since", "5s"), 2, "is shorter than a minute"),
        (("--since", "9000h"), 2, "lies more than 100 days before until"),
        (("--channel", "nobody"), 1, "Nothing happened on a channel nobody in this time."),
    ],
)
def test_a_mistake_is_one_sentence_and_an_exit_code(
    terminal: Terminal, words: tuple[str, ...], code: int, said: str
) -> None:
    assert terminal.run("stats", *words)[0] == code
    assert said in terminal.err
