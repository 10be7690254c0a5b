"""The tables `[webhooks.*]`: where an operator wants callbacks to go. They are trusted, wherever they lead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assistance.configuration.mistakes import Mistakes
from assistance.configuration.model import WebhookSettings
from assistance.configuration.values import NAME, did_you_mean
from assistance.domain.event import EventType

_OF_THE_CHANNEL = ("url", "secret")
_KEYS = (*_OF_THE_CHANNEL, "client", "events")


def read_webhooks(tables: Mapping[str, Mapping[str, Any]], mistakes: Mistakes) -> dict[str, WebhookSettings]:
    """The webhooks by name; mistakes are told of. URLs and secrets are checked when their channel is built."""
    return {name: _read(name, table, mistakes) for name, table in tables.items()}


def callback_options(tables: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The part of these tables that the channel for callbacks is built from."""
    part = {name: {key: table[key] for key in _OF_THE_CHANNEL if key in table} for name, table in tables.items()}
    return {"webhooks": part}


def _read(name: str, table: Mapping[str, Any], mistakes: Mistakes) -> WebhookSettings:
    where = f"[webhooks.{name}]"
    if not NAME.fullmatch(name):
        mistakes.tell(where, "is not a name: a-z, 0-9 and -, starting with a letter, at most 40")
    mistakes.check_keys(where, table, _KEYS)
    for key in _OF_THE_CHANNEL:
        if not isinstance(table.get(key), str):
            mistakes.tell(f"{where} {key}", 'is missing, or is not a text such as "env:NAME"')
    client = table.get("client")
    return WebhookSettings(
        name=name,
        url=str(table.get("url")),
        client=None if client is None else mistakes.value(f"{where} client", client, _client),
        events=None if "events" not in table else mistakes.value(f"{where} events", table["events"], event_types),
    )


def event_types(value: object) -> tuple[str, ...]:
    """Types of events, at least one. Raises `ValueError` with the end of a sentence."""
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        raise ValueError('is not a list of types such as ["assistance.delivered"]')
    for item in value:
        if item not in CALLED_BACK:
            raise ValueError(f"names {item!r}{did_you_mean(item, CALLED_BACK)}")
    return tuple(dict.fromkeys(value))


def _client(value: object) -> str:
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise ValueError("is not the name of a client")
    return value


#: Everything but the acceptance, which the caller was told as the answer to its call.
CALLED_BACK = tuple(str(event) for event in EventType if event is not EventType.ACCEPTED)
