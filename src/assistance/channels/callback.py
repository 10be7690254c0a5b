"""Callbacks: what happened to a request, told to the bot that asked, signed as Standard Webhooks (v1) asks.

The built-in channel `callbacks` uses this type; its options are the `[webhooks.*]` tables. These are the operator's
choice and may be inside the own network. Every other URL was chosen by a bot: it has to be on the open internet, which
is proved again at each send, and the connection goes to the very address that was looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from assistance.channels.contract import Capabilities, ChannelType, DeliveryKey, Health, Part, Rendered, View
from assistance.channels.http import (
    Answer,
    Endpoint,
    open_connection,
    parse_endpoint,
    retry_after_seconds,
)
from assistance.channels.http_line import Line
from assistance.channels.kept import Kept
from assistance.channels.options import ChannelOptions
from assistance.channels.public_addresses import only_public, parse_public_url
from assistance.channels.text import title
from assistance.channels.webhook import WebhookOptions, as_text, send_signed, signing_key
from assistance.channels.wire import NotConnected, Resolve, resolve
from assistance.domain.outcome import (
    CannotTell,
    Lookup,
    Outcome,
    Rejected,
    RejectionReason,
    RetryLater,
)
from assistance.runtime.clock import Deadline

_LONGEST_WAIT_SECONDS = 3600.0
_ASKS_TO_WAIT = frozenset({429, 502, 503, 504})
_GONE = 410


def render(view: View) -> Rendered:
    """The event as it was written down when it happened; without one, that the request was accepted."""
    request = view.request
    told = {"id": str(request.id), "ref": request.ref, "topic": request.topic, "priority": str(request.priority)}
    return Rendered(text=title(request), content=view.payload or {"type": "assistance.accepted", "data": told})


def preview(view: View) -> tuple[Part, ...]:
    """The body."""
    return (as_text(render(view)),)


class CallbackOptions(ChannelOptions):
    """The webhooks of the operator, by name."""

    webhooks: Mapping[str, WebhookOptions] = {}


@dataclass(frozen=True, slots=True)
class _Target:
    """Where one callback goes; `find` says which addresses of its name may be used.

    `kept` is for the operator's own only: the address of any other is looked at anew for each call.
    """

    endpoint: Endpoint
    keys: tuple[bytes, ...]
    find: Resolve
    kept: Kept[Line] | None = None


class CallbackChannel:
    """Sends to whatever a destination names.

    `{"configured": NAME}` is a webhook of the operator. Any other destination has a `url` and, added when the delivery
    was claimed, the `secrets` to sign with (two of them while one takes the place of the other). `find_public` is how
    the addresses of a URL that a bot chose are found.
    """

    def __init__(self, options: CallbackOptions, find_public: Resolve = only_public) -> None:
        self._configured: dict[object, _Target] = {}
        self._trusted: dict[str, Endpoint] = {}
        self._kept = Kept[Line]()
        for name, webhook in options.webhooks.items():
            url = webhook.url.get_secret_value()
            endpoint = self._trusted[url] = parse_endpoint(url)
            self._configured[name] = _Target(
                endpoint, (signing_key(webhook.secret.get_secret_value()),), resolve, self._kept
            )
        self._find_public = find_public

    @property
    def destination(self) -> Mapping[str, Any]:
        """The first webhook of the operator; every callback has a destination of its own."""
        return {"configured": next(iter(self._configured), None)}

    def render(self, view: View) -> Rendered:
        """The event as it was written down when it happened; without one, that the request was accepted."""
        return render(view)

    def send(self, rendered: Rendered, destination: Mapping[str, Any], key: DeliveryKey, deadline: Deadline) -> Outcome:
        """Post the body once, signed for this moment; its id is the same at every try, replays included."""
        try:
            target = self._target(destination)
        except (LookupError, TypeError, ValueError):
            detail = "there is no such webhook, or its URL is one that callbacks may not go to"
            return Rejected(code="no_such_webhook", detail=detail, reason=RejectionReason.DESTINATION)
        webhook_id = f"msg_{key.delivery_id.hex}"
        return send_signed(
            target.endpoint,
            target.keys,
            webhook_id,
            rendered.content,
            deadline,
            refused=_refusal,
            find=target.find,
            kept=target.kept,
        )

    def lookup(self, destination: Mapping[str, Any], key: DeliveryKey, since: datetime, deadline: Deadline) -> Lookup:  # noqa: ARG002 (nothing to ask)
        """A bot cannot be asked; sending again is safe, because it drops repeats."""
        return CannotTell(code="not_supported", detail="a callback cannot be looked up")

    def check(self, deadline: Deadline) -> Health:
        """Connect to every webhook of the operator; those of bots are their own affair."""
        problems = []
        for name, target in self._configured.items():
            try:
                open_connection(target.endpoint, deadline)
            except NotConnected as problem:
                problems.append(f"The webhook {name} cannot be reached: {problem.detail}.")
        return Health(problems=tuple(problems))

    def _target(self, destination: Mapping[str, Any]) -> _Target:
        """Raises `LookupError`, `TypeError` or `ValueError` when the destination is none."""
        if "configured" in destination:
            return self._configured[destination["configured"]]
        url = destination["url"]
        keys = tuple(signing_key(secret.get_secret_value()) for secret in destination["secrets"])
        if url in self._trusted:
            return _Target(self._trusted[url], keys, resolve, self._kept)
        return _Target(parse_public_url(url), keys, self._find_public)


def _refusal(answer: Answer) -> Outcome:
    """Whatever is no success is tried again on the schedule; only "gone" is an answer for good."""
    http_status = answer.http_status
    code, detail = f"http_{http_status}", f"the bot's server answered HTTP {http_status}"
    if http_status == _GONE:
        return Rejected(code=code, detail=detail, reason=RejectionReason.GONE)
    wait = None
    if http_status in _ASKS_TO_WAIT:
        wait = retry_after_seconds(answer, otherwise=None, most=_LONGEST_WAIT_SECONDS)
    if 300 <= http_status < 400:
        detail = f"{detail}: redirects are not followed"
    return RetryLater(code=code, detail=detail, retry_after_seconds=wait)


CHANNEL_TYPE = ChannelType(
    name="callback",
    capabilities=Capabilities(for_people=False, one_provider=False, max_text=0),
    options=CallbackOptions,
    build=CallbackChannel,
    preview=preview,
)
