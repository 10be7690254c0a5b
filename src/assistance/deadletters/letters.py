"""Shows a dead letter."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, select

from assistance.storage.tables import dead_letters, deliveries, requests


def show_letter(connection: Connection, letter_id: int) -> Row[Any] | None:
    """One letter, open or resolved."""
    about = dead_letters.outerjoin(deliveries, deliveries.c.id == dead_letters.c.delivery_id).outerjoin(requests)
    statement = select(dead_letters, requests.c.ref, requests.c.topic).select_from(about)
    return connection.execute(statement.where(dead_letters.c.id == letter_id)).one_or_none()
