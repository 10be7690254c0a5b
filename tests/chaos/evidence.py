"""What a run left behind, as plain data for the checker: histories, logs of the third parties, rows."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from assistance.storage.database import raw_connection

_CONTENT = re.compile("⟦(?P<marker>c[0-9-]+)⟧.*?⟦end⟧", re.DOTALL)
_MESSAGE_ID = re.compile(r"<(?P<delivery>[0-9a-f-]{36})\.(?P<series>\d+)@")
_WEBHOOK_ID = re.compile(r"msg_(?P<delivery>[0-9a-f]{32})_(?P<series>\d+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """A POST as its client saw it; `kind` is `first`, `twin`, `repeat`, or `other` (the key with another text)."""

    kind: str
    marker: str
    key: str | None
    topic: str
    sha: str
    began: float
    ended: float
    status: int  # 0 = no answer
    id: str | None = None
    ref: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Poll:
    """A GET as its client saw it."""

    id: str
    began: float
    ended: float
    status: int
    state: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """One message at a third party; `where` is a channel's name, none for what cannot be ours."""

    where: str | None
    delivery: str
    series: int
    marker: str | None
    sha: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestRow:
    id: str
    ref: str
    topic: str
    status: str
    marker: str | None
    sha: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveryRow:
    id: str
    request: str
    channel: str
    state: str
    series: int
    attempt: int
    leased: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptRow:
    delivery: str
    series: int
    number: int
    outcome: str


@dataclass(frozen=True, kw_only=True, slots=True)
class EventRow:
    request: str
    version: int
    type: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Letter:
    delivery: str | None
    series: int | None
    source: str
    reason: str


@dataclass(kw_only=True, slots=True)
class Evidence:
    """Everything of one round, or of the whole run."""

    calls: list[Call] = field(default_factory=list)
    polls: list[Poll] = field(default_factory=list)
    shown: list[Shown] = field(default_factory=list)
    requests: list[RequestRow] = field(default_factory=list)
    deliveries: list[DeliveryRow] = field(default_factory=list)
    attempts: list[AttemptRow] = field(default_factory=list)
    events: list[EventRow] = field(default_factory=list)
    letters: list[Letter] = field(default_factory=list)
    outbox: int = 0
    queued: dict[str, int] = field(default_factory=dict)  # messages left, by queue
    ledger_violations: dict[str, int] = field(default_factory=dict)


def read_history(path: Path) -> tuple[list[Call], list[Poll]]:
    """The calls of one client process."""
    calls, polls = [], []
    for line in path.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        kind, answer = entry.pop("kind"), entry.pop("answer", None)
        if kind == "poll":
            polls.append(Poll(**entry))
        else:
            told = {"id": answer["id"], "ref": answer["ref"]} if entry["status"] == 202 else {}
            calls.append(Call(kind=kind, **entry, **told))
    return calls, polls


class SinkLog:
    """Reads the third parties' log, each time from where it stopped."""

    def __init__(self, path: Path, conversations: dict[str, str]) -> None:
        self._path = path
        self._offset = 0
        self._channel_of = {conversation: channel for channel, conversation in conversations.items()}

    def read(self) -> Iterator[Shown]:
        with self._path.open("rb") as log:
            log.seek(self._offset)
            for line in log:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                yield self._shown(json.loads(line))

    def _shown(self, record: dict[str, Any]) -> Shown:
        match record["kind"]:
            case "slack":
                payload = record["metadata"]["event_payload"]
                sections = [block["text"]["text"] for block in record["blocks"] if block["type"] == "section"]
                text = "".join(sections).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
                where = self._channel_of.get(record["conversation"])
                return _found(where, payload["delivery_id"], payload["series"], text)
            case "mail":
                headers = dict(record["headers"])
                named = _MESSAGE_ID.match(headers["Message-ID"])
                assert named is not None
                return _found("pricing-inbox", named["delivery"], int(named["series"]), record["body"])
            case "webhook":
                named = _WEBHOOK_ID.fullmatch(record["webhook_id"])
                assert named is not None
                text = record["content"]["data"]["description"]
                return _found("hook", str(UUID(named["delivery"])), int(named["series"]), text)
        return Shown(where=None, delivery="", series=0, marker=None, sha=None)


def _found(where: str | None, delivery: str, series: int, text: str) -> Shown:
    marker, sha = _content(text)
    return Shown(where=where, delivery=delivery, series=series, marker=marker, sha=sha)


def _content(text: str) -> tuple[str | None, str | None]:
    match = _CONTENT.search(text)
    return (match["marker"], _sha(match[0])) if match else (None, None)


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def read_database(url: str, since: float = 0.0) -> Evidence:
    """The rows of all requests that were made at or after the Unix time `since`."""
    found = Evidence()
    born = "created_at >= to_timestamp(%(since)s)"
    with raw_connection(url) as connection:

        def rows(query: str) -> Iterable[Any]:
            return connection.execute(query, {"since": since})

        for id_, ref, topic, status, text in rows(
            f"SELECT id::text, ref, topic, status, description FROM requests WHERE {born}"
        ):
            marker, _ = _content(text)
            found.requests.append(
                RequestRow(id=id_, ref=ref, topic=topic, status=status, marker=marker, sha=_sha(text))
            )
        for row in rows(
            "SELECT id::text, request_id::text AS request, channel, state, series, attempt, lease_token IS NOT NULL"
            f" FROM deliveries WHERE {born}"
        ):
            names = ("id", "request", "channel", "state", "series", "attempt", "leased")
            found.deliveries.append(DeliveryRow(**dict(zip(names, row, strict=True))))
        for row in rows(
            "SELECT a.delivery_id::text, a.series, a.number, a.outcome FROM attempts a"
            f" JOIN deliveries d ON d.id = a.delivery_id WHERE d.{born}"
        ):
            found.attempts.append(
                AttemptRow(**dict(zip(("delivery", "series", "number", "outcome"), row, strict=True)))
            )
        for row in rows(
            "SELECT e.request_id::text, e.version, e.type FROM events e JOIN requests r ON r.id = e.request_id"
            f" WHERE r.{born} ORDER BY e.request_id, e.version"
        ):
            found.events.append(EventRow(**dict(zip(("request", "version", "type"), row, strict=True))))
        for row in rows(f"SELECT delivery_id::text, series, source, reason FROM dead_letters WHERE {born}"):
            found.letters.append(Letter(**dict(zip(("delivery", "series", "source", "reason"), row, strict=True))))
        found.outbox = next(iter(rows("SELECT count(*) FROM outbox")))[0]
    return found


def leaks(folder: Path, canaries: dict[str, str], also: Iterable[Path] = ()) -> list[str]:
    """Where a secret was written that must not be, as `name in file`; a secret's value is never repeated.

    Files directly in `folder` and in its folders of metrics are read, not the data of the servers.
    """
    found = []
    for path in [*sorted(folder.glob("*")), *sorted(folder.glob("metrics-*/*")), *also]:
        if path.is_file():
            content = path.read_bytes()
            found += [f"{name} in {path.name}" for name, value in canaries.items() if value.encode() in content]
    return found
