"""Finds requests for the bots that ask for them, with one question to the database for all who ask at the same time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, bindparam, func, select
from sqlalchemy.dialects.postgresql import psycopg

from assistance.domain.delivery import Purpose
from assistance.domain.errors import CommitUnknown, DatabaseUnavailable
from assistance.runtime.clock import Deadline
from assistance.runtime.group_commit import GroupCommit
from assistance.storage.database import Database
from assistance.storage.tables import deliveries, requests

#: Callbacks are for the bot that asks; how they fare is the operator's affair.
TOLD_TO_PEOPLE = (deliveries.c.request_id == requests.c.id) & (deliveries.c.purpose != Purpose.CALLBACK)

#: What the API shows of a request itself.
SHOWN_COLUMNS = (
    requests.c.id,
    requests.c.ref,
    requests.c.topic,
    requests.c.title,
    requests.c.priority,
    requests.c.customer_id,
    requests.c.dedup_key,
    requests.c.metadata,
    requests.c.not_before,
    requests.c.expires_at,
    requests.c.status,
    requests.c.handling,
    requests.c.state_version,
    requests.c.created_at,
    requests.c.updated_at,
    requests.c.ended_at,
)
_FIND = (
    select(
        requests.c.client,
        *SHOWN_COLUMNS,
        deliveries.c.purpose,
        deliveries.c.event_version,
        deliveries.c.channel,
        deliveries.c.step,
        deliveries.c.state,
        deliveries.c.attempt,
        deliveries.c.next_attempt_at,
        deliveries.c.check_at,
        deliveries.c.held_at,
        deliveries.c.receipt,
        deliveries.c.last_error_class,
        deliveries.c.last_error_code,
        deliveries.c.last_error_detail,
    )
    # A request that is scheduled has no deliveries yet.
    .outerjoin_from(requests, deliveries, TOLD_TO_PEOPLE)
    .where(requests.c.id == func.any(bindparam("ids", type_=ARRAY(Uuid))))
    .order_by(deliveries.c.id)
)
_COLUMNS = tuple(column.name for column in _FIND.selected_columns)
_FIND_AT_ONCE = _FIND.compile(dialect=psycopg.dialect())  # type: ignore[no-untyped-call]
_MOST_AT_ONCE, _LANES = 200, 2


class Finder:
    """Finds requests for callers who ask at the same time, together. Thread-safe; one per process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._together = GroupCommit(self._find, most=_MOST_AT_ONCE, lanes=_LANES)

    def __call__(self, request_id: UUID, deadline: Deadline, *, client: str | None) -> Mapping[str, Any] | None:
        """A request of `client` (none: of anybody) with its deliveries, as the API shows it; none when there is none.

        Raises `DatabaseUnavailable`.
        """
        try:
            found = self._together.submit(request_id, deadline)
        except CommitUnknown as error:
            raise DatabaseUnavailable("The database is overloaded.") from error
        return found if found is not None and client in (None, found["client"]) else None

    def _find(self, ids: Sequence[UUID], deadline: Deadline) -> list[Mapping[str, Any] | None]:
        found: dict[UUID, dict[str, Any]] = {}
        parameters = _FIND_AT_ONCE.construct_params({"ids": list(set(ids))})
        for values in self._database.read_at_once(_FIND_AT_ONCE.string, parameters, deadline):
            row = dict(zip(_COLUMNS, values, strict=True))
            request = found.setdefault(row["id"], {**row, "deliveries": []})
            if row["channel"] is not None:
                request["deliveries"].append(_delivery(row))
        return [found.get(name) for name in ids]


def _delivery(row: Mapping[str, Any]) -> Mapping[str, Any]:
    is_held = row["held_at"] is not None
    error = {part: row[f"last_error_{part}"] for part in ("class", "code", "detail")}
    return {
        "purpose": row["purpose"],
        "event_version": row["event_version"],
        "channel": row["channel"],
        "step": row["step"],
        "state": row["state"],
        "attempts": row["attempt"],
        "next_attempt_at": row["next_attempt_at"] if row["check_at"] is not None and not is_held else None,
        "held": is_held,
        "receipt": row["receipt"],
        "last_error": error if error["class"] is not None else None,
    }
