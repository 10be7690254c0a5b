"""The tables `[sources.<name>]`: who may send signed messages, and what a request is made of."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from assistance.configuration.mistakes import Mistakes
from assistance.configuration.model import SourceSettings
from assistance.configuration.templates import Path, Template, parse_path, parse_pattern, text_of
from assistance.configuration.values import NAME, did_you_mean
from assistance.domain.request import Submission
from assistance.domain.route import fold_topic
from assistance.domain.source import Scheme

_KEYS = ("scheme", "secret", "verify_token", "message_id", "only", "request")
_HUB_KEYS = ("verify_token", "message_id")
_NEEDED = ("topic", "description")
#: A payload never decides whom we call back, and a transcript is a part of its conversation.
_MEMBERS = tuple(
    field.name for field in dataclasses.fields(Submission) if field.name not in ("callback_url", "transcript")
)
_HEADER = re.compile(r"[A-Za-z0-9-]{1,64}")
_REFERENCE = re.compile(r"(?:env|file):.+")


@dataclass
class SourceReader:
    """Reads sources; `topics` are the folded names of the topics that there are."""

    topics: Collection[str]
    mistakes: Mistakes

    def read(self, tables: Mapping[str, Mapping[str, Any]]) -> dict[str, SourceSettings]:
        """The sources by name; those with mistakes are told of."""
        found = [self._source(name, table) for name, table in tables.items()]
        return {source.name: source for source in found if source}

    def _source(self, name: str, table: Mapping[str, Any]) -> SourceSettings | None:
        where, value = f"[sources.{name}]", self.mistakes.value
        if not NAME.fullmatch(name):
            self.mistakes.tell(where, "is not a source name: a-z, 0-9 and -, starting with a letter, at most 40")
            return None
        self.mistakes.check_keys(where, table, _KEYS)
        scheme = value(f"{where} scheme", table.get("scheme"), _scheme)
        for key in _HUB_KEYS:
            if key in table and scheme not in (Scheme.HUB, None):
                self.mistakes.tell(f"{where} {key}", "belongs to scheme 'hub' only")
        return SourceSettings(
            name=name,
            scheme=scheme,
            secrets=value(f"{where} secret", table.get("secret"), _references),
            verify_token=value(f"{where} verify_token", table.get("verify_token"), _optional_reference),
            message_id=value(f"{where} message_id", table.get("message_id"), _optional_header),
            only=self._only(f"{where} only", table.get("only", {})),
            request=self._request(f"[sources.{name}.request]", table.get("request")),
        )

    def _request(self, where: str, table: object) -> dict[str, Any]:
        if table is None:
            self.mistakes.tell(where, "is missing")
            return {}
        if not self.mistakes.is_table(where, table) or not isinstance(table, Mapping):
            return {}
        self.mistakes.check_keys(where, table, _MEMBERS)
        for key in _NEEDED:
            if key not in table:
                self.mistakes.tell(f"{where} {key}", "is missing")
        request = {key: self.mistakes.value(f"{where} {key}", item, parse_pattern) for key, item in table.items()}
        topic = request.get("topic")
        literal = topic.literal if isinstance(topic, Template) else None
        if literal is not None and fold_topic(literal) not in self.topics:
            self.mistakes.tell(f"{where} topic", f"is {literal!r}{did_you_mean(fold_topic(literal), self.topics)}")
        return request

    def _only(self, where: str, table: object) -> tuple[tuple[Path, tuple[str, ...]], ...]:
        if not self.mistakes.is_table(where, table) or not isinstance(table, Mapping):
            return ()
        value = self.mistakes.value
        pairs = [(value(where, key, parse_path), value(f"{where} {key}", item, _texts)) for key, item in _flat(table)]
        return tuple((path, texts) for path, texts in pairs if path and texts)


def _flat(table: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Paths and values: TOML reads `only.issue.state = "open"` as a table within a table."""
    for key, item in table.items():
        if isinstance(item, Mapping):
            yield from _flat(item, f"{before}{key}.")
        else:
            yield f"{before}{key}", item


def _texts(value: object) -> tuple[str, ...]:
    texts = [text_of(item) for item in (value if isinstance(value, list) else [value])]
    found = tuple(text for text in texts if text is not None)
    if not found or len(found) != len(texts):
        raise ValueError('is not a value or a list of values such as ["opened", "reopened"]')
    return found


def _scheme(value: object) -> Scheme:
    if value not in tuple(Scheme):
        raise ValueError(f"is {value!r}{did_you_mean(value, tuple(Scheme))}")
    return Scheme(str(value))


def _references(value: object) -> tuple[str, ...]:
    listed = value if isinstance(value, list) else [value]
    if not listed or not all(isinstance(item, str) and _REFERENCE.fullmatch(item) for item in listed):
        raise ValueError("is not env:NAME or file:PATH, or a list of them (the first is the current one)")
    return tuple(listed)


def _optional_reference(value: object) -> str | None:
    return None if value is None else _references(value)[0]


def _optional_header(value: object) -> str | None:
    if value is not None and not (isinstance(value, str) and _HEADER.fullmatch(value)):
        raise ValueError("is not the name of a header such as X-GitHub-Delivery")
    return value.lower() if value else None
