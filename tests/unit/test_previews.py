"""What is shown of a message to people who look at it elsewhere: as text, without the options of a channel."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from assistance.channels.contract import FollowUp, Part, View
from assistance.channels.registry import callback_type, find_type
from assistance.channels.text import clean
from assistance.domain.request import Author, Submission
from tests.unit.renderings import view_of

ASKED = Submission(
    topic="sales",
    description="<b>Is & was</b> @channel *bold* \u202egnp.exe " + "x" * 3_900,
    title="Offer",
    customer={"email": "ada@example.test"},
)
TYPES = ("slack", "email", "webhook")


def parts(name: str, view: View) -> tuple[Part, ...]:
    found = find_type(name)
    assert found is not None
    assert found.preview is not None
    return found.preview(view)


@pytest.mark.parametrize("name", TYPES)
def test_a_message_is_shown_with_the_words_that_were_asked(name: str) -> None:
    shown = "".join(part.text for part in parts(name, view_of(ASKED)))
    asked = json.dumps(ASKED.description, ensure_ascii=False)[1:-1] if name == "webhook" else clean(ASKED.description)
    assert asked.replace(" ", "") in shown.replace(" ", "").replace("\n", "")


@pytest.mark.parametrize("name", TYPES)
def test_a_follow_up_is_shown_with_the_words_that_were_added(name: str) -> None:
    added = FollowUp(text="Is <anybody> there & awake?", author=Author.CUSTOMER, under=True)
    shown = "".join(part.text for part in parts(name, view_of(ASKED, follow_up=added, event_version=2)))
    assert added.text in shown


@pytest.mark.parametrize("name", ["slack", "email"])
def test_what_readers_need_to_know_first_is_shown(name: str) -> None:
    shown = [part.text for part in parts(name, replace(view_of(ASKED), notices=("May repeat A-7F3K9Q: <lost>.",)))]
    assert any("May repeat A-7F3K9Q: <lost>." in text for text in shown)


def test_a_mail_is_shown_with_its_subject_and_whom_answers_go_to() -> None:
    labelled = {part.label: part.text for part in parts("email", view_of(ASKED))}
    assert labelled["Subject"] == "[A-7F3K9Q] sales: Offer"
    assert labelled["Answers go to"] == "ada@example.test"


def test_a_callback_is_shown_as_it_was_written_down() -> None:
    preview = callback_type().preview
    assert preview is not None
    (body,) = preview(replace(view_of(ASKED), payload={"type": "assistance.delivered", "data": {"ref": "A-7F3K9Q"}}))
    assert json.loads(body.text) == {"type": "assistance.delivered", "data": {"ref": "A-7F3K9Q"}}
