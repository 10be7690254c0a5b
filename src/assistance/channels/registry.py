"""The one place that names channel types: ours, and those that other packages offer as entry points."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points

from assistance.channels.contract import ChannelType

_BUILT_IN = {
    "slack": "assistance.channels.slack",
    "email": "assistance.channels.email",
    "webhook": "assistance.channels.webhook",
}

#: Another package adds a type by naming its `ChannelType` object in this entry point group.
ENTRY_POINT_GROUP = "assistance.channels"


def known_types() -> tuple[str, ...]:
    """The names of all types that can be configured, sorted."""
    return tuple(sorted({*_BUILT_IN, *(point.name for point in entry_points(group=ENTRY_POINT_GROUP))}))


def find_type(name: str) -> ChannelType | None:
    """The channel type of that name, imported only now; none when nobody offers it."""
    if name in _BUILT_IN:
        return _offered(import_module(_BUILT_IN[name]).CHANNEL_TYPE)
    for point in entry_points(group=ENTRY_POINT_GROUP, name=name):
        return _offered(point.load())
    return None


def callback_type() -> ChannelType:
    """The type of the built-in channel for callbacks, which no other channel can have."""
    return _offered(import_module("assistance.channels.callback").CHANNEL_TYPE)


def _offered(offer: object) -> ChannelType:
    if not isinstance(offer, ChannelType):
        raise TypeError(f"{offer!r} is not a ChannelType")
    return offer
