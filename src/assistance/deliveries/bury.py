"""Write a dead letter: what will not be tried again by itself, kept with its reason."""

from __future__ import annotations

from hashlib import sha256

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.postgresql import insert

from assistance.domain.hint import Hint
from assistance.storage.plain import plain_text
from assistance.storage.tables import dead_letters


def bury(connection: Connection, hint: Hint, *, source: str, reason: str, error: str) -> None:
    """Open the letter of a delivery's series, in the transaction that makes the delivery dead; one letter at most."""
    connection.execute(
        insert(dead_letters)
        .values(
            delivery_id=hint.delivery_id,
            series=hint.series,
            channel=hint.channel,
            source=source,
            reason=reason,
            error=plain_text(error),
            message_id=str(hint.delivery_id),
        )
        .on_conflict_do_nothing()
    )


#: Sets the locks on bodies of strays apart from other advisory locks.
_STRAYS = 0x57A1


def record_stray(
    connection: Connection,
    *,
    source: str,
    reason: str,
    error: str,
    message_id: str | None,
    body: bytes,
    headers: object,
) -> None:
    """Write down a message that belongs to no delivery, once however often it comes."""
    message_id = plain_text(message_id) if message_id is not None else None
    # The broker may give it to a second process while the first one is writing.
    connection.execute(select(func.pg_advisory_xact_lock(_STRAYS, _number_of(body))))
    known = select(dead_letters.c.id).where(
        dead_letters.c.resolved_at.is_(None),
        dead_letters.c.delivery_id.is_(None),
        dead_letters.c.reason == reason,
        dead_letters.c.message_id.is_not_distinct_from(message_id),
        dead_letters.c.body == body,
    )
    if connection.execute(known).first() is None:
        connection.execute(
            insert(dead_letters).values(
                source=source, reason=reason, error=error, message_id=message_id, body=body, headers=headers
            )
        )


def _number_of(body: bytes) -> int:
    return int.from_bytes(sha256(body).digest()[:4], signed=True)
