"""Idempotency keys: a repeated call is answered as the first one was, because the key is stored with the request."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Connection, select
from sqlalchemy.dialects.postgresql import insert

from assistance.domain.answers import Accepted, IdempotencyKey
from assistance.domain.errors import IdempotencyKeyReused
from assistance.storage.tables import idempotency_keys, requests


def first_answer(connection: Connection, client: str, key: IdempotencyKey) -> Accepted | None:
    """The answer that the first call with this key got, or none when there was none.

    Raises `IdempotencyKeyReused` when that call was another one.
    """
    row = connection.execute(
        select(idempotency_keys.c.fingerprint, requests.c.id, requests.c.ref, requests.c.topic, requests.c.created_at)
        .join_from(idempotency_keys, requests)
        .where(idempotency_keys.c.client == client, idempotency_keys.c.key == key.value)
    ).one_or_none()
    if row is None:
        return None
    if row.fingerprint != key.fingerprint:
        raise IdempotencyKeyReused
    return Accepted(id=row.id, ref=row.ref, topic=row.topic, created_at=row.created_at, replayed=True)


def remember(connection: Connection, client: str, key: IdempotencyKey, request_id: UUID) -> bool:
    """Store the key with its request; false when another call came first.

    Waits for a call with the same key that is just being committed.
    """
    stored = connection.execute(
        insert(idempotency_keys)
        .values(client=client, key=key.value, fingerprint=key.fingerprint, request_id=request_id)
        .on_conflict_do_nothing()
        .returning(idempotency_keys.c.key)
    )
    return stored.first() is not None
