"""The audit log: who did what, to what, why, and what that changed. Written in the transaction of the act."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, insert, null

from assistance.domain.operator import Actor
from assistance.storage.plain import plain_json, plain_text
from assistance.storage.tables import audit

_LONGEST_REASON = 500

#: Small JSON objects: states and names, never what customers said.
State = Mapping[str, Any]


class Entry(NamedTuple):
    """One thing that an act was done to, and what that changed."""

    subject: object
    before: State | None = None
    after: State | None = None


def record(
    connection: Connection,
    actor: Actor,
    action: str,
    subject_kind: str,
    subject: object,
    *,
    before: State | None = None,
    after: State | None = None,
    reason: str | None = None,
    operation_id: UUID | None = None,
) -> None:
    """Write down one act, in the caller's transaction: an act that fails leaves no trace."""
    entry = Entry(subject, before, after)
    record_each(connection, actor, action, subject_kind, [entry], reason=reason, operation_id=operation_id)


def record_each(
    connection: Connection,
    actor: Actor,
    action: str,
    subject_kind: str,
    entries: Sequence[Entry],
    *,
    reason: str | None = None,
    operation_id: UUID | None = None,
) -> None:
    """The same for an act on several things at once."""
    shared = {
        "actor": plain_text(actor.name),
        "via": actor.via,
        "request_id": actor.request_id,
        "action": action,
        "subject_kind": subject_kind,
        "reason": plain_text(reason)[:_LONGEST_REASON] if reason else None,
        "operation_id": operation_id,
    }
    for entry in entries:
        states = {"before": _or_nothing(entry.before), "after": _or_nothing(entry.after)}
        connection.execute(insert(audit).values(**shared, subject=str(entry.subject), **states))


def _or_nothing(state: State | None) -> Any:
    # None would become the null of JSON, which is a value.
    return null() if state is None else plain_json(state)
