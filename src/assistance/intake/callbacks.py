"""What a request keeps of the configuration about callbacks, and the check of the URL that it names itself."""

from __future__ import annotations

from typing import Any

from assistance.channels.public_addresses import parse_public_url
from assistance.configuration import Configuration
from assistance.domain.errors import UrlRefused


def callbacks_of(configuration: Configuration, client: str, callback_url: str | None) -> dict[str, Any]:
    """The operator's webhooks that get the events of a request (types by name, none: all), frozen into its route.

    A `callback_url` that is the URL of one of them means that one. Raises `UrlRefused` for one that is neither that nor
    on the open internet; its addresses are looked at when something is sent.
    """
    found = {
        webhook.name: webhook.events and list(webhook.events)
        for webhook in configuration.webhooks.values()
        if webhook.client in (None, client)
    }
    frozen: dict[str, Any] = {}
    if callback_url is not None:
        trusted = check_url(configuration, client, callback_url, "callback_url")
        if trusted is not None:
            found[trusted] = None
            frozen["callback_to"] = trusted
    return {**frozen, "callbacks": found} if found else {}


def check_url(configuration: Configuration, client: str, url: str, member: str) -> str | None:
    """The operator's webhook for this client that has this URL, none when it is another good one.

    `member` is what named it. Raises `UrlRefused`.
    """
    webhook = configuration.webhook_at(url, client)
    if webhook is not None:
        return webhook.name
    try:
        parse_public_url(url)
    except ValueError as error:
        raise UrlRefused(f"The {member} {error}.", member) from None
    return None
