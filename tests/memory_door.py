"""A flow behind the API's door that keeps everything in memory: small, but it really stores and finds."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from flask import Flask

from assistance.api.app import create_app
from assistance.api.door import Dependency, Door
from assistance.domain.answers import Accepted, IdempotencyKey
from assistance.domain.errors import IdempotencyKeyReused, UnknownTopic
from assistance.domain.request import Submission
from assistance.runtime.clock import Deadline
from assistance.runtime.ids import new_ref, uuid7

#: Inputs collected by others; tests that use them skip when the folder is not there.
CORPORA = Path(__file__).resolve().parents[2] / "shared" / "corpora"


class MemoryDoor:
    """Set `failure` to have the next calls fail with it, `errors` to have dependencies down."""

    def __init__(self) -> None:
        self.submitted: list[Submission] = []
        self.requests: dict[UUID, dict[str, Any]] = {}
        self.keys: dict[str, tuple[bytes, Accepted]] = {}
        self.topics = ("sales", "pricing", "straße".casefold())
        self.failure: Exception | None = None
        self.errors: dict[str, str | None] = {"database": None, "broker": None}
        self.is_ready = True
        self.deadlines: list[Deadline] = []

    def app(self) -> Flask:
        return create_app(
            Door(
                submit=self.submit,
                find=self.find,
                topics=lambda: self.topics,
                ready=lambda: self.is_ready,
                dependencies=[
                    Dependency(name="database", check=lambda: self.errors["database"], essential=True),
                    Dependency(name="broker", check=lambda: self.errors["broker"], essential=False),
                ],
            )
        )

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
        now = datetime.now(UTC)
        accepted = Accepted(id=uuid7(), ref=new_ref(), topic=submission.topic, created_at=now)
        self.submitted.append(submission)
        self.requests[accepted.id] = {
            "id": accepted.id,
            "ref": accepted.ref,
            "topic": submission.topic,
            "status": "accepted",
            "handling": None,
            "state_version": 1,
            "created_at": now,
            "updated_at": now,
            "ended_at": None,
            "deliveries": [
                {
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

    def _replay(self, idempotency: IdempotencyKey) -> Accepted:
        fingerprint, first = self.keys[idempotency.value]
        if fingerprint != idempotency.fingerprint:
            raise IdempotencyKeyReused
        return Accepted(id=first.id, ref=first.ref, topic=first.topic, created_at=first.created_at, replayed=True)
