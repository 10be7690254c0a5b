"""Who is signed in: sessions in the database, of which only the cookie's holder knows the secret.

A session ends twelve hours after it began, after an hour in which nothing was asked, and with the key that opened it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass, field

from sqlalchemy import Connection, delete, func, insert, or_

from assistance.domain.operator import Role
from assistance.runtime.clock import Deadline
from assistance.runtime.ids import secret_bytes
from assistance.status.signs import SIGNS, Signs
from assistance.storage.database import Database
from assistance.storage.expressions import duration, from_now
from assistance.storage.tables import console_links, console_sessions

LONGEST_SECONDS = 12 * 3600
IDLE_SECONDS = 3600
LINK_SECONDS = 3600
_SECRET_BYTES = 32

#: One statement for each call: the session, that it was seen (once a minute), and how the installation is. What the
#: page's header says about that would otherwise cost an exchange with the database of its own.
_FIND = f"""
WITH found AS (
    SELECT s.digest, s.operator, s.role, s.seen_at FROM console_sessions s
    LEFT JOIN client_keys k ON k.prefix = s.key_prefix
    WHERE s.digest = %(digest)s AND s.expires_at > now() AND s.seen_at > now() - make_interval(secs => %(idle)s)
      AND (s.key_prefix IS NULL
           OR (k.prefix IS NOT NULL AND k.revoked_at IS NULL AND coalesce(k.expires_at > now(), true)))
), seen AS (
    UPDATE console_sessions s SET seen_at = now() FROM found
    WHERE s.digest = found.digest AND found.seen_at < now() - interval '1 minute'
)
SELECT operator, role, ({SIGNS}) FROM found
"""  # noqa: S608 (our own statement)


@dataclass(frozen=True, slots=True)
class Secret:
    """What a cookie or a link holds; the database gets its digest only."""

    value: bytes = field(repr=False)

    @property
    def text(self) -> str:
        """The secret as it travels."""
        return base64.urlsafe_b64encode(self.value).rstrip(b"=").decode()

    @property
    def digest(self) -> bytes:
        """What is kept of it."""
        return hashlib.sha256(self.value).digest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """A live session, and how the installation was when it was looked up."""

    operator: str
    role: Role
    signs: Signs


def new_secret() -> Secret:
    """A secret that nobody has seen yet."""
    return Secret(secret_bytes(_SECRET_BYTES))


def read_secret_text(text: str | None) -> Secret | None:
    """The secret that a text is, or none when it cannot be one."""
    if not text or len(text) != (_SECRET_BYTES * 4 + 2) // 3 or not text.isascii():
        return None
    try:
        value = base64.b64decode(text + "=", altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    return Secret(value) if len(value) == _SECRET_BYTES else None


def find_session(database: Database, secret: Secret, deadline: Deadline) -> Session | None:
    """The live session with this secret. Raises `DatabaseUnavailable`."""
    rows = database.run_at_once(_FIND, {"digest": secret.digest, "idle": IDLE_SECONDS}, deadline)
    if not rows:
        return None
    operator, role, signs = rows[0]
    return Session(operator=operator, role=Role(role), signs=Signs.read(signs))


def open_session(connection: Connection, operator: str, role: Role, *, key_prefix: str | None) -> Secret:
    """Make a session; sessions and links that are over are swept out with the same hand."""
    over = console_sessions.c.expires_at < func.now()
    idle = console_sessions.c.seen_at < func.now() - duration(IDLE_SECONDS)
    connection.execute(delete(console_sessions).where(or_(over, idle)))
    connection.execute(delete(console_links).where(console_links.c.expires_at < func.now()))
    secret = new_secret()
    connection.execute(
        insert(console_sessions).values(
            digest=secret.digest,
            operator=operator,
            role=role,
            key_prefix=key_prefix,
            expires_at=from_now(LONGEST_SECONDS),
        )
    )
    return secret


def end_session(connection: Connection, secret: Secret) -> None:
    """End a session, if there is one."""
    connection.execute(delete(console_sessions).where(console_sessions.c.digest == secret.digest))


def new_link(connection: Connection, url: str, operator: str, role: Role) -> str:
    """Make a link that opens the console of the installation at `url` once, within an hour."""
    secret = new_secret()
    connection.execute(
        insert(console_links).values(
            digest=secret.digest, operator=operator, role=role, expires_at=from_now(LINK_SECONDS)
        )
    )
    return f"{url.rstrip('/')}/console/link/{secret.text}"


def use_link(connection: Connection, secret: Secret) -> tuple[str, Role] | None:
    """Use a link up: whose it was, and their role; none when it is not one, was used, or is over."""
    used = connection.execute(
        delete(console_links)
        .where(console_links.c.digest == secret.digest)
        .returning(
            console_links.c.operator, console_links.c.role, (console_links.c.expires_at > func.now()).label("ok")
        )
    ).one_or_none()
    return (used.operator, Role(used.role)) if used is not None and used.ok else None
