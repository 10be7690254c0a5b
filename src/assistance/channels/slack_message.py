"""A request as a Slack message: Block Kit for readers, one line of text for notifications and screen readers.

Customer text stands in `plain_text` objects and is escaped as well, so that no mention, link, emoji code or formatting
in it comes alive.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from assistance.channels.contract import FollowUp, Part, Rendered, View
from assistance.channels.text import attachments, clean, details, facts, headline, notices, one_line, title, transcript
from assistance.domain.request import AssistanceRequest

_MOST_CHARACTERS = 9_900  # of all texts together, after escaping; Slack refuses somewhat more than 10,000
_SECTION_CHARACTERS = 3_000
_HEADER_CHARACTERS = 150
_SUMMARY_CHARACTERS = 150
_FACTS_CHARACTERS = 2_000  # so that a long reason does not take the place of the description
_LAST_SAID = 5
_SAID_CHARACTERS = 300


def escape(text: str) -> str:
    """The text with the three characters that Slack interprets made harmless; `&` first, or it would be done twice."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def render(view: View) -> Rendered:
    """The message that tells a view."""
    return _render_request(view) if view.follow_up is None else _render_follow_up(view, view.follow_up)


def preview(view: View) -> tuple[Part, ...]:
    """The message as Slack shows it: a part for each block."""
    return tuple(map(_shown, render(view).content["blocks"]))


def _shown(block: dict[str, Any]) -> Part:
    if block["type"] == "context":
        return Part(text="\n".join(_unescaped(element["text"]) for element in block["elements"]))
    return Part(text=_unescaped(block["text"]["text"]), label="Heading" if block["type"] == "header" else "")


def _unescaped(text: str) -> str:
    """What `escape` was given; `&` last."""
    return text.replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&")


def _render_request(view: View) -> Rendered:
    """The message about a request. A description of 4,000 characters is whole unless escaping more than doubles it.

    What else the bot sent follows as far as there is room, the end of the conversation first.
    """
    request = view.request
    name = title(request)
    summary = escape(f"{name}: {one_line(request.description, _SUMMARY_CHARACTERS)}")
    header = _shortened(name, _HEADER_CHARACTERS)
    first = [escape(notice) for notice in notices(view)]
    notes = list(_within(facts(view), _FACTS_CHARACTERS))
    names = list(_pieces(_cut_title(request, name), _SECTION_CHARACTERS))
    left = _MOST_CHARACTERS - sum(map(len, [summary, header, *first, *notes, *names]))
    description = list(_body(request.description, left, request.ref))
    more = list(_background(request, left - sum(map(len, description))))
    blocks: list[dict[str, Any]] = [_section(warning) for warning in first]
    blocks.append({"type": "header", "text": _plain(header)})
    blocks += [_section(piece) for piece in [*names, *description]]
    if notes:
        blocks.append({"type": "context", "elements": [_plain(note) for note in notes]})
    blocks += [_section(piece) for piece in more]
    return Rendered(text=summary, content={"blocks": blocks})


def _render_follow_up(view: View, follow_up: FollowUp) -> Rendered:
    """What was added; in a thread the request itself is in sight already."""
    who, name = headline(follow_up), title(view.request)
    summary = escape(f"{view.request.ref} · {who}: {one_line(follow_up.text, _SUMMARY_CHARACTERS)}")
    first = [escape(notice) for notice in notices(view)]
    header = [] if follow_up.under else [{"type": "header", "text": _plain(_shortened(name, _HEADER_CHARACTERS))}]
    left = _MOST_CHARACTERS - len(summary) - _HEADER_CHARACTERS - len(who) - sum(map(len, first))
    blocks = [*map(_section, first), *header, *map(_section, _body(follow_up.text, left, view.request.ref))]
    blocks.append({"type": "context", "elements": [_plain(f"{who} · {view.request.ref}")]})
    return Rendered(text=summary, content={"blocks": blocks})


def _cut_title(request: AssistanceRequest, heading: str) -> str:
    """The title if the header has no room for all of it: then it stands above the description."""
    return one_line(request.title or "") if len(escape(heading)) > _HEADER_CHARACTERS else ""


def _background(request: AssistanceRequest, most: int) -> Iterator[str]:
    """What may help beside the description, an escaped section each, of `most` characters together."""
    said = transcript(request)
    last = [one_line(f"{entry.by}: {entry.text}", _SAID_CHARACTERS) for entry in said[-_LAST_SAID:]]
    for heading, lines in (
        (f"The last of {len(said)} messages:" if len(said) > len(last) else "The conversation:", last),
        ("Attachments:", attachments(request)),
        ("Details:", details(request)),
    ):
        if lines and (section := _listed(heading, lines, min(most, _SECTION_CHARACTERS))):
            most -= len(section)
            yield section


def _listed(heading: str, lines: Sequence[str], most: int) -> str:
    """The lines below their heading, escaped; those that do not fit are counted instead. Empty without that room."""
    text = heading
    for number, line in enumerate(lines):
        left_out = f"\n… {len(lines) - number} more"
        longer = f"{text}\n{escape(line)}"
        room_for_the_rest = len(left_out) if number + 1 < len(lines) else 0
        if len(longer) + room_for_the_rest > most:
            return text + left_out if len(text) + len(left_out) <= most else ""
        text = longer
    return text


def _within(lines: Iterable[str], most: int) -> Iterator[str]:
    """The lines, escaped, shortened to `most` characters together."""
    for line in lines:
        if short := _shortened(line, most):
            most -= len(short)
            yield short


def _shortened(text: str, longest: int) -> str:
    """The text, escaped, cut with an ellipsis when it has more than `longest` characters then."""
    if len(escape(text)) <= longest:
        return escape(text)
    return escape(_fitting(text, longest - 1).rstrip()) + "…" if longest > 1 else ""


def _body(text: str, most: int, ref: str) -> Iterator[str]:
    """A text in pieces of a section each; what does not fit is replaced by a note that says so."""
    text = clean(text)
    if not text.strip():
        text = "(nothing that can be shown)"
    if len(escape(text)) > most:
        mark = f"\n… [cut here: too long for Slack, see {ref}]"
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


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": _plain(text)}
