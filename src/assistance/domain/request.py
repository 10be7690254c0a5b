"""The request for assistance: what a bot asked for, and where the telling stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID


class RequestStatus(StrEnum):
    """Where the telling stands. Changed only by `deliveries.transition`."""

    SCHEDULED = "scheduled"
    ACCEPTED = "accepted"
    DELIVERED = "delivered"
    UNDELIVERABLE = "undeliverable"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Handling(StrEnum):
    """What people did with the request, once they can answer."""

    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


class Author(StrEnum):
    """Who says something in a follow-up."""

    BOT = "bot"
    CUSTOMER = "customer"


class Priority(StrEnum):
    """How much the asker hurries; shown to people, never used to reorder deliveries."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    URGENT = "urgent"


@dataclass(frozen=True, kw_only=True, slots=True)
class Submission:
    """What a bot asks for, parsed and checked; the topic is trimmed and case-folded.

    The mappings hold JSON values under the names of docs/api.md; instants are aware.
    """

    topic: str
    description: str
    title: str | None = None
    priority: Priority = Priority.NORMAL
    customer: Mapping[str, Any] = field(default_factory=dict)
    bot: Mapping[str, Any] = field(default_factory=dict)
    conversation: Mapping[str, Any] = field(default_factory=dict)  # without its transcript
    transcript: Sequence[Mapping[str, Any]] = ()
    attachments: Sequence[Mapping[str, Any]] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    dedup_key: str | None = None
    not_before: datetime | None = None
    expires_at: datetime | None = None
    callback_url: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AssistanceRequest:
    """A stored request, as channels and readers see it."""

    id: UUID
    ref: str
    topic: str
    description: str
    created_at: datetime
    title: str | None = None
    priority: Priority = Priority.NORMAL
    customer: Mapping[str, Any] = field(default_factory=dict)
    bot: Mapping[str, Any] = field(default_factory=dict)
    conversation: Mapping[str, Any] = field(default_factory=dict)
    transcript: Sequence[Mapping[str, Any]] = ()
    attachments: Sequence[Mapping[str, Any]] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    not_before: datetime | None = None
