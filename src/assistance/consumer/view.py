"""What readers are shown of a delivery: the request or what was added to it, and what they need to know first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from assistance.channels.contract import Capabilities, FollowUp, View
from assistance.channels.text import accepted_at, headline
from assistance.deliveries.follow_ups import Told
from assistance.deliveries.lease import ToSend
from assistance.domain.event import EventType
from assistance.domain.request import Author


def view_of(claimed: ToSend, capabilities: Capabilities) -> View:
    """What a channel type makes its message of."""
    view = View(
        request=claimed.request,
        event_version=claimed.event_version,
        late_seconds=claimed.late_seconds,
        notices=notices_of(claimed),
        payload=claimed.payload,
    )
    if claimed.told is None:
        return view
    follow_up = _follow_up(claimed.told)
    if capabilities.follow_ups:
        return replace(view, follow_up=follow_up)
    added = f"{headline(follow_up)} to {claimed.request.ref}:"
    return replace(view, request=replace(view.request, description=follow_up.text), notices=(*view.notices, added))


def notices_of(claimed: ToSend) -> tuple[str, ...]:
    """What is particular about this send; nothing for most."""
    notices = []
    if claimed.may_repeat:
        notices.append(f"May repeat {claimed.request.ref}: an earlier try ended without a clear answer.")
    if claimed.unconfirmed:
        since = accepted_at(claimed.request, claimed.late_seconds)
        notices.append(f"Sent here because {_have_not(claimed.unconfirmed)} confirmed it since {since}.")
    return tuple(notices)


def _follow_up(told: Told) -> FollowUp:
    if told.event is EventType.CANCELLED:
        reason = told.data.get("reason")
        text = "The bot cancelled this request" + (f": {reason}" if reason else ".")
        return FollowUp(text=text, author=None, under=told.thread is not None)
    return FollowUp(text=told.data["text"], author=Author(told.data["from"]), under=told.thread is not None)


def _have_not(channels: Sequence[str]) -> str:
    *others, last = channels
    return f"{', '.join(others)} and {last} have not" if others else f"{last} has not"
