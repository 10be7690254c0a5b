"""What the flow may rely on from a message broker.

Every implementation passes the suites in tests/contract/test_broker*.py, sentence by sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """What travels: persistent, and routed to exactly one queue by `routing_key` (a channel's name)."""

    routing_key: str
    message_id: str
    correlation_id: str
    type: str
    body: bytes
    timestamp: datetime
    headers: Mapping[str, Any] = field(default_factory=dict)


class Confirmation(StrEnum):
    """What became of one published message."""

    CONFIRMED = "confirmed"  # the broker has it on disk, in a queue
    RETURNED = "returned"  # no queue takes it; a confirm that comes as well does not count
    NACKED = "nacked"  # the broker refused it
    UNKNOWN = "unknown"  # no answer in time, or contact was lost: it may or may not be there


class ConnectionState(StrEnum):
    """Where a connection to the broker stands; work is claimed only when it is READY."""

    DISCONNECTED = "disconnected"
    CONNECTING = "connecting"
    TOPOLOGY = "topology"
    READY = "ready"
    BLOCKED = "blocked"  # the broker raised a resource alarm and takes no messages
    CLOSED = "closed"


class Publisher(Protocol):
    """The sending end. It connects by itself, reconnects with a growing pause, and declares the topology."""

    @property
    def state(self) -> ConnectionState:
        """Where the connection stands now. Thread-safe."""

    def publish(self, messages: Sequence[Message], timeout_seconds: float) -> list[Confirmation]:
        """Publish all, wait for every answer, and return one confirmation per message, in order.

        Never raises for anything the broker or the network does: what has no answer by the time-out is UNKNOWN.
        """

    def reconnect(self, reason: str) -> None:
        """Drop the connection and build a new one: for a watchdog that sees no progress. Returns at once."""

    def close(self) -> None:
        """Close the connection. May be called twice."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Received:
    """A message as it came from a queue; `headers` hold what the broker added (such as `x-death`)."""

    queue: str
    message_id: str | None
    type: str | None
    body: bytes
    headers: Mapping[str, Any]
    redelivered: bool


class Answer(StrEnum):
    """What a handler tells the broker about a message."""

    ACK = "ack"  # done with: it leaves the queue
    REJECT = "reject"  # will never succeed: it goes to the dead letter queue
    LEAVE = "leave"  # nothing is said: it is given to somebody else once this queue is paused or the connection ends


Handler = Callable[[Received], Answer]


@dataclass(frozen=True, kw_only=True, slots=True)
class Subscription:
    """Which queue to read, how many handlers may run at once, and the handler.

    The prefetch is twice the workers. A handler that raises is a bug: it is logged and the message is acknowledged,
    because conciliation brings the delivery back while a redelivery would only fail again at once.
    """

    queue: str
    workers: int
    handler: Handler


class Subscriber(Protocol):
    """The receiving end. It connects by itself, reconnects, and declares the topology.

    Handlers run in threads of their own, so that a slow one never holds up heartbeats. An answer that comes after
    its connection was lost is dropped: the broker has given the message to somebody else.
    """

    @property
    def state(self) -> ConnectionState:
        """Where the connection stands now; READY means that every subscription is consuming. Thread-safe."""

    def start(self, subscriptions: Sequence[Subscription]) -> None:
        """Begin to receive; returns at once, also while the broker is away."""

    def in_hand(self, queues: Collection[str]) -> int:
        """How many messages of these queues were received whose handlers have not ended yet. Thread-safe."""

    def pause(self, queue: str) -> None:
        """Stop consuming one queue: once this returns, no handler begins a message of it.

        What was received and not begun, or left by its handler, goes back to the broker; handlers in hand end as
        usual. It lasts over reconnects, may be called before `start` and twice, and does not change the state.
        """

    def resume(self, queue: str, at_most: int | None = None) -> None:
        """Consume a paused queue again; may be called before `start` and twice.

        With `at_most` it is a trickle: no more messages than that are received and not answered, and no more handlers
        run, until a resume without it lifts the limit. Both may be said to a queue that is being consumed.
        """

    def stop(self, timeout_seconds: float) -> bool:
        """Take no new messages, wait for the handlers in hand, then close.

        True when every handler ended in time. May be called twice.
        """
