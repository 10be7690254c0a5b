"""Everything that a bot may send beside topic and description, as people read it and as machines get it."""

from __future__ import annotations

import html
import json
import re

from assistance.api.schema import parse_submission
from assistance.channels.text import clean
from assistance.testing.channel_contract import example_view
from tests.unit.corpora import corpus, naughty_strings
from tests.unit.renderings import everywhere, mail, mail_body, slack_texts, view_of, webhook
from tests.unit.test_api_members import FULL

_ALIVE = re.compile(r"<[!@#a-zA-Z/]")  # what Slack would take for a mention, a link or a command
_DIRECTION = re.compile("[\u202a-\u202e\u2066-\u2069\x00-\x08\x1b]")
VIEW = view_of(parse_submission(FULL, ("sales",)), late_seconds=720)


def test_slack_shows_what_helps_to_answer() -> None:
    assert slack_texts(VIEW) == [
        "sales · A-7F3K9Q · Quote for 40 seats: Customer wants a quote for 40 seats",
        "sales · A-7F3K9Q · Quote for 40 seats",
        "Customer wants a quote for 40 seats",
        "From: Ada, ada@example.com, +4512345678, cus_42, gold, da-DK",
        "Priority: high",
        "Bot: shopbot 3.2, confidence 0.31, low_confidence, tried faq:returns",
        "Conversation: whatsapp, wa:4512345678",
        "Waiting since 08:00 UTC (12 min late)",
        "The conversation:\ncustomer, 2026-03-04 14:01 UTC: Do you sell to schools?\nbot:",
        (
            "Attachments:\norder.pdf (application/pdf; x=1): https://files.example.com/o.pdf\n"
            "Transcript: https://chat.example.com/c/42"
        ),
        "Details:\norder_id: 1234\nseats: 40\nshare: 0.25\nnew: true\nnote: a b\nempty:",
    ]


def test_a_mail_shows_all_of_it() -> None:
    assert mail(VIEW)[1]["Subject"] == "[A-7F3K9Q] sales: Quote for 40 seats"
    assert mail(VIEW)[1]["Reply-To"] == "ada@example.com"
    assert mail_body(VIEW).split("\n\n") == [
        "sales · A-7F3K9Q · Quote for 40 seats",
        (
            "From: Ada, ada@example.com, +4512345678, cus_42, gold, da-DK\n"
            "Priority: high\n"
            "Bot: shopbot 3.2, confidence 0.31, low_confidence, tried faq:returns\n"
            "Conversation: whatsapp, wa:4512345678\n"
            "Waiting since 08:00 UTC (12 min late)"
        ),
        "Customer wants a quote for 40 seats",
        (
            "Attachments:\n- order.pdf (application/pdf; x=1): https://files.example.com/o.pdf\n"
            "- Transcript: https://chat.example.com/c/42"
        ),
        "Details:\n- order_id: 1234\n- seats: 40\n- share: 0.25\n- new: true\n- note: a b\n- empty:",
        "The conversation:",
        "customer, 2026-03-04 14:01 UTC:\n> Do you sell\n> to schools?",
        "bot:\n> ",
    ]


def test_a_webhook_gets_all_of_it_as_it_was_sent() -> None:
    data = json.loads(json.dumps(webhook(VIEW).content))["data"]
    sent = json.loads(json.dumps(FULL))
    sent["conversation"]["transcript"][0] |= {"at": "2026-03-04T14:01:00.000000Z", "text": "Do you sell\nto schools?"}
    names = ("title", "priority", "customer", "conversation", "bot", "attachments", "metadata")
    assert {name: data[name] for name in names} == {name: sent[name] for name in names}


def test_slack_shows_the_end_of_a_long_conversation_and_a_mail_all_but_its_beginning() -> None:
    said = [{"from": "customer", "text": f"No. {number} " + "x" * 900} for number in range(40)]
    view = example_view("d" * 4000, transcript=said)
    (section,) = [text for text in slack_texts(view) if "messages:" in text]
    assert section.startswith("The last of 40 messages:\ncustomer: No. 35 xx")
    assert section.count("customer: No. ") == 5
    assert all(len(line) <= 300 for line in section.splitlines())
    body = mail_body(view)
    assert "The conversation, without the first 19 messages:\n\ncustomer:\n> No. 19 xx" in body
    assert body.count("> No. ") == 21
    assert body.endswith("> No. 39 " + "x" * 900)


def test_a_title_that_slacks_header_has_no_room_for_is_whole_above_the_description() -> None:
    title = "<Quote> " * 25
    texts = slack_texts(example_view(title=title.strip()))
    assert len(texts[1]) <= 150
    assert texts[1].startswith("sales · A-7F3K9Q · &lt;Quote&gt;")
    assert texts[1].endswith("…")
    assert html.unescape(texts[2]) == title.strip()


def test_lines_that_slack_has_no_room_for_are_counted() -> None:
    files = [{"url": "https://e.test/" + "x" * 1000, "name": f"file {number}"} for number in range(10)]
    (section,) = [text for text in slack_texts(example_view(attachments=files)) if text.startswith("Attachments:")]
    assert section.count("https://e.test/" + "x" * 1000) == 2
    assert section.endswith("\n… 8 more")


def test_files_that_slack_has_no_room_for_at_all_are_still_mentioned() -> None:
    files = [{"url": "https://e.test/" + "&" * 2000}] * 3
    assert "Attachments:\n… 3 more" in slack_texts(example_view(attachments=files))


def test_whatever_else_was_sent_a_description_of_4000_characters_is_whole() -> None:
    view = example_view("d" * 4000, topic="t" * 64, late_seconds=999, **_flood("x"))
    assert "d" * 3000 in slack_texts(view)
    assert "d" * 1000 in slack_texts(view)
    for character in "&<😀":
        slack_texts(example_view(character * 4000, topic=character * 64, late_seconds=999, **_flood(character)))


def _flood(character: str) -> dict[str, object]:
    long = everywhere(character * 5000)
    return {
        **{name: long[name] for name in ("title", "customer", "bot")},
        "transcript": [{"from": character * 64, "text": character * 4000}] * 15,
        "attachments": [{"url": "https://e.test/" + "x" * 1000, "name": character * 255}] * 10,
        "metadata": {f"{number}": character * 512 for number in range(50)},
    }


def test_nothing_that_anybody_wrote_comes_alive_in_slack() -> None:
    for text in [case["input"] for case in corpus("injection/slack.json")] + naughty_strings():
        members = everywhere(text[:4000])
        members["transcript"] = members["conversation"].pop("transcript")
        members.pop("dedup_key")
        for shown in slack_texts(example_view(**members)):
            assert not _ALIVE.search(shown), text
            assert not _DIRECTION.search(shown), text


def test_nothing_that_anybody_wrote_becomes_a_header_and_a_transcript_arrives_as_it_was_written() -> None:
    texts = [case["input"] for case in corpus("injection/email_headers.json")]
    texts += [case["body"] for case in corpus("injection/smtp_data.json")]
    for text in texts + naughty_strings():
        members = everywhere(text[:4000])
        members["transcript"] = members["conversation"].pop("transcript")
        members.pop("dedup_key")
        view = example_view(**members)
        _, _, quoted = mail_body(view).partition("\n\nThe conversation:\n\n")
        lines = [line[2:] for line in quoted.split("\n") if line.startswith("> ")]
        assert lines == clean(text[:4000]).split("\n") * 3
