"""Advisory locks: facts about an installation that PostgreSQL forgets when their holder dies."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import psycopg
from sqlalchemy import Connection, text

from assistance.storage.database import raw_connection


class Lock(IntEnum):
    """Which fact; the numbers are ours alone and never change."""

    EMBEDDED_WORKER = 7_260_926_418  # the one embedded worker of this installation is alive
    CONSUMERS_RUN = 7_260_926_419  # and its consumers take work
    ROLL_UP = 7_260_926_420  # somebody counts for the history; held for a transaction


def hold(url: str, lock: Lock) -> psycopg.Connection[Any] | None:
    """Take the lock for as long as the returned connection lives; none when somebody else holds it.

    Raises `DatabaseUnavailable`.
    """
    connection = raw_connection(url)
    row = connection.execute("SELECT pg_try_advisory_lock(%s)", (int(lock),)).fetchone()
    if row is not None and row[0]:
        return connection
    connection.close()
    return None


def still_holds(connection: psycopg.Connection[Any]) -> bool:
    """Whether a connection that `hold` returned still lives, and with it the lock."""
    try:
        connection.execute("SELECT 1")
    except psycopg.Error:
        return False
    return True


def is_held(connection: Connection, lock: Lock) -> bool:
    """Whether anybody in this database holds the lock now."""
    # pg_locks shows the high and the low half of the number in two columns.
    held = connection.scalar(
        text(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND granted"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            " AND classid = :high AND objid = :low)"
        ),
        {"high": int(lock) >> 32, "low": int(lock) & 0xFFFFFFFF},
    )
    return bool(held)
