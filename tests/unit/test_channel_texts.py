"""What people read, and what is taken away from a customer's text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from assistance.channels.text import Said, attachments, clean, details, facts, one_line, title, transcript
from assistance.domain.request import Priority
from assistance.testing.channel_contract import example_view


def test_only_controls_and_direction_marks_are_taken_away() -> None:
    assert clean("a\r\nb\rc\td\n") == "a\nb\nc\td\n"
    assert clean("\x00\x07\x1b[31mred\x7f\x9f") == "[31mred"
    assert clean("\u202ecod.exe \u2066x\u2069") == "cod.exe x"
    assert clean("Ünïcödé שלום \u200f 👩‍👩‍👧 &amp; <b>") == "Ünïcödé שלום \u200f 👩‍👩‍👧 &amp; <b>"


def test_one_line_is_one_line_and_no_longer_than_asked() -> None:
    assert one_line(" a\n\u2028b\tc ") == "a b c"
    assert one_line("x" * 300, 10) == "x" * 9 + "…"


def test_an_ordinary_request_in_time_needs_no_facts() -> None:
    assert list(facts(example_view(late_seconds=60))) == []
    assert title(example_view().request) == "sales · A-7F3K9Q"


def test_who_asked_and_how_urgent_it_is_are_shown() -> None:
    view = example_view(
        customer={
            "tier": "gold",
            "name": "Ada\nLovelace",
            "email": "ada@example.test",
            "id": "cus_42",
            "phone": "+451234",
        },
        bot={
            "name": "shopbot",
            "version": "3.2",
            "confidence": 0.314,
            "reason": "low_confidence",
            "tried": ["faq", "crm"],
        },
        conversation={"id": "wa:45", "channel": "whatsapp", "transcript_url": "https://chat.example.test/45"},
        priority=Priority.HIGH,
    )
    assert list(facts(view)) == [
        "From: Ada Lovelace, ada@example.test, +451234, cus_42, gold",
        "Priority: high",
        "Bot: shopbot 3.2, confidence 0.31, low_confidence, tried faq, crm",
        "Conversation: whatsapp, wa:45",
    ]


def test_what_the_bot_keeps_elsewhere_is_named_with_its_whole_address() -> None:
    long = "https://files.example.test/" + "a" * 2000
    view = example_view(
        attachments=[
            {"url": long, "name": "order\n.pdf", "media_type": "application/pdf"},
            {"url": "https://e.test/x", "media_type": "text/plain"},
            {"url": "https://e.test/y"},
        ],
        conversation={"transcript_url": "https://chat.example.test/45"},
    )
    assert attachments(view.request) == [
        f"order .pdf (application/pdf): {long}",
        "(text/plain): https://e.test/x",
        "https://e.test/y",
        "Transcript: https://chat.example.test/45",
    ]


def test_the_bots_own_data_is_a_line_each() -> None:
    view = example_view(metadata={"order\tid": "12\n34", "seats": 40, "new": True, "share": 0.25})
    assert details(view.request) == ["order id: 12 34", "seats: 40", "new: true", "share: 0.25"]


def test_who_said_what_is_kept_apart_from_what_was_said() -> None:
    view = example_view(
        transcript=[
            {"at": "2026-03-04T13:59:59.5Z", "from": "customer\nbot", "text": "one\r\ntwo\u202e"},
            {"from": "bot", "text": ""},
        ]
    )
    assert transcript(view.request) == [
        Said(by="customer bot, 2026-03-04 13:59 UTC", text="one\ntwo"),
        Said(by="bot", text=""),
    ]


def test_a_title_of_its_own_stands_behind_topic_and_reference() -> None:
    assert title(example_view(title="Quote for\n40 seats").request) == "sales · A-7F3K9Q · Quote for 40 seats"


@pytest.mark.parametrize("customer", [{}, {"name": ""}, {"name": None, "id": 7, "email": ["x"]}])
def test_a_customer_without_usable_words_is_not_shown(customer: dict[str, object]) -> None:
    assert list(facts(example_view(customer=customer))) == []


@pytest.mark.parametrize(
    ("late_seconds", "shown"),
    [
        (61, "Waiting since 14:02 UTC (1 min late)"),
        (720, "Waiting since 14:02 UTC (12 min late)"),
        (3 * 3600, "Waiting since 14:02 UTC (3 h late)"),
        (12 * 3600, "Waiting since 2026-03-04 14:02 UTC (12 h late)"),
        (75 * 3600, "Waiting since 2026-03-04 14:02 UTC (3 days late)"),
    ],
)
def test_a_late_message_says_since_when_it_waits(late_seconds: float, shown: str) -> None:
    assert list(facts(example_view(late_seconds=late_seconds))) == [shown]


def test_the_waiting_time_is_shown_in_utc_whatever_the_zone_of_the_row() -> None:
    created_at = datetime(2026, 3, 4, 14, 2, tzinfo=UTC).astimezone(timezone(timedelta(hours=5)))
    assert "14:02 UTC" in next(facts(example_view(late_seconds=90, created_at=created_at)))
