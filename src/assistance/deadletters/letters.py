"""Find, show and discard dead letters."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, select, update

from assistance.domain.errors import NotReplayable
from assistance.storage.tables import dead_letters, deliveries, requests


def find_letters(
    connection: Connection,
    *,
    channel: str | None = None,
    reason: str | None = None,
    replayable: bool = False,
    limit: int | None = None,
) -> list[Row[Any]]:
    """Open letters, oldest first; with `replayable` only those of deliveries and of signed sources."""
    wanted: list[ColumnElement[bool]] = [dead_letters.c.resolved_at.is_(None)]
    if channel is not None:
        wanted.append(dead_letters.c.channel == channel)
    if reason is not None:
        wanted.append(dead_letters.c.reason == reason)
    if replayable:
        wanted.append(dead_letters.c.delivery_id.is_not(None) | (dead_letters.c.source == "source"))
    statement = _letters().where(*wanted).order_by(dead_letters.c.id)
    return list(connection.execute(statement.limit(limit) if limit is not None else statement))


def show_letter(connection: Connection, letter_id: int) -> Row[Any] | None:
    """One letter, open or resolved."""
    return connection.execute(_letters().where(dead_letters.c.id == letter_id)).one_or_none()


def letters_of_sources(connection: Connection, ids: Collection[int]) -> set[int]:
    """Those of the letters that are messages of signed sources: they are mapped again, not delivered again."""
    statement = select(dead_letters.c.id).where(dead_letters.c.id.in_(ids), dead_letters.c.source == "source")
    return set(connection.scalars(statement))


def discard(connection: Connection, letter_id: int, *, actor: str) -> None:
    """Close a letter without sending anything; the delivery stays dead.

    Raises `NotReplayable` when there is no such open letter.
    """
    closed = connection.execute(
        update(dead_letters)
        .where(dead_letters.c.id == letter_id, dead_letters.c.resolved_at.is_(None))
        .values(resolved_at=func.now(), resolved_by=actor, resolution="discarded")
    )
    if closed.rowcount == 0:
        raise NotReplayable(f"There is no open dead letter {letter_id}.")


def _letters() -> Any:
    return select(dead_letters, requests.c.ref, requests.c.topic).select_from(
        dead_letters.outerjoin(deliveries, deliveries.c.id == dead_letters.c.delivery_id).outerjoin(requests)
    )
