"""Texts that others collected to break things arrive at Slack and in the mail as they were accepted, and as text."""

from __future__ import annotations

import email
import json
import re
from collections.abc import Iterator
from email import policy

import pytest

from assistance.channels import slack
from assistance.channels.contract import Channel, Rendered, View
from assistance.channels.text import clean
from assistance.domain.outcome import Delivered
from assistance.runtime.clock import Deadline
from assistance.testing.channel_contract import new_key
from assistance.testing.slack_server import FakeSlack
from assistance.testing.smtp_server import FakeSmtp
from tests.contract.channel_tools import TOKEN, built, mailer
from tests.memory_door import CORPORA, MemoryDoor
from tests.unit.renderings import view_of
from tests.unit.test_api_corpora import expected_for, texts

pytestmark = pytest.mark.skipif(not CORPORA.exists(), reason="the corpora are not here")
_ESCAPED = {"&lt;": "<", "&gt;": ">", "&amp;": "&"}
_HEADERS = {
    *("From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted"),
    *("MIME-Version", "Content-Type", "Content-Transfer-Encoding"),
}


@pytest.fixture(scope="module")
def accepted() -> list[tuple[str, View]]:
    """What readers are to see of each text that the API takes as a description, and the request as channels get it."""
    door = MemoryDoor()
    client = door.app().test_client()
    found = []
    for text in texts():
        body = json.dumps({"topic": "sales", "description": text}).encode()
        answer = client.post("/assistance", data=body, content_type="application/json")
        assert answer.status_code == expected_for(text), text
        if answer.status_code == 202:
            shown = clean(re.sub(r"\r\n?", "\n", text))
            found.append((shown, view_of(door.submitted[-1])))
    assert len(found) > 450
    return found


@pytest.fixture
def at_slack() -> Iterator[FakeSlack]:
    with FakeSlack() as server:
        yield server


@pytest.fixture
def mailbox() -> Iterator[FakeSmtp]:
    with FakeSmtp() as server:
        yield server


def send(channel: Channel, view: View) -> None:
    rendered: Rendered = channel.render(view)
    outcome = channel.send(rendered, channel.destination, new_key(), Deadline.after(10))
    assert isinstance(outcome, Delivered), outcome


def test_every_description_is_read_in_slack_as_it_was_accepted(
    accepted: list[tuple[str, View]], at_slack: FakeSlack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_TOKEN", TOKEN)
    channel = built(slack.CHANNEL_TYPE, token="env:FAKE_TOKEN", channel="C024BE91L", api_url=at_slack.api_url)
    for shown, view in accepted:
        send(channel, view)
        message = at_slack.messages[-1]
        sections = [block["text"] for block in message["blocks"] if block["type"] == "section"]
        assert all(section["type"] == "plain_text" and section["emoji"] is False for section in sections)
        raw = "".join(section["text"] for section in sections)
        assert not re.search(r"[<>]|&(?!amp;|lt;|gt;)", raw + message["text"])
        read = re.sub("&(?:lt|gt|amp);", lambda found: _ESCAPED[found[0]], raw)
        assert read == (shown if shown.strip() else "(nothing that can be shown)")
    assert len(at_slack.messages) == len(accepted)


def test_every_description_is_read_in_the_mail_as_it_was_accepted(
    accepted: list[tuple[str, View]], mailbox: FakeSmtp
) -> None:
    channel = mailer(mailbox.url)
    for shown, view in accepted:
        send(channel, view)
        mail = mailbox.mails[-1]
        assert mail.to == ("help@example.test",)
        bare = mail.wire.replace(b"\r\n", b"")
        assert b"\r" not in bare
        assert b"\n" not in bare
        message = email.message_from_bytes(mail.wire, policy=policy.compat32)
        assert sorted(message.keys()) == sorted(_HEADERS)
        payload = message.get_payload(decode=True)
        assert isinstance(payload, bytes)
        told = payload.decode().replace("\r\n", "\n").removeprefix("sales · A-7F3K9Q")
        assert told.removesuffix("\n") == (f"\n\n{shown}" if shown else "").removesuffix("\n")
    assert len(mailbox.mails) == len(accepted)
    assert sum(command.upper().startswith("RCPT") for command in mailbox.commands) == len(accepted)
