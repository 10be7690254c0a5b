"""What tests of the broker share: messages, handlers that tests can hold and release, and waiting for conditions."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from assistance.broker.contract import Answer, Message, Received, Subscription
from assistance.broker.topology import queue_of


def wait_until(condition: Callable[[], object], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "what the test waits for did not happen in time"
        time.sleep(0.005)


def stays(condition: Callable[[], object], seconds: float = 0.3) -> bool:
    """Whether the condition holds all the time; for promises that something does not happen."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not condition():
            return False
        time.sleep(0.005)
    return True


def message(message_id: str, channel: str = "one", body: bytes = b"{}", **headers: Any) -> Message:
    return Message(
        routing_key=channel,
        message_id=message_id,
        correlation_id="request",
        type="test.v1",
        body=body,
        timestamp=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        headers=headers,
    )


class Inbox:
    """A handler that remembers what it got; `hold` makes it wait, in the middle of a message, for `release`."""

    def __init__(self, answer: Answer = Answer.ACK, *, hold: bool = False) -> None:
        self.answer = answer
        self.begun: list[Received] = []
        self.ended: list[Received] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._gate = threading.Event()
        if not hold:
            self._gate.set()

    def __call__(self, received: Received) -> Answer:
        with self._lock:
            self.begun.append(received)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        assert self._gate.wait(60)
        with self._lock:
            self.ended.append(received)
            self._at_once -= 1
        return self.answer

    def release(self) -> None:
        self._gate.set()

    def ids(self) -> list[str | None]:
        with self._lock:
            return [received.message_id for received in self.begun]

    def counts(self) -> Counter[str | None]:
        return Counter(self.ids())

    def reads(self, channel: str = "one", workers: int = 2) -> Subscription:
        return Subscription(queue=queue_of(channel), workers=workers, handler=self)
