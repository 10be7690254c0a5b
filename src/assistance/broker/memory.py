"""The broker contract inside one process: for `assistance up` and for tests.

It loses its messages with the process. That is safe there, because messages are only hints and the next start re-arms
every unfinished delivery.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from assistance.broker.contract import (
    Answer,
    Confirmation,
    ConnectionState,
    Message,
    Received,
    Subscription,
)
from assistance.broker.handling import HandlerPool
from assistance.broker.topology import DEAD_LETTER_QUEUE, EXCHANGE, topology_for
from assistance.runtime.clock import Deadline


class MemoryBroker:
    """Queues in memory, one per channel and one for dead letters. Thread-safe; they hold as many as memory does."""

    def __init__(self, channels: Iterable[str]) -> None:
        queues = topology_for(channels).queues
        self.lock = threading.RLock()
        self._routes = {queue.routing_key: queue.name for queue in queues if queue.exchange == EXCHANGE}
        self._ready: dict[str, deque[Received]] = {queue.name: deque() for queue in queues}
        self._consumers: dict[str, deque[_Consumer]] = {queue.name: deque() for queue in queues}

    def publisher(self) -> MemoryPublisher:
        """A new sending end."""
        return MemoryPublisher(self)

    def subscriber(self) -> MemorySubscriber:
        """A new receiving end."""
        return MemorySubscriber(self)

    def accept(self, messages: Sequence[Message]) -> list[Confirmation]:
        """Route every message to its queue."""
        with self.lock:
            confirmations = [self._route(message) for message in messages]
            for queue in {self._routes[m.routing_key] for m in messages if m.routing_key in self._routes}:
                self.dispatch(queue)
        return confirmations

    def attach(self, consumer: _Consumer) -> None:
        """Let a consumer take part in its queue.

        Raises `KeyError` when there is no such queue.
        """
        with self.lock:
            self._consumers[consumer.queue].append(consumer)
            self.dispatch(consumer.queue)

    def detach(self, consumer: _Consumer) -> None:
        """Take a consumer out and offer everything that it holds to the others."""
        with self.lock:
            if consumer in self._consumers[consumer.queue]:
                self._consumers[consumer.queue].remove(consumer)
            self.give_back(consumer.queue, consumer.release())

    def give_back(self, queue: str, messages: Iterable[Received]) -> None:
        """Put messages back at the head of their queue, in their order."""
        with self.lock:
            self._ready[queue].extendleft(replace(m, redelivered=True) for m in reversed(list(messages)))
            self.dispatch(queue)

    def dead_letter(self, received: Received) -> None:
        """Move a rejected message to the dead letter queue; from there it is dropped, as RabbitMQ does."""
        if received.queue == DEAD_LETTER_QUEUE:
            return
        first = {
            "x-first-death-reason": "rejected",
            "x-first-death-queue": received.queue,
            "x-first-death-exchange": EXCHANGE,
        }
        letter = replace(received, queue=DEAD_LETTER_QUEUE, headers={**received.headers, **first}, redelivered=False)
        with self.lock:
            self._ready[DEAD_LETTER_QUEUE].append(letter)
            self.dispatch(DEAD_LETTER_QUEUE)

    def dispatch(self, queue: str) -> None:
        """Hand waiting messages to the queue's consumers in turn, as far as their prefetch reaches."""
        with self.lock:
            ready, consumers = self._ready[queue], self._consumers[queue]
            idle = 0
            while ready and idle < len(consumers):
                if consumers[0].has_room:
                    consumers[0].take(ready.popleft())
                    idle = 0
                else:
                    idle += 1
                consumers.rotate(-1)

    def _route(self, message: Message) -> Confirmation:
        queue = self._routes.get(message.routing_key)
        if queue is None:
            return Confirmation.RETURNED
        received = Received(
            queue=queue,
            message_id=message.message_id,
            type=message.type,
            body=message.body,
            headers=dict(message.headers),
            redelivered=False,
        )
        self._ready[queue].append(received)
        return Confirmation.CONFIRMED


