"""What crosses the door of the API: the key that makes a repeat harmless, and the answer to a submission."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, kw_only=True, slots=True)
class IdempotencyKey:
    """A caller's own name for one call, and the SHA-256 (32 bytes) of the call that it first came with."""

    value: str
    fingerprint: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Accepted:
    """A submission that is on disk. `replayed` says that an earlier call with the same key had stored it."""

    id: UUID
    ref: str
    topic: str
    created_at: datetime
    replayed: bool = False
    status: str = "accepted"
