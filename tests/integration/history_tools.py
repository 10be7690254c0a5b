"""Rows of the history as a test wants to see them, and the flow at instants of a test's choosing."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from assistance.history.roll_up import RollUp, count
from tests.builders import World, in_transaction

MINUTE = timedelta(minutes=1)


def this_minute(world: World) -> datetime:
    """When the minute began that the database is in."""
    begin: datetime = world.rows("SELECT date_trunc('minute', now()) AS begin")[0].begin
    return begin


def roll_up(world: World) -> None:
    """What the conciliation process does once a minute."""
    rolling = RollUp(world.database)
    while rolling.one_pass():
        pass


def count_minutes(world: World, begin: datetime, minutes: int = 1) -> None:
    """Count these minutes, whatever time it is."""
    in_transaction(world.database, lambda connection: count(connection, begin, begin + minutes * MINUTE, is_now=False))


def put(world: World, request_id: UUID, accepted: datetime, *, delivered_after: float | None = None) -> None:
    """Move a request to an instant, and its last tries to some seconds later."""
    seconds = timedelta(seconds=delivered_after or 0)
    world.execute("UPDATE requests SET created_at = :at WHERE id = :id", at=accepted, id=request_id)
    world.execute(
        "UPDATE attempts a SET started_at = :at, finished_at = CASE WHEN finished_at IS NOT NULL THEN :at END"
        " FROM deliveries d WHERE d.id = a.delivery_id AND d.request_id = :id",
        at=accepted + seconds,
        id=request_id,
    )
    world.execute("UPDATE deliveries SET updated_at = :at WHERE request_id = :id", at=accepted + seconds, id=request_id)
    world.execute("UPDATE events SET at = :at WHERE request_id = :id", at=accepted + seconds, id=request_id)
    world.execute(
        "UPDATE dead_letters l SET created_at = :at FROM deliveries d"
        " WHERE d.id = l.delivery_id AND d.request_id = :id",
        at=accepted + seconds,
        id=request_id,
    )


def row(world: World, begin: datetime, channel: str = "", span: int = 60) -> Row[Any]:
    """The row of one span."""
    (found,) = world.rows(
        "SELECT * FROM history WHERE span_seconds = :span AND channel = :channel AND begins_at = :begin",
        span=span,
        channel=channel,
        begin=begin,
    )
    return found
