"""Reads the file: tables to values, with a sentence for every mistake."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assistance.channels.registry import callback_type, find_type, known_types
from assistance.configuration.issuers import IssuerReader
from assistance.configuration.mistakes import Mistakes
from assistance.configuration.model import ChannelSettings, Configuration
from assistance.configuration.sources import SourceReader
from assistance.configuration.topics import TopicReader
from assistance.configuration.values import (
    NAME,
    count,
    did_you_mean,
    durations,
    fraction,
    on_unknown,
    one_of,
    parse_rate,
    positive_duration,
)
from assistance.configuration.webhooks import callback_options, read_webhooks
from assistance.domain.delivery import CALLBACKS
from assistance.domain.errors import SettingsError
from assistance.resilience.retry_schedule import CALLBACK, HUMAN, RetrySchedule

_RESERVED_NAMES = frozenset({"dlq", "dlx", CALLBACKS})
_TABLES = ("channels", "topics", "retry", "sources", "webhooks", "issuers")
_COMMON_KEYS = ("type", "timeout", "retry", "settle", "looks", "on_unknown", "pace", "probe_after")
_RETRY_KEYS = ("delays", "give_up_after", "jitter")


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
    if reader.mistakes.sentences:
        raise SettingsError("\n".join(f"{path.name}: {mistake}" for mistake in reader.mistakes.sentences))
    return configuration


@dataclass
class _Reader:
    document: Mapping[str, Any]
    mistakes: Mistakes = field(default_factory=Mistakes)

    def read(self, digest: str) -> Configuration:
        for name in self.document:
            if name not in _TABLES:
                self.mistakes.tell(f"[{name}]", f"is not a table of this file{did_you_mean(name, _TABLES)}")
        schedules = {"human": HUMAN} | {n: self._schedule(n, t) for n, t in self._tables("retry").items()}
        named = self._tables("channels")
        found = [self._channel(name, table, schedules) for name, table in named.items()]
        webhook_tables = self._tables("webhooks")
        callbacks = ChannelSettings(
            name=CALLBACKS, type=callback_type(), options=callback_options(webhook_tables), retry=CALLBACK
        )
        channels = {channel.name: channel for channel in (*found, callbacks) if channel}
        topics = TopicReader(set(named), self.mistakes).read(self._table("topics"))
        sources = SourceReader(topics, self.mistakes).read(self._tables("sources"))
        if not self.mistakes.sentences and not topics:
            self.mistakes.tell("[topics]", 'names no topic; write for example sales = "sales-team"')
        return Configuration(
            channels=channels,
            topics=topics,
            sources=sources,
            issuers=IssuerReader(self.mistakes).read(self._tables("issuers")),
            webhooks=read_webhooks(webhook_tables, self.mistakes),
            digest=f"sha256:{digest}",
        )

    def _channel(
        self, name: str, table: Mapping[str, Any], schedules: Mapping[str, RetrySchedule]
    ) -> ChannelSettings | None:
        where, value = f"[channels.{name}]", self.mistakes.value
        if not NAME.fullmatch(name) or name in _RESERVED_NAMES:
            self.mistakes.tell(
                where,
                "is not a channel name: a-z, 0-9 and -, starting with a letter, at most 40; not callbacks, dlq or dlx",
            )
            return None
        kind = table.get("type")
        channel_type = find_type(kind) if isinstance(kind, str) else None
        if channel_type is None:
            self.mistakes.tell(f"{where} type", f"is {kind!r}{did_you_mean(kind, known_types())}")
            return None
        pace = table.get("pace")
        return ChannelSettings(
            name=name,
            type=channel_type,
            options={key: item for key, item in table.items() if key not in _COMMON_KEYS},
            timeout_seconds=value(f"{where} timeout", table.get("timeout", "10s"), positive_duration),
            settle_seconds=value(f"{where} settle", table.get("settle", "2s"), positive_duration),
            looks=value(f"{where} looks", table.get("looks", 2), count),
            retry=value(f"{where} retry", table.get("retry", "human"), one_of(schedules)),
            on_unknown=value(f"{where} on_unknown", table.get("on_unknown", "resend"), on_unknown),
            pace_per_second=(
                channel_type.capabilities.pace_per_second if pace is None else value(f"{where} pace", pace, parse_rate)
            ),
            probe_after_seconds=value(f"{where} probe_after", table.get("probe_after", "30s"), positive_duration),
        )

    def _schedule(self, name: str, table: Mapping[str, Any]) -> RetrySchedule:
        where, value = f"[retry.{name}]", self.mistakes.value
        self.mistakes.check_keys(where, table, _RETRY_KEYS)
        return RetrySchedule(
            delays=value(f"{where} delays", table.get("delays"), durations),
            give_up_after=value(f"{where} give_up_after", table.get("give_up_after", "24h"), positive_duration),
            jitter=value(f"{where} jitter", table.get("jitter", 0.2), fraction),
        )

    def _tables(self, name: str) -> dict[str, Mapping[str, Any]]:
        return {
            key: table for key, table in self._table(name).items() if self.mistakes.is_table(f"[{name}.{key}]", table)
        }

    def _table(self, name: str) -> Mapping[str, Any]:
        table = self.document.get(name, {})
        return table if self.mistakes.is_table(f"[{name}]", table) else {}
