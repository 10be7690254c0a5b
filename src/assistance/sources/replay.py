"""Maps a kept message again, once its mapping was mended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from uuid import UUID

from sqlalchemy import Connection, Row, func, select, update
from sqlalchemy.dialects.postgresql import insert

from assistance.configuration import SourceSettings
from assistance.domain.errors import AlreadyExpired, NotReplayable, UnknownTopic, Unmappable
from assistance.domain.request import Submission
from assistance.runtime.clock import Deadline
from assistance.sources.mapping import Mapper
from assistance.sources.receive import Submit
from assistance.sources.source import client_of
from assistance.storage.database import Database
from assistance.storage.tables import dead_letters, source_messages

_SECONDS = 30.0


class LetterReplay:
    """Replays the dead letters of sources; needs no secret."""

    def __init__(
        self, database: Database, sources: Mapping[str, SourceSettings], mapper: Mapper, submit: Submit
    ) -> None:
        self._database = database
        self._sources = sources
        self._mapper = mapper
        self._submit = submit

    def replay(self, letter_id: int, *, actor: str, also: Callable[[Connection], None] = lambda _: None) -> None:
        """Make the letter's message a request, once however often and by however many this is asked.

        `also` writes in the same transaction; what it raises rolls everything back.

        Raises `NotReplayable` when it is resolved, cannot be mapped yet, or became a request in another way; and
        `OutboxFull`, `QuotaExceeded`, `DatabaseUnavailable` and `CommitUnknown`.
        """
        with self._database.transaction() as connection:
            letter = connection.execute(select(dead_letters).where(dead_letters.c.id == letter_id)).one()
        source = str(letter.headers.get("source"))
        submission = self._submission(letter, source)

        def resolve(connection: Connection, request_id: UUID) -> None:
            _resolve(connection, letter_id, actor)
            _link(connection, letter, source, request_id)
            also(connection)

        try:
            self._submit(submission, None, Deadline.after(_SECONDS), client=client_of(source), also=resolve)
        except (UnknownTopic, AlreadyExpired) as error:
            raise NotReplayable(f"Dead letter {letter_id} still cannot be a request: {error}") from error

    def _submission(self, letter: Row[tuple[object, ...]], source: str) -> Submission:
        settings = self._sources.get(source)
        if settings is None:
            raise NotReplayable(f"Dead letter {letter.id} is of source {source!r}, which is not configured.")
        try:
            payload = self._mapper.payload(str(letter.headers.get("content-type", "")), letter.body)
            submission = self._mapper.submission(settings, payload)
        except Unmappable as error:
            raise NotReplayable(f"Dead letter {letter.id} still cannot be mapped: {error}") from error
        if submission is None:
            raise NotReplayable(f"Dead letter {letter.id} is of a kind that [sources.{source}] ignores: discard it.")
        return submission


def _resolve(connection: Connection, letter_id: int, actor: str) -> None:
    resolved = connection.execute(
        update(dead_letters)
        .where(dead_letters.c.id == letter_id, dead_letters.c.resolved_at.is_(None))
        .values(resolved_at=func.now(), resolved_by=actor, resolution="replayed")
    )
    if resolved.rowcount == 0:
        raise NotReplayable(f"Dead letter {letter_id} is resolved already.")


def _link(connection: Connection, letter: Row[tuple[object, ...]], source: str, request_id: UUID) -> None:
    """From now on a repeat of the message is answered with this request."""
    upsert = insert(source_messages).values(source=source, message_id=letter.message_id, request_id=request_id)
    linked = connection.execute(
        upsert.on_conflict_do_update(
            index_elements=["source", "message_id"],
            set_={"request_id": upsert.excluded.request_id},
            where=source_messages.c.request_id.is_(None),
        ).returning(source_messages.c.source)
    )
    if linked.first() is None:
        raise NotReplayable(f"The message of dead letter {letter.id} is a request already: discard the letter.")
