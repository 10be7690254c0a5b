"""How the database is and what the outbox holds back. Columns for one statement, as in `situation`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, literal_column
from sqlalchemy.dialects.postgresql import JSONB

from assistance.status.signs import instant, maybe
from assistance.storage.tables import metadata

#: Counts stop here.
MOST_COUNTED = 10_000
#: Of so many hints that come next it is said which the broker refused.
MOST_LOOKED_AT = 2_000

_TABLES = ", ".join(f"'{name}'" for name in metadata.tables)


def _column(statement: str) -> ColumnElement[Any]:
    return literal_column(f"({statement})", JSONB)


#: A refused row comes back within five minutes, so that it is among the next ones.
outbox_column = _column(
    f"""
    SELECT jsonb_build_object(
        'due', (SELECT count(*) FROM (SELECT FROM outbox WHERE available_at <= now() LIMIT {MOST_COUNTED}) AS waiting),
        'later', (SELECT count(*) FROM (SELECT FROM outbox WHERE available_at > now() LIMIT {MOST_COUNTED}) AS waiting),
        'errors', (SELECT jsonb_agg(to_jsonb(refused)) FROM (
            SELECT channel, last_error AS error, count(*) AS number, max(refusals) AS refusals,
                   min(created_at) AS oldest, min(available_at) AS next_at
            FROM (SELECT * FROM outbox WHERE available_at <= now() + interval '6 minutes'
                  ORDER BY available_at, id LIMIT {MOST_LOOKED_AT}) AS next
            WHERE refusals > 0 GROUP BY channel, last_error ORDER BY number DESC LIMIT 10) AS refused))"""  # noqa: S608 (numbers of ours)
)

#: PostgreSQL estimates how many rows there are; counting them would take longer than the page may.
tables_column = _column(
    f"""
    SELECT jsonb_agg(jsonb_build_object(
        'name', s.relname, 'rows', c.reltuples::bigint, 'dead', s.n_dead_tup, 'bytes', pg_total_relation_size(c.oid),
        'vacuumed_at', greatest(s.last_vacuum, s.last_autovacuum)) ORDER BY pg_total_relation_size(c.oid) DESC)
    FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid
    WHERE s.schemaname = current_schema() AND s.relname IN ({_TABLES})"""  # noqa: S608 (names of ours)
)

server_column = _column(
    """
    SELECT jsonb_build_object(
        'version', current_setting('server_version'),
        'most', current_setting('max_connections')::int,
        'connections', count(*),
        'ours', (SELECT jsonb_object_agg(name, number) FROM (
            SELECT application_name AS name, count(*) AS number FROM pg_stat_activity
            WHERE datname = current_database() AND backend_type = 'client backend' GROUP BY 1) AS named),
        'longest', (SELECT jsonb_build_object('who', application_name, 'state', state, 'since', xact_start,
                                              'seconds', extract(epoch FROM clock_timestamp() - xact_start))
            FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
                AND xact_start IS NOT NULL AND backend_type = 'client backend' ORDER BY xact_start LIMIT 1),
        'frozen', (SELECT age(datfrozenxid)::float / current_setting('autovacuum_freeze_max_age')::float
            FROM pg_database WHERE datname = current_database()),
        'rolled_up_to', (SELECT max(begins_at) + interval '1 minute' FROM history WHERE span_seconds = 60))
    FROM pg_stat_activity WHERE backend_type = 'client backend'"""
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """Hints of one channel that the broker sent back with one error; `refusals` is the most that one of them saw."""

    channel: str
    error: str
    number: int
    refusals: int
    oldest: datetime
    next_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Outbox:
    """How much is due and how much waits for its time (no more than `MOST_COUNTED` of each), and what came back."""

    due: int
    later: int
    refused: tuple[Refused, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """A table: an estimate of its `rows` (none: never looked at), its `dead` ones, its size with its indexes."""

    name: str
    rows: int | None
    dead: int
    bytes: int
    vacuumed_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Transaction:
    """A transaction that runs since `since`, of the program `who`, which is in this `state`."""

    who: str
    state: str
    since: datetime
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """PostgreSQL itself. `frozen` is 1 when it must vacuum because of the age of its transactions.

    `ours` counts the connections to our database by program; `connections` those of everybody, `most` how many may be.
    """

    version: str
    most: int
    connections: int
    ours: Mapping[str, int]
    longest: Transaction | None
    frozen: float
    rolled_up_to: datetime | None


def read_outbox(found: Mapping[str, Any]) -> Outbox:
    """From the value of `outbox_column`."""
    return Outbox(
        due=found["due"],
        later=found["later"],
        refused=tuple(
            Refused(**row | {"oldest": instant(row["oldest"]), "next_at": instant(row["next_at"])})
            for row in found["errors"] or ()
        ),
    )


def read_tables(found: list[dict[str, Any]] | None) -> list[Stored]:
    """From the value of `tables_column`, the largest first."""
    return [
        Stored(**row | {"rows": row["rows"] if row["rows"] >= 0 else None, "vacuumed_at": maybe(row["vacuumed_at"])})
        for row in found or ()
    ]


def read_server(found: Mapping[str, Any]) -> Server:
    """From the value of `server_column`."""
    longest = found["longest"]
    return Server(
        version=found["version"],
        most=found["most"],
        connections=found["connections"],
        ours=found["ours"] or {},
        longest=None if longest is None else Transaction(**longest | {"since": instant(longest["since"])}),
        frozen=found["frozen"],
        rolled_up_to=maybe(found["rolled_up_to"]),
    )
