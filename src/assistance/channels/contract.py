"""What the flow may rely on from a channel type, and what a channel type may rely on.

Every type passes the suite in tests/contract/test_channels.py. docs/adding-a-channel.md walks through writing one.
A channel type reaches neither the database nor the broker, and its library never retries on its own: the retry
belongs to the delivery row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from pydantic import BaseModel

from assistance.domain.outcome import Lookup, Outcome
from assistance.domain.request import AssistanceRequest, Author
from assistance.runtime.clock import Deadline


@dataclass(frozen=True, kw_only=True, slots=True)
class Capabilities:
    """What a channel type can do, stated honestly."""

    lookup: bool = False
    follow_ups: bool = False  # it renders `View.follow_up`; other types get the added text as a description of its own
    update: bool = False
    for_people: bool = (
        True  # people read its messages, so that they show `View.notices`; machines know a repeat by its key
    )
    #: All its messages go to one provider, so that trouble with some says something about the others (circuit breaker).
    one_provider: bool = True
    max_text: int = 4_000  # characters of customer text that one message can carry
    pace_per_second: float | None = None  # messages to one destination, unless the channel's configuration says else


@dataclass(frozen=True, kw_only=True, slots=True)
class FollowUp:
    """What was added to a request after it was told, by the `author`, or that it was cancelled (then by nobody).

    `under` says that the message goes below the one that told the request: a thread, or an answer to a mail.
    """

    text: str
    author: Author | None
    under: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """What a message is made of: the request, the event told, and how late the telling is.

    `notices` are sentences of ours that readers need to know first, such as that the message may repeat an earlier one.
    """

    request: AssistanceRequest
    event_version: int
    late_seconds: float
    notices: tuple[str, ...] = ()
    follow_up: FollowUp | None = None  # then this is told, and not the request
    payload: Mapping[str, Any] | None = None  # the words of a callback, fixed when its event happened


@dataclass(frozen=True, kw_only=True, slots=True)
class Rendered:
    """A message ready to be sent: one plain line of text, and the provider's own form (JSON values only)."""

    text: str
    content: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A piece of a message as text, with what it is to readers ("Subject") where that does not go without saying."""

    text: str
    label: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveryKey:
    """What makes a send recognisable at the provider: the same delivery and series always give the same key."""

    delivery_id: UUID
    series: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Health:
    """What a check found; `problems` is empty when the channel can deliver, else one sentence each."""

    problems: tuple[str, ...] = ()


class Channel(Protocol):
    """A configured channel: built once from its options, used by several threads at once."""

    @property
    def destination(self) -> Mapping[str, Any]:
        """Where messages go when a delivery names no destination of its own (JSON values only)."""

    def render(self, view: View) -> Rendered:
        """Turn the view into a message. Pure: no I/O, no clock, never raises for any accepted request."""

    def send(self, rendered: Rendered, destination: Mapping[str, Any], key: DeliveryKey, deadline: Deadline) -> Outcome:
        """Send once, ending by the deadline, and say what happened; never raises for what a provider does.

        `Unknown` is right exactly when the message may have arrived although no clear answer came. For a follow-up the
        destination also holds `thread`: the receipt of the message that it goes below.
        """

    def lookup(self, destination: Mapping[str, Any], key: DeliveryKey, since: datetime, deadline: Deadline) -> Lookup:
        """Ask the provider whether the message with this key arrived at or after `since`.

        A type without the capability answers `CannotTell` with `look_again` false.
        """

    def check(self, deadline: Deadline) -> Health:
        """Prove that the channel could deliver now (credentials, scopes, destination), without people noticing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChannelType:
    """What a channel type registers.

    `options` is the pydantic model of its part of the TOML table (everything but the keys common to all types); it
    forbids unknown keys and resolves secrets with `channels.options.Secret`. `build` may not do I/O.
    `preview` is what `Channel.render` makes of a view, as text for people who look at it elsewhere. It needs no
    options, so that secrets stay with those who send. None: such messages cannot be shown elsewhere.
    """

    name: str
    capabilities: Capabilities
    options: type[BaseModel]
    build: Callable[[Any], Channel]
    preview: Callable[[View], tuple[Part, ...]] | None = None
