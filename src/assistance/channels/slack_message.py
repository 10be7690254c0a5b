"""A request as a Slack message: Block Kit for readers, one line of text for notifications and screen readers.

Customer text stands in `plain_text` objects and is escaped as well, so that no mention, link, emoji code or formatting
in it comes alive.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from assistance.channels.contract import Rendered, View
from assistance.channels.text import clean, facts, notices, one_line, title

_MOST_CHARACTERS = 9_900  # of all texts together, after escaping; Slack refuses somewhat more than 10,000
_SECTION_CHARACTERS = 3_000
_HEADER_CHARACTERS = 150
_SUMMARY_CHARACTERS = 150


def escape(text: str) -> str:
    """The text with the three characters that Slack interprets made harmless; `&` first, or it would be done twice."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def render(view: View) -> Rendered:
    """The message. A description of 4,000 characters is whole unless escaping more than doubles it."""
    heading = title(view.request)
    summary = escape(f"{heading}: {one_line(view.request.description, _SUMMARY_CHARACTERS)}")
    header = next(_pieces(heading, _HEADER_CHARACTERS))
    notes = [escape(fact) for fact in facts(view)]
    warnings = [escape(notice) for notice in notices(view)]
    left = _MOST_CHARACTERS - len(summary) - len(header) - sum(map(len, [*notes, *warnings]))
    blocks: list[dict[str, Any]] = [{"type": "section", "text": _plain(warning)} for warning in warnings]
    blocks.append({"type": "header", "text": _plain(header)})
    blocks += [{"type": "section", "text": _plain(piece)} for piece in _description(view, left)]
    if notes:
        blocks.append({"type": "context", "elements": [_plain(note) for note in notes]})
    return Rendered(text=summary, content={"blocks": blocks})


def _description(view: View, most: int) -> Iterator[str]:
    """The description in pieces of a section each; what does not fit is replaced by a note that says so."""
    text = clean(view.request.description)
    if not text.strip():
        text = "(nothing that can be shown)"
    if len(escape(text)) > most:
        mark = f"\n… [cut here: too long for Slack, see {view.request.ref}]"
        text = _fitting(text, most - len(escape(mark))) + mark
    return _pieces(text, _SECTION_CHARACTERS)


def _pieces(text: str, longest: int) -> Iterator[str]:
    """The text in escaped pieces of at most `longest` characters, cut between words where there are any.

    Neither an escape nor a character is lost; a piece of white space alone is left out, because Slack refuses it.
    """
    while text:
        head = _fitting(text, longest)
        if len(head) < len(text):
            after_a_word = max(head.rfind("\n"), head.rfind(" ")) + 1
            head = head[:after_a_word] if after_a_word > len(head) // 2 else head
        if head.strip():
            yield escape(head)
        text = text[len(head) :]


def _fitting(text: str, longest: int) -> str:
    """As much of the beginning as has at most `longest` characters after escaping."""
    size = 0
    for position, character in enumerate(text):
        size += len(escape(character))
        if size > longest:
            return text[:position]
    return text


def _plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text, "emoji": False}
