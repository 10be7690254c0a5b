"""Where clients want to be called back: the rows of `webhooks`, and the secrets that callbacks are signed with.

A row without a URL holds the secret for the `callback_url` of single requests. A webhook that is disabled or deleted
takes its unfinished callbacks with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, Select, case, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from assistance.channels.webhook import new_secret
from assistance.domain.errors import TooManyWebhooks, WebhookExists
from assistance.runtime import ids
from assistance.storage.expressions import from_now
from assistance.storage.plain import plain_text
from assistance.storage.tables import webhooks

#: How long the secret before signs as well.
OLD_SECRET_SECONDS = 24 * 3600.0
#: Each event of each request may be called back so often.
MOST_WEBHOOKS = 10
_OF_SINGLE_REQUESTS = ""
#: One registration of a client after the other; the first half of an advisory lock.
_REGISTERING = 726_092_642

_still_signs = webhooks.c.previous_until > func.now()
_SHOWN = (
    webhooks.c.id,
    webhooks.c.url,
    webhooks.c.events,
    webhooks.c.created_at,
    case((_still_signs, webhooks.c.previous_until)).label("previous_until"),
    webhooks.c.disabled_at,
    webhooks.c.disabled_reason,
)


def register(connection: Connection, client: str, url: str, events: Sequence[str] | None) -> Row[Any]:
    """A new webhook with its `secret`.

    Raises `WebhookExists` when the client has one with this URL, and `TooManyWebhooks`.
    """
    # Several at once would all find room for one.
    connection.execute(select(func.pg_advisory_xact_lock(_REGISTERING, func.hashtext(client))))
    if len(webhooks_of(connection, client)) >= MOST_WEBHOOKS:
        raise TooManyWebhooks(f"A client has {MOST_WEBHOOKS} webhooks at most.")
    made = connection.execute(
        insert(webhooks)
        .values(id=ids.uuid7(), client=client, url=url, secret=new_secret(), events=events)
        .on_conflict_do_nothing()
        .returning(*_SHOWN, webhooks.c.secret)
    ).one_or_none()
    if made is None:
        raise WebhookExists
    return made


def webhooks_of(connection: Connection, client: str) -> Sequence[Any]:
    """The webhooks of a client without their secrets, the oldest first."""
    mine = select(*_SHOWN).where(webhooks.c.client == client, webhooks.c.url != _OF_SINGLE_REQUESTS)
    return connection.execute(mine.order_by(webhooks.c.id)).all()


def one_webhook(connection: Connection, client: str, webhook_id: UUID) -> Row[Any] | None:
    """The `url` of a client's webhook and the secrets that it signs with."""
    return connection.execute(
        _signing(webhooks.c.url).where(webhooks.c.client == client, webhooks.c.id == webhook_id)
    ).one_or_none()


def remove(connection: Connection, client: str, webhook_id: UUID) -> bool:
    """Delete a webhook of the client; false when there is none."""
    removed = connection.execute(
        delete(webhooks)
        .where(webhooks.c.client == client, webhooks.c.id == webhook_id, webhooks.c.url != _OF_SINGLE_REQUESTS)
        .returning(webhooks.c.id)
    )
    return removed.first() is not None


def rotate(connection: Connection, client: str, webhook_id: UUID) -> Row[Any] | None:
    """Give a webhook of the client a new `secret`; the old one signs as well for a day. None when there is none."""
    mine = (webhooks.c.client == client) & (webhooks.c.id == webhook_id) & (webhooks.c.url != _OF_SINGLE_REQUESTS)
    changed = update(webhooks).where(mine).values(_new_secret())
    return connection.execute(changed.returning(*_SHOWN, webhooks.c.secret)).one_or_none()


def new_callback_secret(connection: Connection, client: str) -> Row[Any]:
    """A new `secret` for the client's callback URLs; one that there was signs as well for a day."""
    new = insert(webhooks).values(id=ids.uuid7(), client=client, url=_OF_SINGLE_REQUESTS, secret=new_secret())
    return connection.execute(
        new.on_conflict_do_update(
            index_elements=["client", "url"],
            set_=_new_secret(secret=new.excluded.secret),
        ).returning(*_SHOWN, webhooks.c.secret)
    ).one()


def secrets_of_webhook(connection: Connection, webhook_id: UUID) -> tuple[str, ...]:
    """What its callbacks are signed with, the current secret first; nothing when it is disabled or gone."""
    found = _signing().where(webhooks.c.id == webhook_id, webhooks.c.disabled_at.is_(None))
    row = connection.execute(found).one_or_none()
    return () if row is None else signing_secrets(row)


def secrets_for_single_requests(connection: Connection, client: str) -> tuple[str, ...]:
    """What callbacks to the `callback_url` of a client's requests are signed with; made if there was none."""
    found = _signing().where(webhooks.c.client == client, webhooks.c.url == _OF_SINGLE_REQUESTS)
    row = connection.execute(found).one_or_none()
    return (new_callback_secret(connection, client).secret,) if row is None else signing_secrets(row)


def signing_secrets(row: Row[Any]) -> tuple[str, ...]:
    """The secrets in a row, the current one first."""
    return tuple(secret for secret in (row.secret, row.previous_secret) if secret is not None)


def disable(connection: Connection, webhook_id: UUID, reason: str) -> None:
    """Send nothing more to a webhook until its client registers it anew."""
    connection.execute(
        update(webhooks)
        .where(webhooks.c.id == webhook_id, webhooks.c.disabled_at.is_(None))
        .values(disabled_at=func.now(), disabled_reason=plain_text(reason))
    )


def _signing(*columns: Any) -> Select[Any]:
    return select(
        *columns, webhooks.c.secret, case((_still_signs, webhooks.c.previous_secret)).label("previous_secret")
    )


def _new_secret(secret: Any = None) -> dict[str, Any]:
    return {
        "previous_secret": webhooks.c.secret,
        "previous_until": from_now(OLD_SECRET_SECONDS),
        "secret": new_secret() if secret is None else secret,
    }
