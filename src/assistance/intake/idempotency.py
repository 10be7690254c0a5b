"""Idempotency keys: a repeated call is answered as the first one was, because the key is stored with what it made."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Connection, case, select
from sqlalchemy.dialects.postgresql import insert

from assistance.domain.answers import Accepted, IdempotencyKey
from assistance.domain.errors import IdempotencyKeyReused
from assistance.domain.event import FIRST_EVENT
from assistance.domain.request import RequestStatus
from assistance.storage.tables import idempotency_keys, requests

#: A request began as `scheduled` when its time lay ahead; of one that is joined, the first answer told the status then.
_FIRST_STATUS = case(
    (idempotency_keys.c.event_version != FIRST_EVENT, requests.c.status),
    (requests.c.not_before > requests.c.created_at, RequestStatus.SCHEDULED),
    else_=RequestStatus.ACCEPTED,
)


class KeyTaken(Exception):
    """Another call with the same key was committed while ours was under way: ours is rolled back."""


def first_answer(connection: Connection, client: str, key: IdempotencyKey) -> Accepted | None:
    """The answer that the first call with this key got, or none when there was none.

    Raises `IdempotencyKeyReused` when that call was another one.
    """
    row = connection.execute(
        select(
            idempotency_keys.c.fingerprint,
            idempotency_keys.c.event_version,
            requests.c.id,
            requests.c.ref,
            requests.c.topic,
            requests.c.created_at,
            _FIRST_STATUS.label("status"),
        )
        .join_from(idempotency_keys, requests)
        .where(idempotency_keys.c.client == client, idempotency_keys.c.key == key.value)
    ).one_or_none()
    if row is None:
        return None
    if row.fingerprint != key.fingerprint:
        raise IdempotencyKeyReused
    return Accepted(
        id=row.id,
        ref=row.ref,
        topic=row.topic,
        created_at=row.created_at,
        status=row.status,
        event_version=row.event_version,
        replayed=True,
    )


def remember(
    connection: Connection, client: str, key: IdempotencyKey, request_id: UUID, event_version: int = FIRST_EVENT
) -> None:
    """Store the key with what the call made.

    Waits for a call with the same key that is just being committed; raises `KeyTaken` when it came first.
    """
    stored = connection.execute(
        insert(idempotency_keys)
        .values(
            client=client,
            key=key.value,
            fingerprint=key.fingerprint,
            request_id=request_id,
            event_version=event_version,
        )
        .on_conflict_do_nothing()
        .returning(idempotency_keys.c.key)
    )
    if stored.first() is None:
        raise KeyTaken
