"""From an `Authorization` header to the caller behind it.

A key is looked up by its prefix and remembered for a second, so that a busy client costs no query per call and a
revoked key stops within two. What goes wrong has a reason for the operator; the caller learns only that it went wrong.
"""

from __future__ import annotations

import hmac
import re
import threading
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import func, or_, select, update

from assistance.clients.keys import ApiKey, parse_key
from assistance.clients.store import STATE, any_client
from assistance.clients.tokens import LONGEST_TOKEN, looks_like_a_token, unverified_issuer
from assistance.domain.caller import ANONYMOUS, Caller, Scope
from assistance.domain.errors import DatabaseUnavailable, Unauthenticated
from assistance.runtime.clock import Deadline, monotonic
from assistance.storage.database import Database
from assistance.storage.expressions import duration
from assistance.storage.tables import client_keys

if TYPE_CHECKING:
    from assistance.clients.issuers import Issuer

log = structlog.get_logger()

_BEARER = re.compile(r"bearer +([!-~]+)", re.IGNORECASE)
_REMEMBER_SECONDS = 1.0
#: While one thread asks again the others go on with what was known, for so long and not beyond so old.
_STRETCH_SECONDS, _OLDEST_STRETCHED_SECONDS = 0.3, 1.5
_TOUCH_EVERY_SECONDS = 60.0
_TOUCH_DEADLINE_SECONDS = 2.0

_FIND = select(
    client_keys.c.client,
    client_keys.c.digest,
    client_keys.c.scopes,
    STATE,
    or_(
        client_keys.c.last_used_at.is_(None),
        client_keys.c.last_used_at < func.now() - duration(_TOUCH_EVERY_SECONDS),
    ).label("wants_touch"),
)


class Authenticator:
    """Knows callers by API key or by token. Thread-safe; one per process.

    `anonymous_allowed` lets callers in without a credential while there is neither a client nor an issuer: it is for a
    process that nobody but this machine can reach.
    """

    def __init__(self, database: Database, issuers: Collection[Issuer] = (), *, anonymous_allowed: bool) -> None:
        self._database = database
        self._issuers = {issuer.issuer: issuer for issuer in issuers}
        self._anonymous_allowed = anonymous_allowed and not issuers
        self._no_client: _Fresh | None = None
        self._known: dict[str, _Known] = {}
        self._touches = _Touches(database)

    def __call__(self, authorization: str | None, deadline: Deadline) -> Caller:
        """The caller. Raises `Unauthenticated`, `DatabaseUnavailable` and `IssuerUnavailable`."""
        if self._anonymous_allowed and self._there_is_no_client(deadline):
            return ANONYMOUS
        if not authorization or not authorization.strip():
            raise Unauthenticated("missing")
        match = _BEARER.fullmatch(authorization.strip(" \t"))
        if match is None or len(match[1]) > LONGEST_TOKEN:
            raise Unauthenticated("malformed")
        key = parse_key(match[1])
        if key is not None:
            return self._caller_with(key, deadline)
        if looks_like_a_token(match[1]):
            return self._caller_of_token(match[1], deadline)
        raise Unauthenticated("malformed")

    def _there_is_no_client(self, deadline: Deadline) -> bool:
        if self._no_client and self._no_client.counts():
            return True
        fresh = _Fresh()
        with self._database.transaction(deadline) as connection:
            if any_client(connection):
                # Clients are never deleted: whatever happens to the database, this door does not open again.
                self._anonymous_allowed = False
                return False
        self._no_client = fresh
        return True

    def _caller_with(self, key: ApiKey, deadline: Deadline) -> Caller:
        known = self._known.get(key.prefix)
        if known is None or not known.fresh.counts():
            known = self._look_up(key.prefix, deadline)
        if known is None or not hmac.compare_digest(known.digest, key.digest):
            raise Unauthenticated("unknown")
        if known.state != "live":
            raise Unauthenticated(known.state, known.caller.client)
        if known.wants_touch:
            known.wants_touch = False
            self._touches.add(key.prefix)
        return known.caller

    def _look_up(self, prefix: str, deadline: Deadline) -> _Known | None:
        fresh = _Fresh()
        with self._database.transaction(deadline) as connection:
            row = connection.execute(_FIND.where(client_keys.c.prefix == prefix)).one_or_none()
        if row is None:
            self._known.pop(prefix, None)
            return None
        caller = Caller(client=row.client, scopes=frozenset(Scope(scope) for scope in row.scopes))
        known = _Known(caller, row.digest, row.state, fresh, row.wants_touch)
        self._known[prefix] = known
        return known

    def _caller_of_token(self, token: str, deadline: Deadline) -> Caller:
        issuer = self._issuers.get(unverified_issuer(token) or "")
        if issuer is None:
            raise Unauthenticated("untrusted")
        return issuer.caller(token, deadline)


class _Fresh:
    """How long an answer of the database counts, from just before it was asked."""

    def __init__(self) -> None:
        self._asked_at = monotonic()
        self._until = self._asked_at + _REMEMBER_SECONDS

    def counts(self) -> bool:
        """Whether the answer still counts; a thread that is told it does not is expected to ask again."""
        now = monotonic()
        if now < self._until:
            return True
        if now < self._asked_at + _OLDEST_STRETCHED_SECONDS:
            self._until = now + _STRETCH_SECONDS
        return False


@dataclass(slots=True)
class _Known:
    """What the database said about a key."""

    caller: Caller
    digest: bytes
    state: str
    fresh: _Fresh
    wants_touch: bool  # its last use is not written down, or long ago


class _Touches:
    """Writes down that keys are in use, on a thread of its own: no caller waits for it, and none is refused for it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: set[str] = set()
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="last-use")

    def add(self, prefix: str) -> None:
        with self._lock:
            if prefix in self._waiting:
                return
            self._waiting.add(prefix)
        self._thread.submit(self._write, prefix)

    def _write(self, prefix: str) -> None:
        try:
            with self._database.transaction(Deadline.after(_TOUCH_DEADLINE_SECONDS)) as connection:
                connection.execute(
                    update(client_keys).where(client_keys.c.prefix == prefix).values(last_used_at=func.now())
                )
        except DatabaseUnavailable as error:
            log.warning("clients.last_use_unknown", key=prefix, reason=str(error))
        finally:
            with self._lock:
                self._waiting.discard(prefix)
