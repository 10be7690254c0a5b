"""Takes authentic messages in: a request, or a dead letter, or nothing, and the same answer to every repeat."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID

import structlog
from sqlalchemy import Connection, select
from sqlalchemy.dialects.postgresql import insert

from assistance.deliveries.bury import record_stray
from assistance.domain.answers import Accepted, IdempotencyKey
from assistance.domain.errors import AlreadyExpired, UnknownTopic, Unmappable
from assistance.domain.request import Submission
from assistance.domain.source import Scheme
from assistance.runtime import metrics
from assistance.runtime.clock import Deadline
from assistance.sources.mapping import Mapper
from assistance.sources.source import Source
from assistance.sources.verify import Headers
from assistance.storage.database import Database
from assistance.storage.plain import plain_json
from assistance.storage.tables import requests, source_messages

log = structlog.get_logger()

#: Of the headers these are kept with a dead letter: no signature, and nothing else that might be a secret.
_KEPT_HEADERS = ("content-type", "user-agent")
_LONGEST_HEADER = 200
_SLACK_CHALLENGE = re.compile(r"[A-Za-z0-9._~+/=-]{1,200}")


class Status(StrEnum):
    """What became of a message."""

    ACCEPTED = "accepted"  # it is a request now
    UNMAPPABLE = "unmappable"  # it is a dead letter now
    IGNORED = "ignored"  # the source wants no such message
    CHALLENGED = "challenged"  # the sender asks whether the door is open


@dataclass(frozen=True, kw_only=True, slots=True)
class Reception:
    """The answer to a message; a repeat gets the same."""

    status: Status
    request_id: UUID | None = None
    ref: str | None = None
    challenge: str | None = None


class Submit(Protocol):
    """Store a submission; `also` runs in the same transaction, and what it raises undoes everything."""

    def __call__(
        self,
        submission: Submission,
        idempotency: IdempotencyKey | None,
        deadline: Deadline,
        *,
        client: str,
        also: Callable[[Connection, UUID], None] | None = None,
    ) -> Accepted:
        """Raises what the intake raises."""


class _Repeated(Exception):
    """The same message was committed while ours was under way."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Message:
    source: Source
    id: str
    body: bytes
    headers: Headers


class Sources:
    """The signed doors of an installation. Thread-safe."""

    def __init__(self, database: Database, sources: Mapping[str, Source], mapper: Mapper, submit: Submit) -> None:
        self._database = database
        self._sources = sources
        self._mapper = mapper
        self._submit = submit

    def find(self, name: str) -> Source | None:
        """The source with this name."""
        return self._sources.get(name)

    def receive(self, source: Source, headers: Headers, body: bytes, deadline: Deadline) -> Reception:
        """Take an authentic message in; returns after the commit.

        Raises `OutboxFull`, `QuotaExceeded`, `DatabaseUnavailable` and `CommitUnknown`: the sender repeats it then.
        """
        message = _Message(source=source, id=source.message_id(headers, body), body=body, headers=headers)
        try:
            reception = self._answer(message, deadline)
        except (Unmappable, UnknownTopic, AlreadyExpired) as error:
            reception = self._keep(message, str(error), deadline)
        metrics.source_messages.labels(source.name, reception.status.value).inc()
        log.info("sources.received", source=source.name, status=reception.status.value, id=reception.request_id)
        return reception

    def _answer(self, message: _Message, deadline: Deadline) -> Reception:
        settings = message.source.settings
        payload = self._mapper.payload(message.headers.get("content-type", ""), message.body)
        if settings.scheme is Scheme.SLACK and payload.get("type") == "url_verification":
            return _challenged(payload)
        submission = self._mapper.submission(settings, payload)
        if submission is None:
            return Reception(status=Status.IGNORED)
        while True:
            if known := self._known(message, deadline):
                return known
            try:
                return self._store(message, submission, deadline)
            except _Repeated:
                continue  # it is known now

    def _store(self, message: _Message, submission: Submission, deadline: Deadline) -> Reception:
        def remember(connection: Connection, request_id: UUID) -> None:
            if not _remember(connection, message, request_id):
                raise _Repeated

        accepted = self._submit(submission, None, deadline, client=message.source.client, also=remember)
        return Reception(status=Status.ACCEPTED, request_id=accepted.id, ref=accepted.ref)

    def _keep(self, message: _Message, error: str, deadline: Deadline) -> Reception:
        """Keep what cannot be mapped until an operator has mended the mapping."""

        def work(connection: Connection) -> bool:
            if not _remember(connection, message, None):
                return False
            record_stray(
                connection,
                source="source",
                reason="unmappable",
                error=f"[sources.{message.source.name}] {error}",
                message_id=message.id,
                body=message.body,
                headers=plain_json(_kept_headers(message)),
            )
            return True

        if not self._database.run(work, deadline) and (known := self._known(message, deadline)):
            return known
        return Reception(status=Status.UNMAPPABLE)

    def _known(self, message: _Message, deadline: Deadline) -> Reception | None:
        """What became of this message when it came before."""
        seen = source_messages.c
        statement = (
            select(seen.request_id, requests.c.ref)
            .select_from(source_messages.outerjoin(requests))
            .where(seen.source == message.source.name, seen.message_id == message.id)
        )
        with self._database.transaction(deadline) as connection:
            row = connection.execute(statement).one_or_none()
        if row is None:
            return None
        status = Status.ACCEPTED if row.request_id else Status.UNMAPPABLE
        return Reception(status=status, request_id=row.request_id, ref=row.ref)


def _remember(connection: Connection, message: _Message, request_id: UUID | None) -> bool:
    """Write the message down; false when it was there. Waits for the same message that is just being committed."""
    stored = connection.execute(
        insert(source_messages)
        .values(source=message.source.name, message_id=message.id, request_id=request_id)
        .on_conflict_do_nothing()
        .returning(source_messages.c.source)
    )
    return stored.first() is not None


def _kept_headers(message: _Message) -> dict[str, str]:
    kept = {name: message.headers[name][:_LONGEST_HEADER] for name in _KEPT_HEADERS if name in message.headers}
    return {"source": message.source.name, **kept}


def _challenged(payload: Mapping[str, Any]) -> Reception:
    challenge = payload.get("challenge")
    if not isinstance(challenge, str) or not _SLACK_CHALLENGE.fullmatch(challenge):
        raise Unmappable("The url_verification has no challenge that could be repeated.")
    return Reception(status=Status.CHALLENGED, challenge=challenge)
