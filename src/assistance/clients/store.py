"""Clients and their keys in the database.

Keys end by themselves (`expires_at`) or are revoked; neither is ever undone, and no row is deleted, so that the list
tells what there was. Each function is one change inside the transaction that it is given.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, case, exists, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from assistance.clients.keys import ApiKey, new_key
from assistance.domain.caller import Scope
from assistance.domain.errors import ClientError
from assistance.storage.expressions import from_now, seconds
from assistance.storage.tables import client_keys, clients

DEFAULT_SCOPES = (Scope.SUBMIT, Scope.READ)

#: `live`, `expired` or `revoked`, on the database's clock.
STATE = case(
    (client_keys.c.revoked_at.is_not(None), "revoked"),
    (client_keys.c.expires_at <= func.now(), "expired"),
    else_="live",
).label("state")
_IS_LIVE = client_keys.c.revoked_at.is_(None) & func.coalesce(client_keys.c.expires_at > func.now(), True)


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedKey:
    """A key as it is listed: everything but the secret."""

    prefix: str
    client: str
    scopes: Collection[str]
    state: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


def any_client(connection: Connection) -> bool:
    """Whether there is a client, be it one without a key: from then on every caller has to be one."""
    return bool(connection.scalar(select(exists().select_from(clients))))


def create(
    connection: Connection,
    name: str,
    *,
    scopes: Collection[Scope] = DEFAULT_SCOPES,
    expires_seconds: float | None = None,
) -> ApiKey:
    """Make a client and its first key. Raises `ClientError` when it exists."""
    if not ensure(connection, name):
        raise ClientError(f"There is a client {name} already: `assistance clients rotate {name}` makes a new key.")
    return _add_key(connection, name, scopes, expires_seconds)


def ensure(connection: Connection, name: str) -> bool:
    """Make a client without a key, unless it exists; whether it was made."""
    made = upsert(clients).values(name=name).on_conflict_do_nothing().returning(clients.c.name)
    return connection.execute(made).one_or_none() is not None


def rotate(connection: Connection, name: str, *, grace_seconds: float, expires_seconds: float | None = None) -> ApiKey:
    """Make a new key for a client; its others end after the grace, unless they do so before.

    The new one has the scopes of the newest before it and, unless `expires_seconds` says otherwise, lives as long as
    that one was meant to. Raises `ClientError` when there is no such client.
    """
    _lock(connection, name)
    newest = connection.execute(
        select(client_keys.c.scopes, seconds(client_keys.c.expires_at - client_keys.c.created_at).label("lifetime"))
        .where(client_keys.c.client == name)
        .order_by(client_keys.c.created_at.desc(), client_keys.c.prefix)
        .limit(1)
    ).one_or_none()
    connection.execute(
        update(client_keys)
        .where(client_keys.c.client == name, _IS_LIVE)
        .values(expires_at=func.least(client_keys.c.expires_at, from_now(grace_seconds)))
    )
    if newest is None:
        return _add_key(connection, name, DEFAULT_SCOPES, expires_seconds)
    lifetime = newest.lifetime if expires_seconds is None else expires_seconds
    return _add_key(connection, name, [Scope(scope) for scope in newest.scopes], lifetime)


def revoke(connection: Connection, name_or_prefix: str) -> int:
    """End one key, or all keys of a client, at once; how many of them. Raises `ClientError` when there is neither."""
    named = (client_keys.c.prefix == name_or_prefix) | (client_keys.c.client == name_or_prefix)
    known = select(
        exists().where(client_keys.c.prefix == name_or_prefix) | exists().where(clients.c.name == name_or_prefix)
    )
    if not connection.scalar(known):
        raise ClientError(f"No client and no key is called {name_or_prefix}.")
    ended = update(client_keys).where(named, client_keys.c.revoked_at.is_(None)).values(revoked_at=func.now())
    return len(connection.execute(ended.returning(client_keys.c.prefix)).all())


def list_keys(connection: Connection) -> list[ListedKey]:
    """Every key, by client and age."""
    columns = [client_keys.c[name] for name in ListedKey.__slots__ if name != "state"]
    found = select(*columns, STATE).order_by(client_keys.c.client, client_keys.c.created_at, client_keys.c.prefix)
    return [ListedKey(**row) for row in connection.execute(found).mappings()]


def list_clients(connection: Connection) -> list[str]:
    """Every client by name, those without a key included."""
    return list(connection.scalars(select(clients.c.name).order_by(clients.c.name)))


def _lock(connection: Connection, name: str) -> None:
    """Let two rotations of one client happen one after the other."""
    if connection.execute(select(clients.c.name).where(clients.c.name == name).with_for_update()).one_or_none() is None:
        raise ClientError(f"No client is called {name}.")


def _add_key(connection: Connection, client: str, scopes: Collection[Scope], expires_seconds: float | None) -> ApiKey:
    key = new_key()
    connection.execute(
        insert(client_keys).values(
            prefix=key.prefix,
            client=client,
            digest=key.digest,
            scopes=sorted(scope.value for scope in scopes),
            expires_at=None if expires_seconds is None else from_now(expires_seconds),
        )
    )
    return key
