"""What a right configuration file says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from assistance.channels.contract import Channel, ChannelType
from assistance.configuration.templates import Path
from assistance.configuration.values import did_you_mean
from assistance.domain.delivery import OnUnknown
from assistance.domain.errors import SettingsError
from assistance.domain.route import Route
from assistance.domain.source import Scheme
from assistance.resilience.retry_schedule import HUMAN, RetrySchedule


@dataclass(frozen=True, kw_only=True, slots=True)
class ChannelSettings:
    """A configured channel: the keys common to all types, and the type's own options as written."""

    name: str
    type: ChannelType
    options: Mapping[str, Any]
    timeout_seconds: float = 10.0
    retry: RetrySchedule = HUMAN
    settle_seconds: float = 2.0
    looks: int = 2
    on_unknown: OnUnknown = OnUnknown.RESEND
    pace_per_second: float | None = None  # messages per destination
    probe_after_seconds: float = 30.0  # how long an open circuit breaker waits before it lets a probe through

    def build(self) -> Channel:
        """The channel, ready to send; resolves its secrets.

        Raises `SettingsError` with a sentence for every option that is wrong.
        """
        try:
            return self.type.build(self.type.options.model_validate(self.options))
        except ValidationError as error:
            where = f"[channels.{self.name}]"
            raise SettingsError(" ".join(_explain_option(where, self.type, item) for item in error.errors())) from None


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceSettings:
    """A signed source: whose messages are taken, and what a request is made of.

    Secrets are references (`env:NAME`, `file:PATH`), the current one first. A message is wanted when at each path of
    `only` lies one of the texts beside it. `request` holds a `Template` for each text of the request's members.
    """

    name: str
    scheme: Scheme
    secrets: tuple[str, ...]
    request: Mapping[str, Any]
    only: tuple[tuple[Path, tuple[str, ...]], ...] = ()
    verify_token: str | None = None
    message_id: str | None = None  # the lower-case name of the header that names a message


@dataclass(frozen=True, kw_only=True, slots=True)
class WebhookSettings:
    """An operator's webhook: which callbacks it gets. Its secret is known to the channel for callbacks alone."""

    name: str
    url: str  # as written: perhaps a reference to a secret
    client: str | None = None  # none: the requests of everybody
    events: tuple[str, ...] | None = None  # none: all types


@dataclass(frozen=True, kw_only=True, slots=True)
class IssuerSettings:
    """An issuer whose JSON Web Tokens are trusted: `jwks` says where its keys are, or `secret` is a reference."""

    name: str
    issuer: str
    audience: str
    algorithms: tuple[str, ...]
    jwks: str | None = None
    secret: str | None = None
    client_claim: str = "sub"
    scope_claim: str = "scope"


@dataclass(frozen=True, kw_only=True, slots=True)
class Configuration:
    """A configuration file that was found right; `digest` names the version that a request was routed with."""

    channels: Mapping[str, ChannelSettings]
    topics: Mapping[str, Route]
    digest: str
    sources: Mapping[str, SourceSettings] = field(default_factory=dict)
    issuers: Mapping[str, IssuerSettings] = field(default_factory=dict)
    webhooks: Mapping[str, WebhookSettings] = field(default_factory=dict)

    def webhook_at(self, url: str, client: str) -> WebhookSettings | None:
        """The operator's webhook with this URL, which the client may therefore be called at whatever it is.

        One for the requests of another client is none: what comes there, signed, has to be that one's.
        """
        found = (webhook for webhook in self.webhooks.values() if webhook.url == url)
        return next((webhook for webhook in found if webhook.client in (None, client)), None)


def _explain_option(where: str, channel_type: ChannelType, item: Mapping[str, Any]) -> str:
    path = [str(part) for part in item["loc"]]
    if path[:1] == ["webhooks"] and len(path) > 2:  # the options of the channel for callbacks are tables of the file
        where, path = f"[webhooks.{path[1]}]", path[2:]
    key = ".".join(path) or "options"
    if item["type"] == "missing":
        return f"{where} {key} is missing."
    if item["type"] == "extra_forbidden":
        names = [option.alias or name for name, option in channel_type.options.model_fields.items()]
        return f"{where} {key} is not a key of type {channel_type.name!r}{did_you_mean(key, names)}."
    message = str(item["msg"]).removeprefix("Value error, ")
    return f"{where} {key} is wrong: {message[:1].lower()}{message[1:]}."
