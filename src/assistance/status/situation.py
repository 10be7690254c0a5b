"""What stands where, channel by channel, for the pages that the person on call looks at.

Each part is a column, so that one statement reads a whole page; each has a `read_…` that understands its value. None
looks at more rows than its limit. A backlog that is larger is told as the history knew it last, or as a lower bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, literal_column
from sqlalchemy.dialects.postgresql import JSONB

from assistance.deliveries.channel_states import ChannelState, PauseCause
from assistance.resilience.circuit_breaker import BreakerState, SharedBreaker
from assistance.status.signs import SILENT_SECONDS, instant, maybe

_MOST_UNFINISHED = 5_000
_NEWEST = 1_000

#: The words for what an unfinished delivery waits for, in the order in which they are shown.
BACKLOG = ("ready", "sending", "retrying", "looked_up", "held")


def _column(statement: str) -> ColumnElement[Any]:
    return literal_column(f"({statement})", JSONB)


backlog_column = _column(
    f"""
    SELECT jsonb_build_object(
        'looked_at', coalesce(sum(number), 0), 'channels', jsonb_agg(to_jsonb(counted)),
        'history', (SELECT jsonb_object_agg(channel, backlog) FROM history
                    WHERE span_seconds = 60 AND channel <> '' AND begins_at = (
                        SELECT max(begins_at) FROM history
                        WHERE span_seconds = 60 AND channel = '' AND begins_at > now() - interval '5 minutes')))
    FROM (SELECT channel, count(*) AS number, min(created_at) AS oldest,
                 count(*) FILTER (WHERE state = 'pending' AND attempt = 0) AS ready,
                 count(*) FILTER (WHERE state = 'sending') AS sending,
                 count(*) FILTER (WHERE state = 'pending' AND attempt > 0) AS retrying,
                 count(*) FILTER (WHERE state = 'unknown' AND held_at IS NULL) AS looked_up,
                 count(*) FILTER (WHERE held_at IS NOT NULL) AS held,
                 min(next_attempt_at) FILTER (WHERE state = 'pending' AND next_attempt_at > now()) AS next_attempt
          FROM (SELECT channel, state, attempt, created_at, held_at, next_attempt_at FROM deliveries
                WHERE check_at IS NOT NULL ORDER BY check_at LIMIT {_MOST_UNFINISHED}) AS unfinished
          GROUP BY channel) AS counted"""  # noqa: S608 (numbers of ours)
)

#: Which of the newest deliveries were delivered last; what lies further back is in the history, not to the second.
success_column = _column(
    f"""
    SELECT jsonb_object_agg(channel, at)
    FROM (SELECT channel, max(at) AS at
          FROM (SELECT channel, updated_at AS at
                FROM (SELECT channel, state, updated_at FROM deliveries ORDER BY id DESC LIMIT {_NEWEST}) AS newest
                WHERE state = 'delivered'
                UNION ALL
                SELECT channel, least(now(), max(begins_at) + interval '1 minute') FROM history
                WHERE span_seconds = 60 AND delivered > 0 AND begins_at > now() - interval '1 hour' GROUP BY channel
                UNION ALL
                SELECT channel, max(begins_at) FROM history
                WHERE span_seconds = 600 AND delivered > 0 AND begins_at > now() - interval '2 days' GROUP BY channel
               ) AS found
          WHERE channel <> '' GROUP BY channel) AS last"""  # noqa: S608 (numbers of ours)
)

states_column = _column("SELECT jsonb_object_agg(channel, to_jsonb(channel_states)) FROM channel_states")

workers_column = _column(
    """
    SELECT jsonb_agg(to_jsonb(heartbeats) || jsonb_build_object('age', extract(epoch FROM now() - seen_at))
                     ORDER BY role, worker)
    FROM heartbeats"""
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Backlog:
    """The unfinished deliveries of a channel, by what they wait for (see `BACKLOG`).

    `next_attempt` is when the first of those that wait for their time becomes due. Of a large backlog nobody counts
    all: `precision` is then a word to stand before the numbers, else empty.
    """

    channel: str
    number: int = 0
    oldest: datetime | None = None
    by_state: Mapping[str, int] = field(default_factory=dict)
    next_attempt: datetime | None = None
    precision: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Worker:
    """A process that said `age` seconds ago that it is there."""

    worker: str
    role: str
    host: str
    pid: int
    version: str
    in_flight: int
    state: Mapping[str, Any]
    started_at: datetime
    seen_at: datetime
    age: float

    @property
    def is_silent(self) -> bool:
        """Whether it should have given a sign since."""
        return self.age > SILENT_SECONDS


def read_backlog(found: Mapping[str, Any]) -> dict[str, Backlog]:
    """From the value of `backlog_column`, by channel."""
    is_capped = found["looked_at"] >= _MOST_UNFINISHED
    seen = {row["channel"]: row for row in found["channels"] or ()}
    known = (found["history"] or {}) if is_capped else {}
    precision = "" if not is_capped else "about " if known else "at least "
    backlogs = {}
    for name in sorted({*seen, *known}):
        row, past = seen.get(name, {}), known.get(name, {})
        by_state = {word: max(row.get(word, 0), past.get(word, 0)) for word in BACKLOG}
        if any(by_state.values()):
            backlogs[name] = Backlog(
                channel=name,
                number=sum(by_state.values()),
                oldest=maybe(row.get("oldest")),
                by_state=by_state,
                next_attempt=maybe(row.get("next_attempt")),
                precision=precision,
            )
    return backlogs


def read_states(found: Mapping[str, Mapping[str, Any]] | None) -> dict[str, ChannelState]:
    """From the value of `states_column`: the channels that ever were out."""
    return {name: _state(row) for name, row in (found or {}).items()}


def _state(row: Mapping[str, Any]) -> ChannelState:
    probe_at = maybe(row["probe_at"])
    return ChannelState(
        paused_at=maybe(row["paused_at"]),
        paused_by=row["paused_by"],
        pause_cause=PauseCause(row["pause_cause"]) if row["pause_cause"] else None,
        pause_reason=row["pause_reason"],
        breaker=SharedBreaker(
            state=BreakerState(row["breaker"]), probe_at=None if probe_at is None else probe_at.timestamp()
        ),
        breaker_reason=row["breaker_reason"],
        breaker_since=instant(row["breaker_since"]),
        out_since=maybe(row["out_since"]),
    )


def read_success(found: Mapping[str, str] | None) -> dict[str, datetime]:
    """From the value of `success_column`: when each channel last delivered something."""
    return {channel: instant(at) for channel, at in (found or {}).items()}


def read_workers(found: list[dict[str, Any]] | None) -> list[Worker]:
    """From the value of `workers_column`, by role and name."""
    return [
        Worker(**row | {"started_at": instant(row["started_at"]), "seen_at": instant(row["seen_at"])})
        for row in found or ()
    ]
