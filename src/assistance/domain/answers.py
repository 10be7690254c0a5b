"""What crosses the door of the API: the key that makes a repeat harmless, and the answer to a submission."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from assistance.domain.event import FIRST_EVENT


@dataclass(frozen=True, kw_only=True, slots=True)
class IdempotencyKey:
    """A caller's own name for one call, and the SHA-256 (32 bytes) of the call that it first came with."""

    value: str
    fingerprint: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Accepted:
    """A call that is on disk: a new request, or what was added to one (`event_version` says which event it made).

    `replayed` says that an earlier call with the same key had stored it.
    """

    id: UUID
    ref: str
    topic: str
    created_at: datetime
    replayed: bool = False
    status: str = "accepted"
    event_version: int = FIRST_EVENT
