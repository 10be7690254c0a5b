"""What readers are shown of a delivery: the request or what was added to it, and what they need to know first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from assistance.channels.contract import Capabilities, FollowUp, View
from assistance.channels.text import accepted_at, headline
from assistance.deliveries.follow_ups import Told
from assistance.deliveries.lease import Telling
from assistance.domain.event import EventType
from assistance.domain.request import Author


def view_of(telling: Telling, capabilities: Capabilities) -> View:
    """What a channel type makes its message of."""
    view = View(
        request=telling.request,
        event_version=telling.event_version,
        late_seconds=telling.late_seconds,
        notices=notices_of(telling),
        payload=telling.payload,
    )
    if telling.told is None:
        return view
    follow_up = _follow_up(telling.told)
    if capabilities.follow_ups:
        return replace(view, follow_up=follow_up)
    added = f"{headline(follow_up)} to {telling.request.ref}:"
    return replace(view, request=replace(view.request, description=follow_up.text), notices=(*view.notices, added))


def notices_of(telling: Telling) -> tuple[str, ...]:
    """What is particular about this send; nothing for most."""
    notices = []
    if telling.may_repeat:
        notices.append(f"May repeat {telling.request.ref}: an earlier try ended without a clear answer.")
    if telling.unconfirmed:
        since = accepted_at(telling.request, telling.late_seconds)
        notices.append(f"Sent here because {_have_not(telling.unconfirmed)} confirmed it since {since}.")
    return tuple(notices)


def _follow_up(told: Told) -> FollowUp:
    if told.event is EventType.CANCELLED:
        reason = told.data.get("reason")
        who = "An operator" if told.data.get("by") == "operator" else "The bot"
        text = f"{who} cancelled this request" + (f": {reason}" if reason else ".")
        return FollowUp(text=text, author=None, under=told.thread is not None)
    return FollowUp(text=told.data["text"], author=Author(told.data["from"]), under=told.thread is not None)


def _have_not(channels: Sequence[str]) -> str:
    *others, last = channels
    return f"{', '.join(others)} and {last} have not" if others else f"{last} has not"
