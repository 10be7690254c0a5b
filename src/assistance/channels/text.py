"""The words that people read, the same on every channel, made safe to show.

What is taken away from a customer's text, and nothing else: control characters except line feed and tab, and the
characters that reverse or embed the direction of text, because they make one thing look like another. Every kind of
line end becomes a line feed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC

from assistance.channels.contract import View
from assistance.domain.request import AssistanceRequest, Priority

_LATE_AFTER_SECONDS = 60
_LONGEST_FACT = 200
_LONGEST_NOTICE = 300
_DAY_SECONDS = 24 * 3600
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
    """What the request is about and how people call it: `sales · A-7F3K9Q`."""
    return f"{one_line(request.topic)} · {request.ref}"


def notices(view: View) -> list[str]:
    """What readers need to know before anything else, such as that they may have read it already."""
    return [one_line(notice, _LONGEST_NOTICE) for notice in view.notices]


def facts(view: View) -> Iterator[str]:
    """What people need to know beside the description: who asked, how urgent it is, since when it waits."""
    known = (view.request.customer.get(name) for name in ("name", "email", "id"))
    asker = [one_line(value) for value in known if isinstance(value, str) and value.strip()]
    if asker:
        yield "From: " + ", ".join(asker)
    if view.request.priority is not Priority.NORMAL:
        yield f"Priority: {view.request.priority}"
    if view.late_seconds > _LATE_AFTER_SECONDS:
        since = accepted_at(view.request, view.late_seconds)
        yield f"Waiting since {since} ({_lateness(view.late_seconds)} late)"


def accepted_at(request: AssistanceRequest, late_seconds: float) -> str:
    """The moment of acceptance as `12:03 UTC`, with the day when that is not obvious."""
    day = "%Y-%m-%d " if late_seconds >= _DAY_SECONDS / 2 else ""
    return request.created_at.astimezone(UTC).strftime(f"{day}%H:%M UTC")


def _lateness(seconds: float) -> str:
    if seconds < 2 * 3600:
        return f"{int(seconds // 60)} min"
    return f"{int(seconds // 3600)} h" if seconds < 2 * _DAY_SECONDS else f"{int(seconds // _DAY_SECONDS)} days"
