"""The rows of the model: the columns that decide something, and how a row is copied before it is changed."""

from __future__ import annotations

from typing import NamedTuple

from assistance.domain.delivery import AttemptOutcome, DeliveryState, Purpose
from assistance.domain.request import RequestStatus
from assistance.domain.route import Step


class Hint(NamedTuple):
    """A message; `channel` is the queue that it travels through."""

    delivery: int
    series: int
    attempt: int
    channel: str


class Request:
    __slots__ = ("client", "created_at", "ended", "id", "status", "steps", "version")

    def __init__(self, number: int, client: int, steps: tuple[Step, ...] = (), now: float = 0.0) -> None:
        self.id = number
        self.client = client
        self.steps = steps  # none where there is no fallback
        self.created_at = now
        self.status = RequestStatus.ACCEPTED
        self.version = 1
        self.ended = False

    def copy(self) -> Request:
        row = Request(self.id, self.client, self.steps, self.created_at)
        row.status, row.version, row.ended = self.status, self.version, self.ended
        return row


class Delivery:
    __slots__ = ("attempt", "channel", "check_at", "error", "first_attempt_at", "held_at", "id", "lease_token",
                 "lease_until", "looks", "may_repeat", "next_attempt_at", "out_before", "purpose", "receipt",
                 "reconciled", "refunded", "request", "required", "series", "state", "step")  # fmt: skip

    def __init__(self, number: int, request: int, channel: str, now: float, check_at: float, step: int = 0) -> None:
        self.id = number
        self.request = request
        self.channel = channel
        self.purpose = Purpose.NOTIFY
        self.required = True
        self.step = step
        self.state = DeliveryState.PENDING
        self.series = 1
        self.attempt = self.refunded = self.looks = self.reconciled = 0
        self.first_attempt_at: float | None = None
        self.next_attempt_at = now
        self.lease_token: int | None = None
        self.lease_until: float | None = None
        self.check_at: float | None = check_at
        self.receipt = False
        self.error: str | None = None  # its code
        self.held_at: float | None = None
        self.may_repeat = False
        self.out_before = 0.0  # how long its channel had been out when its series began

    def copy(self) -> Delivery:
        row: Delivery = Delivery.__new__(Delivery)
        row.id, row.request, row.channel = self.id, self.request, self.channel
        row.purpose, row.required, row.step = self.purpose, self.required, self.step
        row.state, row.series, row.attempt, row.refunded = self.state, self.series, self.attempt, self.refunded
        row.looks, row.reconciled = self.looks, self.reconciled
        row.first_attempt_at, row.next_attempt_at = self.first_attempt_at, self.next_attempt_at
        row.lease_token, row.lease_until, row.check_at = self.lease_token, self.lease_until, self.check_at
        row.receipt, row.error, row.held_at, row.may_repeat = self.receipt, self.error, self.held_at, self.may_repeat
        row.out_before = self.out_before
        return row


class OutboxRow(NamedTuple):
    id: int
    hint: Hint
    available_at: float
    refusals: int = 0


class Attempt(NamedTuple):
    started_at: float
    outcome: AttemptOutcome = AttemptOutcome.SENDING
    receipt: bool = False


class Letter(NamedTuple):
    delivery: int
    series: int
    reason: str
    resolution: str | None = None


class Timer(NamedTuple):
    """When the next step of a request begins."""

    due_at: float
    step: int


class Key(NamedTuple):
    """An idempotency key, with the body that it first came with."""

    body: int
    request: int
