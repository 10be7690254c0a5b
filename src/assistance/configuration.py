"""The TOML file: which channels exist, which topics they serve, how retries are spaced.

It is data: adding a second Slack channel or another inbox touches nothing else. A file with mistakes is refused as a
whole, with one sentence for each mistake.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from assistance.channels.contract import Channel, ChannelType
from assistance.channels.registry import find_type, known_types
from assistance.domain.delivery import OnUnknown
from assistance.domain.errors import SettingsError
from assistance.resilience.retry_schedule import HUMAN, RetrySchedule

_CHANNEL_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
_RESERVED_NAMES = frozenset({"dlq", "dlx"})
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_RATE = re.compile(r"([0-9]+(?:\.[0-9]+)?)/(s|m|h)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_TABLES = ("channels", "topics", "retry")
_COMMON_KEYS = ("type", "timeout", "retry", "settle", "looks", "on_unknown", "pace", "probe_after")
_LONGEST_TOPIC = 64


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
    topics: Mapping[str, tuple[str, ...]]
    digest: str


def fold_topic(topic: str) -> str:
    """The form in which topics are compared: trimmed and case-folded."""
    return topic.strip().casefold()


def load_configuration(path: Path) -> Configuration:
    """Read and check the file; channel options are checked when a channel is built.

    Raises `SettingsError` with one sentence for each mistake: file, table, key, and what is allowed.
    """
    try:
        raw = path.read_bytes()
        document = tomllib.loads(raw.decode("utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"The configuration file {path} does not exist.") from None
    except OSError as error:
        raise SettingsError(f"The configuration file {path} cannot be read: {error.strerror}.") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path} is not a TOML file: {error}.") from None
    reader = _Reader(document)
    configuration = reader.read(hashlib.sha256(raw).hexdigest())
    if reader.mistakes:
        raise SettingsError("\n".join(f"{path.name}: {mistake}" for mistake in reader.mistakes))
    return configuration


def parse_duration(text: object) -> float:
    """Seconds in a duration such as `"300ms"`, `"5s"`, `"10m"`, `"24h"`.

    Raises `ValueError` with a sentence.
    """
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError('is not a duration such as "300ms", "5s", "10m" or "24h"')
    return float(match[1]) * _UNITS[match[2]]


def parse_rate(text: object) -> float:
    """Messages per second in a rate such as `"1/s"` or `"30/m"`.

    Raises `ValueError` with a sentence.
    """
    match = _RATE.fullmatch(text) if isinstance(text, str) else None
    if match is None or float(match[1]) == 0:
        raise ValueError('is not a rate such as "1/s", "30/m" or "100/h"')
    return float(match[1]) / _UNITS[match[2]]


@dataclass
class _Reader:
    """Collects every mistake instead of stopping at the first."""

    document: Mapping[str, Any]
    mistakes: list[str] = field(default_factory=list)

    def read(self, digest: str) -> Configuration:
        for name in self.document:
            if name not in _TABLES:
                self._wrong(f"[{name}]", f"is not a table of this file{_did_you_mean(name, _TABLES)}")
        schedules = {"human": HUMAN} | {n: self._schedule(n, t) for n, t in self._tables("retry").items()}
        found = [self._channel(name, table, schedules) for name, table in self._tables("channels").items()]
        channels = {channel.name: channel for channel in found if channel}
        topics = self._topics(set(self._tables("channels")))
        if not self.mistakes and not topics:
            self._wrong("[topics]", 'names no topic; write for example sales = "sales-team"')
        return Configuration(channels=channels, topics=topics, digest=f"sha256:{digest}")

    def _channel(
        self, name: str, table: Mapping[str, Any], schedules: Mapping[str, RetrySchedule]
    ) -> ChannelSettings | None:
        where = f"[channels.{name}]"
        if not _CHANNEL_NAME.fullmatch(name) or name in _RESERVED_NAMES:
            self._wrong(
                where, "is not a channel name: a-z, 0-9 and -, starting with a letter, at most 40; not dlq or dlx"
            )
            return None
        kind = table.get("type")
        channel_type = find_type(kind) if isinstance(kind, str) else None
        if channel_type is None:
            self._wrong(f"{where} type", f"is {kind!r}{_did_you_mean(kind, known_types())}")
            return None
        pace = table.get("pace")
        return ChannelSettings(
            name=name,
            type=channel_type,
            options={key: value for key, value in table.items() if key not in _COMMON_KEYS},
            timeout_seconds=self._value(f"{where} timeout", table.get("timeout", "10s"), _positive_duration),
            settle_seconds=self._value(f"{where} settle", table.get("settle", "2s"), _positive_duration),
            looks=self._value(f"{where} looks", table.get("looks", 2), _count),
            retry=self._value(f"{where} retry", table.get("retry", "human"), _one_of(schedules)),
            on_unknown=self._value(f"{where} on_unknown", table.get("on_unknown", "resend"), _on_unknown),
            pace_per_second=(
                channel_type.capabilities.pace_per_second
                if pace is None
                else self._value(f"{where} pace", pace, parse_rate)
            ),
            probe_after_seconds=self._value(
                f"{where} probe_after", table.get("probe_after", "30s"), _positive_duration
            ),
        )

    def _schedule(self, name: str, table: Mapping[str, Any]) -> RetrySchedule:
        where = f"[retry.{name}]"
        for key in table:
            if key not in ("delays", "give_up_after", "jitter"):
                self._wrong(
                    f"{where} {key}", f"is not a key{_did_you_mean(key, ('delays', 'give_up_after', 'jitter'))}"
                )
        return RetrySchedule(
            delays=self._value(f"{where} delays", table.get("delays"), _durations),
            give_up_after=self._value(f"{where} give_up_after", table.get("give_up_after", "24h"), _positive_duration),
            jitter=self._value(f"{where} jitter", table.get("jitter", 0.2), _fraction),
        )

    def _topics(self, channels: Collection[str]) -> dict[str, tuple[str, ...]]:
        topics: dict[str, tuple[str, ...]] = {}
        for written, value in self._table("topics").items():
            where, topic = f"[topics] {written}", fold_topic(written)
            if not 0 < len(topic) <= _LONGEST_TOPIC:
                self._wrong(where, f"is not a topic: 1 to {_LONGEST_TOPIC} characters")
            if topic in topics:
                self._wrong(where, "is named twice (topics are compared without case)")
            names = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else ()
            if not names or not all(isinstance(n, str) for n in names) or len(set(names)) != len(names):
                self._wrong(where, 'names no channel: write "channel" or a list of different channels')
                continue
            for name in names:
                if name not in channels:
                    self._wrong(
                        where, f"goes to {name!r}, which is not under [channels]{_did_you_mean(name, channels)}"
                    )
            topics[topic] = names
        return topics

    def _tables(self, name: str) -> dict[str, Mapping[str, Any]]:
        return {key: table for key, table in self._table(name).items() if self._is_table(f"[{name}.{key}]", table)}

    def _table(self, name: str) -> Mapping[str, Any]:
        table = self.document.get(name, {})
        return table if self._is_table(f"[{name}]", table) else {}

    def _is_table(self, where: str, value: object) -> bool:
        if not isinstance(value, dict) and f"{where} is not a table." not in self.mistakes:
            self._wrong(where, "is not a table")
        return isinstance(value, dict)

    def _value(self, where: str, value: object, parse: Callable[[Any], Any]) -> Any:
        try:
            return parse(value)
        except (ValueError, TypeError) as error:
            self._wrong(where, str(error))
            return None

    def _wrong(self, where: str, what: str) -> None:
        self.mistakes.append(f"{where} {what}.")


def _positive_duration(value: object) -> float:
    seconds = parse_duration(value)
    if seconds <= 0:
        raise ValueError("must be longer than nothing")
    return seconds


def _durations(value: object) -> tuple[float, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError('is not a list of durations such as ["1s", "5s"]')
    return tuple(_positive_duration(item) for item in value)


def _count(value: object) -> int:
    if type(value) is not int or not 1 <= value <= 10:
        raise ValueError("is not a number from 1 to 10")
    return value


def _on_unknown(value: object) -> OnUnknown:
    if value not in tuple(OnUnknown):
        raise ValueError(f"is {value!r}{_did_you_mean(value, tuple(OnUnknown))}")
    return OnUnknown(str(value))


def _fraction(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ValueError("is not a number from 0 up to, but not including, 1")
    return float(value)


def _one_of(schedules: Mapping[str, RetrySchedule]) -> Callable[[object], RetrySchedule]:
    def parse(value: object) -> RetrySchedule:
        if not isinstance(value, str) or value not in schedules:
            raise ValueError(f"is {value!r}{_did_you_mean(value, schedules)}")
        return schedules[value]

    return parse


def _did_you_mean(written: object, allowed: Collection[str]) -> str:
    near = difflib.get_close_matches(str(written), allowed, n=1)
    suggestion = f"; did you mean {near[0]!r}?" if near else ""
    return f"{suggestion} (allowed: {', '.join(sorted(allowed)) or 'none'})"


def _explain_option(where: str, channel_type: ChannelType, item: Mapping[str, Any]) -> str:
    key = ".".join(str(part) for part in item["loc"]) or "options"
    if item["type"] == "missing":
        return f"{where} {key} is missing."
    if item["type"] == "extra_forbidden":
        names = [option.alias or name for name, option in channel_type.options.model_fields.items()]
        return f"{where} {key} is not a key of type {channel_type.name!r}{_did_you_mean(key, names)}."
    message = str(item["msg"]).removeprefix("Value error, ")
    return f"{where} {key} is wrong: {message[:1].lower()}{message[1:]}."
