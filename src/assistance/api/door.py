"""What the API needs from the rest of the flow; bootstrap fills it in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from assistance.domain.answers import Accepted, IdempotencyKey
from assistance.domain.request import Submission
from assistance.runtime.clock import Deadline
from assistance.runtime.metrics import LazyCollector


class Submit(Protocol):
    """Store a submission; return once it is committed."""

    def __call__(
        self, submission: Submission, idempotency: IdempotencyKey | None, deadline: Deadline, *, client: str
    ) -> Accepted:
        """Raises `UnknownTopic`, `IdempotencyKeyReused`, `OutboxFull`, `DatabaseUnavailable` and `CommitUnknown`."""


class Find(Protocol):
    """Look a request up."""

    def __call__(self, request_id: UUID, deadline: Deadline, *, client: str | None) -> Mapping[str, Any] | None:
        """The request, or none when `client` (none: everybody) has no such request. Raises `DatabaseUnavailable`.

        Keys: id, ref, topic, status, handling (or none), state_version, created_at, updated_at, ended_at (or none)
        and deliveries: a sequence of mappings with channel, state, attempts, next_attempt_at, receipt (or none) and
        last_error (none, or a mapping with class, code and detail). Instants are aware datetimes.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class Dependency:
    """A server that the API leans on; without an `essential` one no request can be accepted.

    `check` answers none, or one sentence that says what is wrong, without secrets; it ends within a few seconds.
    """

    name: str
    check: Callable[[], str | None]
    essential: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Door:
    """Everything behind the HTTP door; called by many threads at once.

    `topics` names the configured topics, case-folded. `ready` says whether this installation should get calls now.
    Every call into the flow gets `deadline_seconds`.
    """

    submit: Submit
    find: Find
    topics: Callable[[], Sequence[str]]
    ready: Callable[[], bool]
    dependencies: Sequence[Dependency]
    collectors: Sequence[LazyCollector] = ()
    deadline_seconds: float = 5.0
