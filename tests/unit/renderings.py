"""Requests that carry one text wherever a bot can write one, and what the rendered messages say."""

from __future__ import annotations

import dataclasses
import email
from datetime import UTC, datetime
from email import policy
from email.message import Message
from typing import Any
from uuid import UUID

from pydantic import SecretStr

from assistance.channels import email_message, slack_message
from assistance.channels.contract import Rendered, View
from assistance.channels.webhook import WebhookChannel, WebhookOptions
from assistance.domain.request import AssistanceRequest, Submission
from assistance.testing.channel_contract import new_key

SENDER = email_message.parse_address("Assistance <assistance@example.test>")
_HEADERS = {
    *("From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted"),
    *("MIME-Version", "Content-Type", "Content-Transfer-Encoding"),
}
_WEBHOOK = WebhookChannel(
    WebhookOptions.model_construct(
        url=SecretStr("https://e.test/"), secret=SecretStr("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    )
)


def everywhere(text: str) -> dict[str, Any]:
    """The optional members of a body, with `text` in every place that takes free text."""
    return {
        "title": text,
        "customer": dict.fromkeys(("id", "name", "phone", "locale", "timezone", "tier"), text),
        "conversation": {"id": text, "channel": text, "transcript": [{"from": text, "text": text}] * 3},
        "bot": {**dict.fromkeys(("name", "version", "reason"), text), "tried": [text]},
        "attachments": [{"url": "https://e.test/x", "name": text}],
        "metadata": {text: text},
        "dedup_key": text,
    }


def view_of(submission: Submission, **members: Any) -> View:
    """The submission as a channel type gets it; `members` replace those of the view."""
    given = {field.name: getattr(submission, field.name) for field in dataclasses.fields(submission)}
    known = {field.name for field in dataclasses.fields(AssistanceRequest)} & given.keys()
    request = AssistanceRequest(
        id=UUID(int=7),
        ref="A-7F3K9Q",
        created_at=datetime(2026, 3, 4, 14, 2, tzinfo=UTC),
        **{name: given[name] for name in known},
    )
    return View(**{"request": request, "event_version": 1, "late_seconds": 0, **members})


def slack_texts(view: View) -> list[str]:
    """Every text of the Slack message, after checking that Slack would take it and keep all of it dead."""
    rendered = slack_message.render(view)
    found = [rendered.text]
    blocks = rendered.content["blocks"]
    assert len(blocks) <= 50
    for block in blocks:
        parts = block["elements"] if block["type"] == "context" else [block["text"]]
        assert len(parts) <= 10
        assert all(part["type"] == "plain_text" and part["emoji"] is False for part in parts)
        texts = [part["text"] for part in parts]
        assert all(0 < len(text) <= (150 if block["type"] == "header" else 3_000) for text in texts)
        found += texts
    assert sum(map(len, found)) < 10_000
    return found


def mail(view: View) -> tuple[bytes, Message[Any, Any]]:
    """The mail on the wire and as a reader parses it, after checking that it has our headers and nobody else's."""
    wire = email_message.compose(email_message.render(view), SENDER, ["help@example.test"], new_key())
    message = email.message_from_bytes(wire, policy=policy.default)
    assert sorted(set(message.keys()) - {"Reply-To"}) == sorted(set(message.keys()) & _HEADERS)
    assert len(message.keys()) == len(set(message.keys()))
    assert message["To"] == "help@example.test"
    bare = wire.replace(b"\r\n", b"")
    assert b"\n" not in bare
    assert b"\r" not in bare
    return wire, message


def mail_body(view: View) -> str:
    """What the reader of the mail reads."""
    payload = mail(view)[1].get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload.decode().replace("\r\n", "\n")


def webhook(view: View) -> Rendered:
    """What a webhook sends."""
    return _WEBHOOK.render(view)
