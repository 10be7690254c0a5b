"""A flow behind the API's door that keeps everything in memory: small, but it really stores and finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from flask import Flask

from assistance.api.app import create_app
from assistance.api.door import Customers, Dependency, Door
from assistance.api.waiting import WaitingRoom
from assistance.domain.allowance import Allowance
from assistance.domain.answers import Accepted, IdempotencyKey
from assistance.domain.caller import ANONYMOUS, Caller
from assistance.domain.errors import IdempotencyKeyReused, NotOpen, UnknownTopic
from assistance.domain.operator import Actor
from assistance.domain.request import Author, Submission
from assistance.privacy.customers import Customer
from assistance.privacy.erase import Erasure
from assistance.runtime.clock import Deadline
from assistance.runtime.ids import new_ref, uuid7
from assistance.status.watching import Watcher
from tests.described import compare_every_answer
from tests.memory_reading import MemoryReading
from tests.memory_webhooks import MemoryWebhooks

#: Inputs collected by others; tests that use them skip when the folder is not there.
CORPORA = Path(__file__).resolve().parents[2] / "shared" / "corpora"


class MemoryDoor:
    """Set `failure` to have the next calls fail with it, `errors` to have dependencies down."""

    def __init__(self) -> None:
        self.submitted: list[Submission] = []
        self.requests: dict[UUID, dict[str, Any]] = {}
        self.messages: list[tuple[UUID, str, Author]] = []
        self.keys: dict[str, tuple[bytes, Accepted]] = {}
        self.topics = ("sales", "pricing", "straße".casefold())
        self.failure: Exception | None = None
        self.errors: dict[str, str | None] = {"database": None, "broker": None}
        self.is_ready = True
        self.caller: Caller | Exception = ANONYMOUS
        self.deadlines: list[Deadline] = []
        self.admit: Callable[[str], Allowance | None] = lambda _client: None
        self.stranger_wait = 0.0
        self.customers = Customers(export=self.export, erase=self.erase)
        self.reading = MemoryReading(self)
        self.watcher = Watcher(self.reading.glances)
        self.webhooks = MemoryWebhooks()
        self.seats = 4

    def app(self) -> Flask:
        """The API in front of it; every answer is compared with its description."""
        app = create_app(self.door())
        compare_every_answer(app)
        return app

    def door(self) -> Door:
        """The door as it is; a test may replace parts of it."""
        return Door(
            submit=self.submit,
            find=self.find,
            acts=self,
            reading=self.reading.parts(),
            waiting=WaitingRoom(self.watcher, self.seats),
            authenticate=self.authenticate,
            webhooks=self.webhooks,
            topics=lambda: self.topics,
            ready=lambda: self.is_ready,
            customers=self.customers,
            admit=lambda client: self.admit(client),
            stranger_wait=lambda _address: self.stranger_wait,
            dependencies=[
                Dependency(name="database", check=lambda: self.errors["database"], essential=True),
                Dependency(name="broker", check=lambda: self.errors["broker"], essential=False),
            ],
        )

    def authenticate(self, authorization: str | None, deadline: Deadline) -> Caller:
        if isinstance(self.caller, Exception):
            raise self.caller
        return self.caller

    def submit(
        self, submission: Submission, idempotency: IdempotencyKey | None, deadline: Deadline, *, client: str
    ) -> Accepted:
        self.deadlines.append(deadline)
        if self.failure:
            raise self.failure
        if submission.topic not in self.topics:
            raise UnknownTopic(submission.topic, self.topics)
        if idempotency and idempotency.value in self.keys:
            return self._replay(idempotency)
        open_one = self._open_with(submission.dedup_key)
        if open_one is not None:
            joined = self.add(open_one, submission.description, Author.BOT, idempotency, deadline, client=client)
            assert joined is not None
            return joined
        now = datetime.now(UTC)
        accepted = Accepted(id=uuid7(), ref=new_ref(), topic=submission.topic, created_at=now)
        self.submitted.append(submission)
        self.requests[accepted.id] = {
            "id": accepted.id,
            "ref": accepted.ref,
            "topic": submission.topic,
            "title": submission.title,
            "priority": submission.priority,
            "customer_id": submission.customer.get("id"),
            "dedup_key": submission.dedup_key,
            "metadata": submission.metadata,
            "not_before": submission.not_before,
            "expires_at": submission.expires_at,
            "status": "accepted",
            "handling": None,
            "state_version": 1,
            "created_at": now,
            "updated_at": now,
            "ended_at": None,
            "deliveries": [
                {
                    "purpose": "notify",
                    "event_version": 1,
                    "channel": "sales-team",
                    "step": 0,
                    "state": "pending",
                    "attempts": 0,
                    "next_attempt_at": now,
                    "held": False,
                    "receipt": None,
                    "last_error": None,
                }
            ],
        }
        if idempotency:
            self.keys[idempotency.value] = (idempotency.fingerprint, accepted)
        return accepted

    def find(self, request_id: UUID, deadline: Deadline, *, client: str | None) -> Mapping[str, Any] | None:
        self.deadlines.append(deadline)
        if self.failure:
            raise self.failure
        return self.requests.get(request_id)

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
        if self.failure:
            raise self.failure
        found = self.requests.get(request_id)
        if found is None:
            return None
        if idempotency and idempotency.value in self.keys:
            return self._replay(idempotency)
        if found["status"] == "cancelled":
            raise NotOpen
        self.messages.append((request_id, text, author))
        found["state_version"] += 1
        words = {name: found[name] for name in ("id", "ref", "topic", "created_at", "status")}
        added = Accepted(**words, event_version=found["state_version"])
        if idempotency:
            self.keys[idempotency.value] = (idempotency.fingerprint, added)
        return added

    def cancel(
        self,
        request_id: UUID,
        reason: str | None,
        deadline: Deadline,
        *,
        client: str | None,
        operator: Actor | None,
    ) -> bool:
        if self.failure:
            raise self.failure
        if request_id not in self.requests:
            return False
        self.requests[request_id]["status"] = "cancelled"
        return True

    def export(self, customer: Customer) -> Iterator[Mapping[str, Any]]:
        """Nothing is stored about any customer."""
        if self.failure:
            raise self.failure
        yield {"exported": 0}

    def erase(self, customer: Customer, *, actor: str, go_on: Callable[[], bool]) -> Erasure:
        if self.failure:
            raise self.failure
        return Erasure()

    def _open_with(self, dedup_key: str | None) -> UUID | None:
        """The request that another one with this key joins."""
        of_key = (name for name, row in self.requests.items() if row["dedup_key"] == dedup_key and not row["ended_at"])
        return next(of_key, None) if dedup_key is not None else None

    def _replay(self, idempotency: IdempotencyKey) -> Accepted:
        fingerprint, first = self.keys[idempotency.value]
        if fingerprint != idempotency.fingerprint:
            raise IdempotencyKeyReused
        return replace(first, replayed=True)
