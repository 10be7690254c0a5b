"""A follow-up as people read it: in the thread of the request, or alone where nothing was told before."""

from __future__ import annotations

from dataclasses import replace

import pytest

from assistance.channels import email_message, slack_message
from assistance.channels.contract import FollowUp, View
from assistance.domain.request import Author, Submission
from assistance.testing.channel_contract import new_key
from tests.unit.renderings import SENDER, view_of

REQUEST = Submission(topic="sales", description="A customer wants an offer.", title="Offer for 40 seats")
ADDED = FollowUp(text="Is <anybody> there & awake?", author=Author.CUSTOMER, under=True)


def view(follow_up: FollowUp = ADDED) -> View:
    return view_of(REQUEST, follow_up=follow_up, event_version=3)


def texts(rendered: dict[str, list[dict[str, object]]]) -> str:
    return repr(rendered["blocks"])


def test_slack_shows_only_what_was_added_in_a_thread() -> None:
    rendered = slack_message.render(view())
    assert [block["type"] for block in rendered.content["blocks"]] == ["section", "context"]
    assert "Is &lt;anybody&gt; there &amp; awake?" in texts(dict(rendered.content))
    assert rendered.text == "A-7F3K9Q · The customer adds: Is &lt;anybody&gt; there &amp; awake?"


def test_slack_says_what_it_is_about_outside_of_a_thread() -> None:
    alone = replace(ADDED, under=False)
    rendered = slack_message.render(view(alone))
    assert rendered.content["blocks"][0]["text"]["text"] == "sales · A-7F3K9Q · Offer for 40 seats"


@pytest.mark.parametrize("text", ["&" * 4000, "x" * 4000, "\u202e\u0007", " \n "])
def test_slack_takes_any_text_that_was_added(text: str) -> None:
    added = replace(ADDED, text=text)
    rendered = slack_message.render(view(added))
    sizes = [len(block["text"]["text"]) for block in rendered.content["blocks"] if block["type"] == "section"]
    assert sizes
    assert all(0 < size <= 3000 for size in sizes)
    assert sum(sizes) + len(rendered.text) < 10_000


def test_a_mail_answers_the_mail_that_told_the_request() -> None:
    rendered = email_message.render(view())
    wire = email_message.compose(rendered, SENDER, ["a@example.test"], new_key(), answers="<root.1@example.test>")
    assert rendered.text == "Re: [A-7F3K9Q] sales: Offer for 40 seats"
    assert b"\r\nIn-Reply-To: <root.1@example.test>\r\n" in wire
    assert b"\r\nReferences: <root.1@example.test>\r\n" in wire
    assert "The customer adds (sales · A-7F3K9Q · Offer for 40 seats):" in rendered.content["body"]
    assert ADDED.text in rendered.content["body"]


def test_the_end_of_a_request_is_told_with_its_reason() -> None:
    gone = FollowUp(text="The bot cancelled this request: found it.", author=None, under=True)
    rendered = slack_message.render(view(gone))
    assert rendered.text == "A-7F3K9Q · Cancelled: The bot cancelled this request: found it."
