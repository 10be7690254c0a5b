"""A request as a Slack message."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest

from assistance.channels.contract import Rendered
from assistance.channels.slack_message import render
from assistance.channels.text import clean
from assistance.domain.request import Priority
from assistance.testing.channel_contract import example_view
from tests.unit.corpora import corpus, naughty_strings

_ALIVE = re.compile(r"<[!@#a-zA-Z/]")  # what Slack would take for a mention, a link or a command


def texts(rendered: Rendered) -> list[str]:
    found = [rendered.text]
    for block in rendered.content["blocks"]:
        parts = block["elements"] if block["type"] == "context" else [block["text"]]
        assert all(part["type"] == "plain_text" and part["emoji"] is False for part in parts)
        found += [part["text"] for part in parts]
    return found


def description(rendered: Rendered) -> str:
    sections: list[Any] = [block for block in rendered.content["blocks"] if block["type"] == "section"]
    assert all(0 < len(section["text"]["text"]) <= 3000 for section in sections)
    return html.unescape("".join(section["text"]["text"] for section in sections))


def test_a_message_has_a_header_the_description_and_what_else_is_known() -> None:
    rendered = render(
        example_view("Help <me>", priority=Priority.HIGH, customer={"name": "Ada & Co"}, late_seconds=720)
    )
    assert rendered.text == "sales · A-7F3K9Q: Help &lt;me&gt;"
    assert [block["type"] for block in rendered.content["blocks"]] == ["header", "section", "context"]
    assert texts(rendered)[1:] == [
        "sales · A-7F3K9Q",
        "Help &lt;me&gt;",
        "From: Ada &amp; Co",
        "Priority: high",
        "Waiting since 14:02 UTC (12 min late)",
    ]


@pytest.mark.parametrize("text", ["x" * 4000, "word " * 799 + "word!", "é\n" * 1999 + "!", "😀" * 4000, "a<" * 1250])
def test_a_description_of_4000_characters_is_shown_whole(text: str) -> None:
    assert description(render(example_view(text))) == text


def test_long_text_is_cut_between_words() -> None:
    sections = [
        b["text"]["text"] for b in render(example_view("word " * 799)).content["blocks"] if b["type"] == "section"
    ]
    assert len(sections) == 2
    assert sections[0].endswith("word ")


@pytest.mark.parametrize("character", ["&", "<", "a", "😀"])
def test_a_message_stays_under_slacks_limit_and_says_when_it_was_cut(character: str) -> None:
    customer = dict.fromkeys(("name", "email", "id"), character * 1000)
    rendered = render(example_view(character * 4000, topic=character * 64, customer=customer, late_seconds=999))
    assert sum(map(len, texts(rendered))) < 10_000
    whole = description(rendered) == character * 4000
    assert whole or "cut here" in description(rendered)
    assert whole is (character not in "&<")


def test_an_escape_is_never_cut_in_two() -> None:
    for offset in range(6):
        rendered = render(example_view("x" * (2995 + offset) + "&" * 20))
        assert all(not re.search(r"&(?!amp;)", text) for text in texts(rendered))


@pytest.mark.parametrize("where", ["description", "topic", "customer"])
def test_nothing_of_an_injection_comes_alive(where: str) -> None:
    for case in corpus("injection/slack.json"):
        text = case["input"]
        members: dict[str, Any] = {"customer": {"name": text}} if where == "customer" else {where: text}
        view = example_view(**members)
        for shown in texts(render(view)):
            assert not _ALIVE.search(shown), case["why"]
            assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x08\x1b]", shown), case["why"]
        if where == "description":
            expected = clean(text[:4000]) or "(nothing that can be shown)"
            assert description(render(view)).startswith(expected), case["why"]


def test_what_people_read_is_what_was_accepted() -> None:
    for text in naughty_strings():
        if clean(text).strip():
            assert description(render(example_view(text))) == clean(text)
