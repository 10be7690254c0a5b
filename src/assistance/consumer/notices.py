"""The sentences of ours that readers of a message need to know first."""

from __future__ import annotations

from collections.abc import Sequence

from assistance.channels.text import accepted_at
from assistance.deliveries.claim import ToSend


def notices_of(claimed: ToSend) -> tuple[str, ...]:
    """What is particular about this send; nothing for most."""
    notices = []
    if claimed.may_repeat:
        notices.append(f"May repeat {claimed.request.ref}: an earlier try ended without a clear answer.")
    if claimed.unconfirmed:
        since = accepted_at(claimed.request, claimed.late_seconds)
        notices.append(f"Sent here because {_have_not(claimed.unconfirmed)} confirmed it since {since}.")
    return tuple(notices)


def _have_not(channels: Sequence[str]) -> str:
    *others, last = channels
    return f"{', '.join(others)} and {last} have not" if others else f"{last} has not"
