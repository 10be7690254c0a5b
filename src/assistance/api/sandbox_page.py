"""`GET /sandbox`: what the sandbox received, as the people behind Slack and the mailbox would see it."""

from __future__ import annotations

import json
import re
import secrets
import urllib.request
from datetime import datetime
from http.client import HTTPException
from typing import Any

import flask
from pydantic import BaseModel, Field

_FETCH_SECONDS = 2.0
_LARGEST_ANSWER = 32 * 1024 * 1024
_SHOWN = 100  # messages of each conversation, and mails
_MARKED_UP = re.compile(r"<([^<>|]*)(?:\|([^<>]*))?>")


class SlackMessage(BaseModel):
    """A message as Slack's API took it."""

    ts: str = ""
    thread_ts: str | None = None
    at: datetime
    text: str
    blocks: list[Any] = []

    @property
    def shown(self) -> str:
        """The message as Slack would show it: its blocks, or its text where it has none."""
        lines = [line for block in self.blocks for line in _lines(block)]
        return "\n".join(lines) if lines else _mrkdwn(self.text)


class Mail(BaseModel):
    """A mail in the mailbox."""

    at: datetime
    subject: str
    body: str
    sender: str = Field(alias="from")
    to: list[str]

    @property
    def shown_subject(self) -> str:
        """The subject, or what mail programs write when there is none."""
        return self.subject or "(no subject)"

    @property
    def shown_addresses(self) -> str:
        """From whom to whom."""
        return f"{self.sender} → {', '.join(self.to)}"


class Callback(BaseModel):
    """What the bot's server got."""

    at: datetime
    body: Any

    @property
    def shown_type(self) -> str:
        """The type of the event."""
        return str(self.body.get("type")) if isinstance(self.body, dict) else "not an object"

    @property
    def shown_body(self) -> str:
        """The body, with line breaks."""
        return json.dumps(self.body, indent=2, ensure_ascii=False)


class Received(BaseModel):
    """The sandbox's answer to `GET /messages`, newest first."""

    slack: dict[str, list[SlackMessage]] = {}
    mails: list[Mail] = []
    callbacks: list[Callback] = []

    def threads(self, conversation: str) -> list[tuple[SlackMessage, list[SlackMessage]]]:
        """The messages of a conversation, newest first, each with the replies in its thread, oldest first.

        A reply whose first message is not remembered any more stands alone.
        """
        messages = self.slack[conversation]
        roots = {message.ts for message in messages if message.thread_ts is None}
        replies: dict[str, list[SlackMessage]] = {}
        for message in reversed(messages):
            if message.thread_ts in roots:
                replies.setdefault(str(message.thread_ts), []).append(message)
        return [(message, replies.get(message.ts, [])) for message in messages if message.thread_ts not in roots]


def sandbox_blueprint(sandbox_url: str) -> flask.Blueprint:
    """The page `/sandbox` for the sandbox that answers at `sandbox_url`; it says so when the sandbox is away."""
    blueprint = flask.Blueprint("sandbox", "assistance.api", template_folder="templates")
    # No proxy from the environment may come between two processes of one machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    address = f"{sandbox_url.rstrip('/')}/messages?limit={_SHOWN}"

    @blueprint.get("/sandbox")
    def page() -> flask.Response:
        received, trouble = _fetch(opener, address)
        nonce = secrets.token_urlsafe(16)
        html = flask.render_template(
            "sandbox.html", received=received, trouble=trouble, nonce=nonce, url=flask.request.host_url.rstrip("/")
        )
        answer = flask.Response(html, content_type="text/html; charset=utf-8")
        answer.headers["Content-Security-Policy"] = (
            f"default-src 'none'; style-src 'nonce-{nonce}'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        answer.headers["Referrer-Policy"] = "no-referrer"
        return answer

    return blueprint


def _fetch(opener: urllib.request.OpenerDirector, address: str) -> tuple[Received, str | None]:
    """What the sandbox has, and a sentence if it could not be asked."""
    try:
        with opener.open(address, timeout=_FETCH_SECONDS) as answer:
            content = json.loads(answer.read(_LARGEST_ANSWER))
        # JSON can carry half characters, a page cannot.
        whole = json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")
        return Received.model_validate_json(whole), None
    except (ValueError, RecursionError):
        return Received(), "The sandbox gave an answer that this page cannot read."
    except (OSError, HTTPException):
        return Received(), "The sandbox does not answer at the moment; this page keeps trying."


def _lines(block: Any) -> list[str]:
    """The lines of one block; of a block type without a text of its own, the texts somewhere inside it."""
    if not isinstance(block, dict):
        return []
    if block.get("type") == "divider":
        return ["—" * 10]
    if block.get("type") == "context":
        return [" · ".join(_texts(block))]
    return _texts(block)


def _texts(node: Any) -> list[str]:
    if isinstance(node, list):
        return [text for item in node for text in _texts(item)]
    if not isinstance(node, dict):
        return []
    text = node.get("text")
    if isinstance(text, str):
        return [_mrkdwn(text) if node.get("type") == "mrkdwn" else _unescaped(text)]
    return [text for item in node.values() for text in _texts(item)]


def _mrkdwn(text: str) -> str:
    """Links, mentions and entities turned into what is displayed; asterisks and the like stay as they were typed."""
    return _unescaped(_MARKED_UP.sub(_displayed, text))


def _displayed(match: re.Match[str]) -> str:
    target, label = match.groups()
    if target[:1] in ("@", "#"):
        return label or str(target)
    if target.startswith("!"):
        return label or "@" + target[1:]
    return f"{label} ({target})" if label else str(target)


def _unescaped(text: str) -> str:
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
