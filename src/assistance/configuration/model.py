"""What a right configuration file says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from assistance.channels.contract import Channel, ChannelType
from assistance.configuration.values import did_you_mean
from assistance.domain.delivery import OnUnknown
from assistance.domain.errors import SettingsError
from assistance.domain.route import Route
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
class Configuration:
    """A configuration file that was found right; `digest` names the version that a request was routed with."""

    channels: Mapping[str, ChannelSettings]
    topics: Mapping[str, Route]
    digest: str


def fold_topic(topic: str) -> str:
    """The form in which topics are compared: trimmed and case-folded."""
    return topic.strip().casefold()


def _explain_option(where: str, channel_type: ChannelType, item: Mapping[str, Any]) -> str:
    key = ".".join(str(part) for part in item["loc"]) or "options"
    if item["type"] == "missing":
        return f"{where} {key} is missing."
    if item["type"] == "extra_forbidden":
        names = [option.alias or name for name, option in channel_type.options.model_fields.items()]
        return f"{where} {key} is not a key of type {channel_type.name!r}{did_you_mean(key, names)}."
    message = str(item["msg"]).removeprefix("Value error, ")
    return f"{where} {key} is wrong: {message[:1].lower()}{message[1:]}."