class MemoryPublisher:
    """The sending end; see the contract."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._closed = False

    @property
    def state(self) -> ConnectionState:
        """READY until it is closed."""
        return ConnectionState.CLOSED if self._closed else ConnectionState.READY

    def publish(self, messages: Sequence[Message], timeout_seconds: float) -> list[Confirmation]:  # noqa: ARG002
        """Publish all; the answers are there at once."""
        if self._closed:
            return [Confirmation.UNKNOWN] * len(messages)
        return self._broker.accept(messages)

    def reconnect(self, reason: str) -> None:
        """There is no connection that could be stuck."""

    def close(self) -> None:
        """Take no more messages."""
        self._closed = True


class _Consumer:
    """One subscription of one subscriber: its threads and the messages that they have not answered."""

    def __init__(self, broker: MemoryBroker, subscription: Subscription) -> None:
        self.queue = subscription.queue
        self._broker = broker
        self._numbers = 0
        self._unanswered: dict[int, Received] = {}
        self._left: list[int] = []
        self.pool: HandlerPool[int] = HandlerPool(subscription, self._answer)

    @property
    def has_room(self) -> bool:
        return not self.pool.paused and len(self._unanswered) < self.pool.prefetch

    def take(self, received: Received) -> None:
        self._numbers += 1
        self._unanswered[self._numbers] = received
        self.pool.submit(received, self._numbers)

    def release(self) -> list[Received]:
        """Give up everything that is not answered; answers that come later find nothing."""
        held = list(self._unanswered.values())
        self._unanswered.clear()
        self._left.clear()
        return held

    def pause(self) -> None:
        self.pool.pause()
        with self._broker.lock:
            self._give_back_waiting()

    def resume(self, at_most: int | None) -> None:
        with self._broker.lock:
            before = self.pool.prefetch
            self.pool.resume(at_most)
            if self.pool.prefetch < before:
                self._give_back_waiting()
            self._broker.dispatch(self.queue)

    def _give_back_waiting(self) -> None:
        numbers = sorted([*self.pool.withdraw(), *self._left])
        self._left.clear()
        self._broker.give_back(self.queue, [self._unanswered.pop(n) for n in numbers if n in self._unanswered])

    def _answer(self, number: int, answer: Answer) -> None:
        with self._broker.lock:
            if number not in self._unanswered:
                return
            if answer is Answer.LEAVE:
                if self.pool.paused:
                    self._broker.give_back(self.queue, [self._unanswered.pop(number)])
                else:
                    self._left.append(number)
                return
            received = self._unanswered.pop(number)
            if answer is Answer.REJECT:
                self._broker.dead_letter(received)
            self._broker.dispatch(self.queue)


class MemorySubscriber:
    """The receiving end; see the contract."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._state = ConnectionState.DISCONNECTED
        self._consumers: list[_Consumer] = []
        self._paused: set[str] = set()
        self._trickles: dict[str, int] = {}

    @property
    def state(self) -> ConnectionState:
        """READY from `start` to `stop`."""
        return self._state

    def start(self, subscriptions: Sequence[Subscription]) -> None:
        """Begin to receive."""
        self._consumers = [_Consumer(self._broker, subscription) for subscription in subscriptions]
        for consumer in self._consumers:
            consumer.pool.resume(self._trickles.get(consumer.queue))
            if consumer.queue in self._paused:
                consumer.pool.pause()
            self._broker.attach(consumer)
        self._state = ConnectionState.READY

    def in_hand(self, queues: Collection[str]) -> int:
        """How many messages of these queues wait here or are being handled."""
        return sum(consumer.pool.in_hand for consumer in self._consumers if consumer.queue in queues)

    def pause(self, queue: str) -> None:
        """Stop consuming one queue."""
        self._paused.add(queue)
        for consumer in self._consumers:
            if consumer.queue == queue:
                consumer.pause()

    def resume(self, queue: str, at_most: int | None = None) -> None:
        """Consume a paused queue again, perhaps as a trickle."""
        self._paused.discard(queue)
        self._trickles.pop(queue, None)
        if at_most is not None:
            self._trickles[queue] = at_most
        for consumer in self._consumers:
            if consumer.queue == queue:
                consumer.resume(at_most)

    def stop(self, timeout_seconds: float) -> bool:
        """Take no new messages, wait for the handlers in hand, and give back everything that is not answered."""
        deadline = Deadline.after(timeout_seconds)
        for consumer in self._consumers:
            consumer.pool.stop_taking()
        in_time = all(consumer.pool.wait_idle(deadline) for consumer in self._consumers)
        for consumer in self._consumers:
            self._broker.detach(consumer)
        self._state = ConnectionState.CLOSED
        return in_time
