"""Takes one call in, in a transaction of its own: repeated, joined to an open request, or stored as a new one."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from psycopg.errors import UniqueViolation
from sqlalchemy import Connection, exc, func, select
from sqlalchemy.dialects.postgresql import insert

from assistance.deliveries.fallback import set_timer
from assistance.deliveries.follow_ups import add_follow_up
from assistance.deliveries.schedule import Timer, set_due
from assistance.deliveries.start import start_deliveries
from assistance.domain.answers import Accepted
from assistance.domain.errors import AlreadyExpired, QuotaExceeded
from assistance.domain.request import Author, RequestStatus, Submission
from assistance.intake.call import Call
from assistance.intake.idempotency import KeyTaken, first_answer, remember
from assistance.runtime import ids
from assistance.runtime.clock import Deadline
from assistance.runtime.faults import fault_point
from assistance.storage.database import Database
from assistance.storage.tables import requests

#: What the caller wants to write in the transaction of its request; what it raises rolls everything back.
Also = Callable[[Connection, UUID], None]

_TRIES = 5
_QUOTA_RETRY_SECONDS = 5.0
#: Two random refs were the same, or two calls with one `dedup_key` came at the same moment: the next try succeeds.
_TRY_AGAIN = ("requests_ref_uq", "requests_dedup_ix")


def take_in(
    database: Database, call: Call, deadline: Deadline, *, check_after: float, has_room: bool, also: Also | None
) -> Accepted:
    """Store a call; returns after the commit. `has_room` says whether its client may open another request.

    Raises `QuotaExceeded`, `AlreadyExpired`, `IdempotencyKeyReused`, `DatabaseUnavailable` and `CommitUnknown`.
    """

    def work(connection: Connection) -> Accepted:
        known = first_answer(connection, call.client, call.key) if call.key else None
        if known is not None:
            return known
        accepted = _join(connection, call, check_after)
        if accepted is None and not has_room:
            raise QuotaExceeded(_QUOTA_RETRY_SECONDS)
        accepted = accepted or _insert(connection, call, check_after)
        if also is not None:
            also(connection, accepted.id)
        if call.key:
            remember(connection, call.client, call.key, accepted.id, accepted.event_version)
        fault_point("api.before_commit")
        return accepted

    for _ in range(_TRIES):
        try:
            return database.run(work, deadline)
        except KeyTaken:
            continue  # its call is committed, and its answer is there now
        except exc.IntegrityError as error:
            if not _is_chance(error):
                raise
    raise AssertionError(f"{_TRIES} tries in a row met a call or a ref that was there before")


def _join(connection: Connection, call: Call, check_after: float) -> Accepted | None:
    if call.submission.dedup_key is None:
        return None
    this = (requests.c.client == call.client, requests.c.open_dedup_key == call.submission.dedup_key)
    columns = (requests.c.id, requests.c.ref, requests.c.topic, requests.c.created_at, requests.c.status)
    row = connection.execute(select(*columns).where(*this).with_for_update(key_share=True)).one_or_none()
    if row is None:
        return None
    text = call.submission.description
    version = add_follow_up(connection, row.id, text, Author.BOT, actor="bot", check_after=check_after)
    return Accepted(
        id=row.id,
        ref=row.ref,
        topic=row.topic,
        created_at=row.created_at,
        status=row.status,
        event_version=version,
    )


def _insert(connection: Connection, call: Call, check_after: float) -> Accepted:
    request_id, ref, said, route = ids.uuid7(), ids.new_ref(), call.submission, call.plan.route
    begins_later = _lies_ahead(connection, said)
    status = RequestStatus.SCHEDULED if begins_later else RequestStatus.ACCEPTED
    created_at = connection.execute(
        insert(requests)
        .values(id=request_id, ref=ref, status=status, **call.columns(begins_later=begins_later))
        .returning(requests.c.created_at)
    ).scalar_one()
    fault_point("api.after_request_insert")
    if begins_later and said.not_before is not None:
        set_due(connection, request_id, Timer.BEGIN, said.not_before)
    else:
        start_deliveries(connection, request_id, route.to, step=0, check_after=check_after)
        set_timer(connection, request_id, route.steps)
    if said.expires_at is not None:
        if said.expires_at <= created_at:
            raise AlreadyExpired
        set_due(connection, request_id, Timer.EXPIRE, said.expires_at)
    return Accepted(id=request_id, ref=ref, topic=call.plan.topic, created_at=created_at, status=status)


def _lies_ahead(connection: Connection, submission: Submission) -> bool:
    """Whether the request begins later, on the clock that will begin it."""
    if submission.not_before is None:
        return False
    return bool(connection.scalar(select(func.now() < submission.not_before)))


def _is_chance(error: exc.IntegrityError) -> bool:
    original = error.orig
    return isinstance(original, UniqueViolation) and original.diag.constraint_name in _TRY_AGAIN
