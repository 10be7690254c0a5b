"""The open dead letters of the last day by their causes, for a page that is read every few seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ScalarSelect, func, select
from sqlalchemy.dialects.postgresql import aggregate_order_by

from assistance.search.causes import essence, fingerprint
from assistance.status.signs import instant
from assistance.storage.expressions import from_now
from assistance.storage.tables import dead_letters

_DAY_SECONDS = 86_400
#: Finding causes takes a while for each letter: the newest of them tell what goes on.
_MOST_READ = 2_000
_MOST_CAUSES = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class RecentCause:
    """Letters with one cause: `fingerprint` is the filter `cause` of the page of dead letters.

    The channel is none for letters of a source or of the broker; `is_more` says that `number` is a lower bound.
    """

    fingerprint: str
    channel: str | None
    reason: str
    error: str
    number: int
    is_more: bool
    since: datetime


def _column() -> ScalarSelect[Any]:
    """One JSON value, for a statement that reads something else as well."""
    recent = (
        select(dead_letters.c.channel, dead_letters.c.reason, dead_letters.c.created_at, dead_letters.c.error)
        .where(dead_letters.c.resolved_at.is_(None), dead_letters.c.created_at > from_now(-_DAY_SECONDS))
        .order_by(dead_letters.c.created_at.desc())
        .limit(_MOST_READ)
        .subquery("recent")
    )
    named = select(recent, essence(recent.c.error).label("essence")).subquery("named")
    grouped = (
        select(
            named.c.channel,
            named.c.reason,
            named.c.essence,
            func.count().label("number"),
            func.min(named.c.created_at).label("since"),
            func.sum(func.count()).over().label("read"),
        )
        .group_by(named.c.channel, named.c.reason, named.c.essence)
        .order_by(func.count().desc())
        .limit(_MOST_CAUSES)
        .subquery("causes")
    )
    cause = func.jsonb_build_object(
        "fingerprint",
        fingerprint(grouped.c.channel, grouped.c.reason, grouped.c.essence),
        *(part for name in ("channel", "reason", "number", "since") for part in (name, grouped.c[name])),
        *("error", grouped.c.essence),
        *("is_more", grouped.c.read >= _MOST_READ),
    )
    return select(func.jsonb_agg(aggregate_order_by(cause, grouped.c.number.desc()))).scalar_subquery()


recent_causes_column = _column()


def read_recent_causes(found: list[Mapping[str, Any]] | None) -> list[RecentCause]:
    """From the value of `recent_causes_column`, the most frequent first."""
    return [RecentCause(**{**row, "since": instant(row["since"])}) for row in found or ()]
