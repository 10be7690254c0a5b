"""How much waits on each channel: counted while that is cheap, else as the history knew it last."""

from __future__ import annotations

from typing import Any

from assistance.status.situation import read_backlog

NOBODY = {"ready": 0, "sending": 0, "retrying": 0, "looked_up": 0, "held": 0}


def counted(channel: str, **numbers: int) -> dict[str, Any]:
    return {"channel": channel, "oldest": "2026-11-21T12:00:00+00:00", "next_attempt": None, **NOBODY, **numbers}


def test_a_backlog_that_was_counted_whole_is_told_as_it_is() -> None:
    found = {"looked_at": 7, "channels": [counted("people", ready=5, held=2)], "history": {"people": {"ready": 90}}}
    backlog = read_backlog(found)["people"]
    assert (backlog.number, backlog.by_state["held"], backlog.precision) == (7, 2, "")


def test_of_a_larger_one_the_history_tells_about_how_much_it_is() -> None:
    found = {
        "looked_at": 5_000,
        "channels": [counted("people", ready=4_000), counted("inbox", retrying=1_000)],
        "history": {"people": {"ready": 90_000, "dead": 3}, "mail": {"held": 2}, "quiet": {"dead": 1}},
    }
    backlogs = read_backlog(found)
    assert {name: backlog.number for name, backlog in backlogs.items()} == {"inbox": 1_000, "mail": 2, "people": 90_000}
    assert {backlog.precision for backlog in backlogs.values()} == {"about "}


def test_without_a_history_what_was_counted_is_a_lower_bound() -> None:
    found = {"looked_at": 5_000, "channels": [counted("people", ready=5_000)], "history": None}
    backlog = read_backlog(found)["people"]
    assert (backlog.number, backlog.precision) == (5_000, "at least ")
