"""The words that people read, the same on every channel, made safe to show.

What is taken away from a customer's text, and nothing else: control characters except line feed and tab, and the
characters that reverse or embed the direction of text, because they make one thing look like another. Every kind of
line end becomes a line feed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from assistance.channels.contract import FollowUp, View
from assistance.domain.request import AssistanceRequest, Author, Priority

_LATE_AFTER_SECONDS = 60
_LONGEST_FACT = 200
_LONGEST_NOTICE = 300
_LONGEST_DETAIL = 512
_LONGEST_WORD = 500
_DAY_SECONDS = 24 * 3600
_HEADINGS = {Author.BOT: "The bot adds", Author.CUSTOMER: "The customer adds", None: "Cancelled"}
_LINE_ENDS = re.compile(r"\r\n?")
_UNSHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_LONE_SURROGATES = re.compile("[\ud800-\udfff]")
_WHITE_SPACE = re.compile(r"\s+")


def clean(text: str) -> str:
    """The text without what may not be shown."""
    text = _UNSHOWN.sub("", _LINE_ENDS.sub("\n", text))
    return _LONE_SURROGATES.sub("\ufffd", text)


def one_line(text: str, longest: int = _LONGEST_FACT) -> str:
    """The text on one line, cut to `longest` characters with an ellipsis."""
    text = _WHITE_SPACE.sub(" ", clean(text)).strip()
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def title(request: AssistanceRequest) -> str:
    """What the request is about and how people call it: `sales · A-7F3K9Q`, and its own title, if it has one."""
    own = f" · {one_line(request.title)}" if request.title else ""
    return f"{one_line(request.topic)} · {request.ref}{own}"


def notices(view: View) -> list[str]:
    """What readers need to know before anything else, such as that they may have read it already."""
    return [one_line(notice, _LONGEST_NOTICE) for notice in view.notices]


def headline(follow_up: FollowUp) -> str:
    """Who adds to a request, as a line above the text."""
    return _HEADINGS[follow_up.author]


def facts(view: View) -> Iterator[str]:
    """What people need to know beside the description, a line each: who asked, how urgent it is, how long it waits."""
    request = view.request
    if asker := _words(request.customer, "name", "email", "phone", "id", "tier", "locale"):
        yield "From: " + ", ".join(asker)
    if request.priority is not Priority.NORMAL:
        yield f"Priority: {request.priority}"
    if bot := _bot(request.bot):
        yield "Bot: " + ", ".join(bot)
    if where := _words(request.conversation, "channel", "id"):
        yield "Conversation: " + ", ".join(where)
    if view.late_seconds > _LATE_AFTER_SECONDS:
        since = accepted_at(view.request, view.late_seconds)
        yield f"Waiting since {since} ({_lateness(view.late_seconds)} late)"


def attachments(request: AssistanceRequest) -> list[str]:
    """Where the bot keeps more, a line each: `order.pdf (application/pdf): https://…`. An address is never cut."""
    lines = []
    for attachment in request.attachments:
        label = _words(attachment, "name") + [f"({word})" for word in _words(attachment, "media_type")]
        lines.append(_address(" ".join(label), attachment["url"]))
    if url := request.conversation.get("transcript_url"):
        lines.append(_address("Transcript", url))
    return lines


def details(request: AssistanceRequest) -> list[str]:
    """The bot's own data, a line each: `order_id: 1234`."""
    return [
        f"{one_line(name)}: {one_line(_plain(value), _LONGEST_DETAIL)}".rstrip()
        for name, value in request.metadata.items()
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """One message of a transcript: who wrote it and when, on one line, and the text as it was written."""

    by: str
    text: str


def transcript(request: AssistanceRequest) -> list[Said]:
    """What the bot and the customer said, oldest first."""
    return [_said(entry) for entry in request.transcript]


def accepted_at(request: AssistanceRequest, late_seconds: float) -> str:
    """Since when people should have known, as `12:03 UTC`, with the day when that is not obvious."""
    day = "%Y-%m-%d " if late_seconds >= _DAY_SECONDS / 2 else ""
    return max(request.created_at, request.not_before or request.created_at).astimezone(UTC).strftime(f"{day}%H:%M UTC")


def _lateness(seconds: float) -> str:
    if seconds < 2 * 3600:
        return f"{int(seconds // 60)} min"
    return f"{int(seconds // 3600)} h" if seconds < 2 * _DAY_SECONDS else f"{int(seconds // _DAY_SECONDS)} days"


def _said(entry: Mapping[str, Any]) -> Said:
    by = _words(entry, "from")
    if at := entry.get("at"):
        by.append(datetime.fromisoformat(at).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC"))
    return Said(by=", ".join(by), text=clean(entry["text"]))


def _address(label: str, url: str) -> str:
    return f"{label}: {clean(url)}" if label else clean(url)


def _bot(bot: Mapping[str, Any]) -> list[str]:
    confidence, tried = bot.get("confidence"), bot.get("tried") or ()
    words = [" ".join(_words(bot, "name", "version"))]
    words.append(f"confidence {confidence:.2g}" if isinstance(confidence, int | float) else "")
    words += _words(bot, "reason")
    words.append("tried " + one_line(", ".join(map(str, tried))) if tried else "")
    return [word for word in words if word]


def _words(members: Mapping[str, Any], *names: str) -> list[str]:
    """The texts among these members, each on one line; what shows nothing is left out."""
    found = (members.get(name) for name in names)
    lines = (one_line(value, _LONGEST_WORD) for value in found if isinstance(value, str))
    return [line for line in lines if line]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
