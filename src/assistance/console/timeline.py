"""The timeline of a request in words: one line for everything that happened, in the order of its time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from assistance.domain.event import FIRST_EVENT, EventType
from assistance.status.story import Entry, Story

_Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One entry for people. `kind` is that of the entry, `state` a word with a badge, `said` what somebody wrote.

    `is_ahead` says that it has not happened yet; `seconds` is how long it took.
    """

    kind: str
    at: datetime
    words: str
    state: str | None = None
    who: str | None = None
    said: str | None = None
    facts: tuple[str, ...] = ()
    seconds: float | None = None
    is_ahead: bool = False


def lines_of(story: Story) -> list[Line]:
    """The acceptance first, then everything else in its order, what lies ahead at last."""
    keys = {entry.data["event_version"]: entry.data["key"] for entry in story.entries if entry.kind == "key"}
    return [_accepted(story, keys.get(FIRST_EVENT)), *_later(story, keys)]


def _accepted(story: Story, key: str | None) -> Line:
    request = story.request
    facts = [f"topic {request['topic']}"]
    if key is not None:
        facts.append(f"Idempotency-Key {key}")
    if request["dedup_key"] is not None:
        facts.append(f"dedup key {request['dedup_key']}")
    return Line(
        kind="event",
        at=request["created_at"],
        words="Accepted and on disk",
        state="accepted",
        who=request["client"] or "a caller without a key",
        facts=tuple(facts),
    )


def _later(story: Story, keys: Mapping[int, str]) -> Iterator[Line]:
    for entry in story.entries:
        if entry.kind == "event":
            yield _event(entry, keys.get(entry.data["version"]))
        elif entry.kind in _WORDS:
            yield _WORDS[entry.kind](entry, story.now)


#: What an event is called, the word of its badge, and the member of its data that somebody wrote.
_EVENTS: Mapping[str, tuple[str, str | None, str | None]] = {
    EventType.DELIVERED: ("People were told", "delivered", None),
    EventType.UNDELIVERABLE: ("Nobody can be told any more without an operator", "undeliverable", None),
    EventType.CANCELLED: ("Called off", "cancelled", "reason"),
    EventType.EXPIRED: ("Expired before people were told", "expired", None),
    EventType.STARTED: ("Its time has come: people are told from now on", "accepted", None),
    EventType.FOLLOW_UP: ("The {from} adds", None, "text"),
    EventType.REPLAYED: ("A dead letter was put back", "accepted", None),
    EventType.REROUTED: ("Moved from {from} to {to}", None, None),
    EventType.ERASED: ("What was stored about the customer was erased", None, None),
    EventType.FALLBACK_STARTED: ("Step {step} of the fallback begins on {channels}: {cause}", None, None),
}
_CAUSES = {"dead": "the steps before it are dead", "time": "nobody confirmed in time"}


def _event(entry: Entry, key: str | None) -> Line:
    event, data = entry.data, entry.data["data"]
    words, state, written = _EVENTS.get(event["type"], (event["type"].removeprefix("assistance."), None, None))
    named = {name: _CAUSES.get(str(value), value) if name == "cause" else value for name, value in data.items()}
    for name in ("from", "to", "step", "channels", "cause"):
        words = words.replace(f"{{{name}}}", _listed(named.get(name, "")))
    return Line(
        kind="event",
        at=entry.at,
        words=words,
        state=state,
        who=event["actor"],
        said=data.get(written) if written else None,
        facts=() if key is None else (f"Idempotency-Key {key}",),
    )


def _attempt(entry: Entry, now: datetime) -> Line:
    row = entry.data
    ended = row["finished_at"]
    series = f" of series {row['series']}" if row["series"] > 1 else ""
    return Line(
        kind="attempt",
        at=entry.at,
        words=f"Try {row['number']}{series} on {row['channel']}{_for(row['purpose'])}",
        state=row["outcome"],
        who=row["worker"],
        said=": ".join(part for part in (row["code"], row["detail"]) if part) or None,
        facts=() if row["receipt"] is None else (f"receipt {in_short(row['receipt'])}",),
        seconds=((ended or now) - entry.at).total_seconds(),
    )


def _hint(entry: Entry, now: datetime) -> Line:
    row = entry.data
    is_ahead = entry.at > now
    words = f"Try {row['attempt']} on {row['channel']} " + ("is due" if is_ahead else "waits in the outbox")
    refused = (f"refused by the broker {row['refusals']} times",) if row["refusals"] else ()
    return Line(kind="hint", at=entry.at, words=words, said=row["last_error"], facts=refused, is_ahead=is_ahead)


_TIMERS = {
    "begin": "People are told from here on",
    "expire": "Expires: whoever was not told by then is not told any more",
    "fallback": "The next step of the fallback begins, unless people were told",
    "end": "Calls with its dedup key cannot join it any more",
}


def _timer(entry: Entry, now: datetime) -> Line:
    kind = entry.data["kind"]
    return Line(kind="timer", at=entry.at, words=_TIMERS.get(kind, kind), is_ahead=entry.at > now)


def _letter(entry: Entry, _now: datetime) -> Line:
    row = entry.data
    reason = row["reason"].replace("_", " ")
    return Line(
        kind="letter",
        at=entry.at,
        words=f"Dead letter {row['id']} on {row['channel']}: {reason}",
        state="dead",
        who=row["source"],
        said=row["error"],
    )


def _resolved(entry: Entry, _now: datetime) -> Line:
    row = entry.data
    words = f"Dead letter {row['id']} {row['resolution']}"
    return Line(kind="resolved", at=entry.at, words=words, who=row["resolved_by"])


def _act(entry: Entry, _now: datetime) -> Line:
    row = entry.data
    changed = [f"{name} {in_short(row[name])}" for name in ("before", "after") if row[name] not in (None, {})]
    part = f" as part of operation {row['operation_id']}" if row["operation_id"] else ""
    action = row["action"].replace("_", " ").replace(".", " ")
    return Line(
        kind="act",
        at=entry.at,
        words=f"{action.capitalize()} ({row['via']}){part}",
        who=row["actor"],
        said=row["reason"],
        facts=tuple(changed),
    )


_WORDS: Mapping[str, Callable[[Entry, datetime], Line]] = {
    "attempt": _attempt,
    "hint": _hint,
    "timer": _timer,
    "letter": _letter,
    "resolved": _resolved,
    "act": _act,
}


def _for(purpose: str) -> str:
    return {"follow_up": ", what was added", "callback": ", a callback"}.get(purpose, "")


def _listed(names: object) -> str:
    return ", ".join(map(str, names)) if isinstance(names, list) else str(names)


def in_short(value: object) -> str:
    """A JSON value as people write it: `ts: 17…, channel: C1`."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {in_short(item)}" for name, item in value.items())
    if isinstance(value, list):
        return "[" + ", ".join(map(in_short, value)) + "]"
    return str(value)
