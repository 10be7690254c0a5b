"""What the API needs from the rest of the flow; bootstrap fills it in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from assistance.api.waiting import WaitingRoom
from assistance.domain.allowance import Allowance
from assistance.domain.answers import Accepted, IdempotencyKey
from assistance.domain.caller import ANONYMOUS, Caller
from assistance.domain.operator import Actor
from assistance.domain.request import Author, Submission
from assistance.domain.route import Route
from assistance.history.reading import Charts
from assistance.intake.routing import Plan
from assistance.privacy.customers import Customer
from assistance.privacy.erase import Erasure
from assistance.runtime.clock import Deadline
from assistance.runtime.metrics import LazyCollector
from assistance.sources.receive import Sources
from assistance.status.pages import Page, Wanted
from assistance.status.timeline import Timeline


class Submit(Protocol):
    """Store a submission; return once it is committed."""

    def __call__(
        self, submission: Submission, idempotency: IdempotencyKey | None, deadline: Deadline, *, client: str
    ) -> Accepted:
        """Raises `UnknownTopic`, `OutboxFull`, `QuotaExceeded`, `DatabaseUnavailable` and others of the intake."""


class Find(Protocol):
    """Look a request up."""

    def __call__(self, request_id: UUID, deadline: Deadline, *, client: str | None) -> Mapping[str, Any] | None:
        """The request, or none when `client` (none: everybody) has no such request. Raises `DatabaseUnavailable`.

        Keys: id, ref, topic, status, handling (or none), state_version, created_at, updated_at, ended_at (or none)
        and deliveries: a sequence of mappings with channel, state, attempts, next_attempt_at, receipt (or none) and
        last_error (none, or a mapping with class, code and detail). Instants are aware datetimes.
        """


class FindPage(Protocol):
    """Look a list up."""

    def __call__(self, wanted: Wanted, deadline: Deadline) -> Page:
        """The newest requests that are wanted. Raises `DatabaseUnavailable`."""


class FindTimeline(Protocol):
    """Look up what happened to a request."""

    def __call__(self, request_id: UUID, after: int, deadline: Deadline, *, client: str | None) -> Timeline | None:
        """The events after a version, or none when `client` has no such request. Raises `DatabaseUnavailable`."""


class ReadStats(Protocol):
    """Look the history up."""

    def __call__(
        self,
        since: datetime | None,
        until: datetime | None,
        deadline: Deadline,
        *,
        span_seconds: int | None,
        channel: str | None,
    ) -> Charts:
        """What happened between two instants. Raises `WindowMistake` and `DatabaseUnavailable`."""


class MakePlan(Protocol):
    """Find out what would become of a submission, without storing anything."""

    def __call__(self, submission: Submission, deadline: Deadline, *, client: str) -> Plan:
        """The plan. Raises what `Submit` raises before it stores something."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What callers may read beside single requests; `routes` says who is told of each configured topic."""

    page: FindPage
    timeline: FindTimeline
    plan: MakePlan
    stats: ReadStats
    routes: Callable[[], Mapping[str, Route]]


class EraseCustomer(Protocol):
    """Erase what is stored about a customer."""

    def __call__(self, customer: Customer, *, actor: str, go_on: Callable[[], bool]) -> Erasure:
        """What was done, and what was not. Raises `DatabaseUnavailable`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Customers:
    """What is stored about customers; the iterator of `export` raises `DatabaseUnavailable`."""

    export: Callable[[Customer], Iterator[Mapping[str, Any]]]
    erase: EraseCustomer


class Webhooks(Protocol):
    """What clients do with their webhooks; each sees its own only. All raise `DatabaseUnavailable`.

    A webhook is a mapping with id, url, events (or none), created_at, previous_until (or none), disabled_at (or none)
    and disabled_reason (or none).
    """

    def register(self, client: str, url: str, events: Sequence[str] | None, deadline: Deadline) -> Mapping[str, Any]:
        """The new webhook with its `secret`. Raises `UrlRefused`, `WebhookExists` and `TooManyWebhooks`."""

    def list(self, client: str, deadline: Deadline) -> Sequence[Mapping[str, Any]]:
        """The webhooks, the oldest first."""

    def remove(self, client: str, webhook_id: UUID, deadline: Deadline) -> bool:
        """Delete a webhook; false when there is none."""

    def rotate(self, client: str, webhook_id: UUID, deadline: Deadline) -> Mapping[str, Any] | None:
        """The webhook with its new `secret`; none when there is none."""

    def new_secret(self, client: str, deadline: Deadline) -> Mapping[str, Any]:
        """A new `secret` for callback URLs, and `previous_until`."""

    def test(self, client: str, webhook_id: UUID, deadline: Deadline) -> Mapping[str, Any] | None:
        """How a callback that was sent now went: delivered, http_status, detail; none when there is no webhook."""


class Authenticate(Protocol):
    """Find out who calls."""

    def __call__(self, authorization: str | None, deadline: Deadline) -> Caller:
        """The caller behind an `Authorization` header, or behind none.

        Raises `Unauthenticated`, `DatabaseUnavailable` and `IssuerUnavailable`.
        """


def everybody_is_anonymous(authorization: str | None, deadline: Deadline) -> Caller:  # noqa: ARG001 (asks nobody)
    """How callers are known where nobody has to say who he is."""
    return ANONYMOUS


def everybody_may_call(_client: str) -> Allowance | None:
    """How calls are counted where nobody has a limit."""
    return None


def nobody_waits(_address: str) -> float:
    """How refused credentials are counted where they are not."""
    return 0.0


class Acts(Protocol):
    """What a bot does with requests that exist. Both raise `DatabaseUnavailable` and `CommitUnknown`."""

    def add(
        self,
        request_id: UUID,
        text: str,
        author: Author,
        idempotency: IdempotencyKey | None,
        deadline: Deadline,
        *,
        client: str | None,
    ) -> Accepted | None:
        """Add to a request; none when `client` (none: everybody) has no such request.

        Raises `NotOpen` and `IdempotencyKeyReused`.
        """

    def cancel(
        self,
        request_id: UUID,
        reason: str | None,
        deadline: Deadline,
        *,
        client: str | None,
        operator: Actor | None,
    ) -> bool:
        """Call a request off; false when `client` (none: everybody) has no such request. Raises `NotCancellable`.

        `operator` acts where the request is not his own.
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

    `topics` names the configured topics, case-folded. `sandbox_is_elsewhere` shows `/sandbox` to callers who are not on
    this machine, because the sandbox is not either. `ready` says whether this installation should get calls now.
    Every call into the flow gets `deadline_seconds`. `admit` counts a call of a client, and says where that stands;
    `stranger_wait` counts a refused credential by its address, and says how many seconds that one has to wait.
    """

    submit: Submit
    find: Find
    acts: Acts
    reading: Reading
    waiting: WaitingRoom
    customers: Customers
    topics: Callable[[], Sequence[str]]
    ready: Callable[[], bool]
    dependencies: Sequence[Dependency]
    collectors: Sequence[LazyCollector] = ()
    deadline_seconds: float = 5.0
    authenticate: Authenticate = everybody_is_anonymous
    sandbox_is_elsewhere: bool = False
    sources: Sources | None = None
    webhooks: Webhooks | None = None
    admit: Callable[[str], Allowance | None] = everybody_may_call
    stranger_wait: Callable[[str], float] = nobody_waits
