"""The few facts that say whether something is wrong, as one value that any statement can carry along.

They are cheap at any size of the database: each looks at no more rows than a limit, and finds them through an index.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

#: Counts stop here: every page carries them, and "1,000 or more" says enough.
MOST_COUNTED = 1_000
#: Conciliation looks every half minute: what is this late was looked at and not moved, or nobody looks.
LATE_SECONDS = 120
#: A worker says every 10 s that it is there.
SILENT_SECONDS = 35
_OUTBOX = f"""
    SELECT jsonb_agg(jsonb_build_object('channel', channel, 'due', due, 'oldest', oldest, 'refused', refused,
                                        'error', error))
    FROM (SELECT channel, count(*) FILTER (WHERE available_at <= now()) AS due,
                 min(available_at) FILTER (WHERE available_at <= now()) AS oldest,
                 count(*) FILTER (WHERE refusals > 0) AS refused, max(last_error) AS error
          FROM (SELECT channel, available_at, refusals, last_error FROM outbox
                WHERE available_at <= now() + interval '6 minutes' -- a refused row comes back within five
                ORDER BY available_at, id LIMIT {MOST_COUNTED}) AS first
          GROUP BY channel) AS waiting"""  # noqa: S608 (numbers of ours)
_LATE = f"""
    SELECT jsonb_agg(jsonb_build_object('channel', channel, 'number', number, 'oldest', oldest))
    FROM (SELECT channel, count(*) AS number, min(check_at) AS oldest
          FROM (SELECT id, channel, check_at, held_at FROM deliveries
                WHERE check_at < now() - interval '{LATE_SECONDS} s' ORDER BY check_at LIMIT 2000) AS first
          WHERE held_at IS NULL -- a subquery of this form looks at the index, and never at the whole outbox
            AND (SELECT true FROM outbox WHERE outbox.delivery_id = first.id LIMIT 1) IS NULL
          GROUP BY channel) AS late"""  # noqa: S608 (numbers of ours)
_LETTERS = f"""
    SELECT jsonb_build_object('number', count(*), 'oldest', min(created_at))
    FROM (SELECT created_at FROM dead_letters WHERE created_at > now() - interval '1 hour' AND resolved_at IS NULL
          LIMIT {MOST_COUNTED}) AS recent"""  # noqa: S608 (numbers of ours)
_CHANNELS = """
    SELECT jsonb_agg(jsonb_build_object('channel', channel, 'paused_at', paused_at, 'breaker', breaker,
                                        'since', out_since))
    FROM channel_states WHERE out_since IS NOT NULL"""
_WORKERS = f"""
    SELECT jsonb_agg(jsonb_build_object('role', role, 'alive', alive, 'seen_at', seen_at, 'state', state))
    FROM (SELECT role, count(*) FILTER (WHERE seen_at > now() - interval '{SILENT_SECONDS} s') AS alive,
                 max(seen_at) AS seen_at, (array_agg(state ORDER BY seen_at DESC))[1] AS state
          FROM heartbeats GROUP BY role) AS roles"""  # noqa: S608 (numbers of ours)

#: The facts as one JSON value: a whole statement of PostgreSQL, or in parentheses a part of any other. `Signs.read`
#: understands it.
SIGNS = f"""
    SELECT jsonb_build_object('now', now(), 'outbox', ({_OUTBOX}), 'late', ({_LATE}), 'letters', ({_LETTERS}),
                              'channels', ({_CHANNELS}), 'workers', ({_WORKERS}))"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """Hints of one channel in the outbox; `refused` ones came back from the broker, which said `error`."""

    channel: str
    due: int
    oldest: datetime | None
    refused: int
    error: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Late:
    """Deliveries of one channel that should have moved, and did not since `oldest`."""

    channel: str
    number: int
    oldest: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Out:
    """A channel on which nothing but probes is sent, since `since`."""

    channel: str
    paused_at: datetime | None
    breaker: str
    since: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Role:
    """The workers of one role: how many gave a sign lately, and what the last one said."""

    role: str
    alive: int
    seen_at: datetime
    state: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Signs:
    """What the database says of the installation's condition at the instant `now`, the database's own.

    `letters` is how many dead letters of the last hour are open, `letters_since` when the first of them came.
    """

    now: datetime
    outbox: tuple[Waiting, ...]
    late: tuple[Late, ...]
    letters: int
    letters_since: datetime | None
    channels: tuple[Out, ...]
    roles: Mapping[str, Role]

    @classmethod
    def read(cls, found: Mapping[str, Any]) -> Signs:
        """From the value of `SIGNS`."""
        roles = [Role(**row | {"seen_at": instant(row["seen_at"])}) for row in found["workers"] or ()]
        return cls(
            now=instant(found["now"]),
            outbox=tuple(Waiting(**row | {"oldest": maybe(row["oldest"])}) for row in found["outbox"] or ()),
            late=tuple(Late(**row | {"oldest": instant(row["oldest"])}) for row in found["late"] or ()),
            letters=found["letters"]["number"],
            letters_since=maybe(found["letters"]["oldest"]),
            channels=tuple(
                Out(**row | {"paused_at": maybe(row["paused_at"]), "since": instant(row["since"])})
                for row in found["channels"] or ()
            ),
            roles={role.role: role for role in roles},
        )


def instant(written: str) -> datetime:
    """An instant as PostgreSQL writes it into JSON."""
    return datetime.fromisoformat(written)


def maybe(written: str | None) -> datetime | None:
    """An instant, or none."""
    return None if written is None else instant(written)
