"""The threads that run a subscription's handler, apart from the thread that talks to the broker."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

import structlog

from assistance.broker.contract import Answer, Received, Subscription
from assistance.runtime.clock import Deadline
from assistance.runtime.metrics import handler_failures

log = structlog.get_logger()

#: Messages that a consumer may hold per worker: one in hand and one waiting, so that no worker waits for the network.
PREFETCH_PER_WORKER = 2

Ticket = TypeVar("Ticket")


class HandlerPool(Generic[Ticket]):
    """A fixed number of threads that take messages in the order they came.

    A ticket is whatever the broker's side needs to answer a message; it is given back with the answer. The threads
    are daemons: a handler that never ends must not keep the process from ending.
    """

    def __init__(self, subscription: Subscription, answer: Callable[[Ticket, Answer], None]) -> None:
        self.queue = subscription.queue
        self._workers = subscription.workers
        self._at_most: int | None = None
        self._handler = subscription.handler
        self._answer = answer
        lock = threading.Lock()
        self._changed, self._idle = threading.Condition(lock), threading.Condition(lock)
        self._waiting: deque[tuple[Received, Ticket]] = deque()
        self._busy = 0
        self._paused = False
        self._stopping = False
        for number in range(subscription.workers):
            threading.Thread(target=self._run, name=f"{self.queue}-{number}", daemon=True).start()

    @property
    def prefetch(self) -> int:
        """How many messages the broker may hand over before one is answered."""
        return self._workers * PREFETCH_PER_WORKER if self._at_most is None else self._at_most

    @property
    def paused(self) -> bool:
        """Whether messages wait instead of being begun."""
        return self._paused

    @property
    def in_hand(self) -> int:
        """How many messages wait or are being handled."""
        return len(self._waiting) + self._busy

    def pause(self) -> None:
        """Begin no message from now on; those in hand end as usual."""
        with self._changed:
            self._paused = True

    def resume(self, at_most: int | None = None) -> None:
        """Begin messages again, with `at_most` no more than that at once."""
        with self._changed:
            self._paused, self._at_most = False, at_most
            self._changed.notify_all()

    def submit(self, received: Received, ticket: Ticket) -> None:
        """Queue a message. Never blocks: the broker's prefetch bounds how many there can be."""
        with self._changed:
            self._waiting.append((received, ticket))
            self._changed.notify()

    def withdraw(self) -> list[Ticket]:
        """Take back every message that no thread has begun; its tickets, in the order the messages came."""
        with self._changed:
            tickets = [ticket for _, ticket in self._waiting]
            self._waiting.clear()
            return tickets

    def stop_taking(self) -> None:
        """Begin no message any more, for good; the threads end with the message in hand."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def wait_idle(self, deadline: Deadline) -> bool:
        """Wait until no handler is running and every answer was handed over; false when the deadline came first."""
        with self._idle:
            return self._idle.wait_for(lambda: self._busy == 0, deadline.remaining())

    def _run(self) -> None:
        while (item := self._next()) is not None:
            received, ticket = item
            try:
                self._answer(ticket, self._handle(received))
            finally:
                # This thread looks for the next message itself: waking the others would only cost them time.
                with self._idle:
                    self._busy -= 1
                    self._idle.notify_all()

    def _next(self) -> tuple[Received, Ticket] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or (self._waiting and not self._paused and self._has_hands()))
            if self._stopping:
                return None
            self._busy += 1
            return self._waiting.popleft()

    def _has_hands(self) -> bool:
        return self._at_most is None or self._busy < self._at_most

    def _handle(self, received: Received) -> Answer:
        try:
            return self._handler(received)
        except Exception:
            # Acknowledged on purpose: conciliation brings the delivery back, a redelivery would fail again at once.
            handler_failures.inc()
            log.exception("broker.handler_failed", queue=self.queue, message_id=received.message_id)
            return Answer.ACK
