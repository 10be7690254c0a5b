"""The receiving end on RabbitMQ: one AMQP channel and one pool of handler threads per subscription."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from assistance.broker.contract import Answer, ConnectionState, Received, Subscription
from assistance.broker.handling import HandlerPool
from assistance.broker.rabbitmq.address import parse_url
from assistance.broker.rabbitmq.connection import BrokerConnection
from assistance.broker.topology import topology_for
from assistance.runtime.clock import Deadline

log = structlog.get_logger()


#: How often a subscription compares what waits in its queue with what comes. Twice the wrong answer, and the
#: connection is rebuilt.
LOOK_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class _Ticket:
    """What an answer needs: a tag means something only on the AMQP channel that it came from."""

    amqp_channel: Any
    tag: int


class _Stream:
    """One subscription. Everything but its pool is touched by the I/O thread only."""

    def __init__(
        self, subscription: Subscription, connection: BrokerConnection, on_in_order: Callable[[], None]
    ) -> None:
        self.queue = subscription.queue
        self.pool: HandlerPool[_Ticket] = HandlerPool(subscription, self._answer)
        self.in_order = False  # consuming, or paused and not consuming
        self._connection = connection
        self._on_in_order = on_in_order
        self._amqp_channel: Any = None
        self._consumer_tag: str | None = None
        self._prefetch = 0  # of that consumer
        self._opening = False
        self._left: list[_Ticket] = []
        self._held = self._received = self._received_before = 0
        self._suspicious = False

    def open(self) -> None:
        """Consume, on the AMQP channel that there is or on a new one."""
        if self._amqp_channel is not None:
            self.adjust()
        elif not self._opening:
            self._opening = True
            self._connection.open_channel(self._use)

    def lost(self) -> None:
        """Forget everything that belonged to the lost connection; the broker offers it again."""
        self._amqp_channel, self._consumer_tag, self.in_order = None, None, False
        self._opening = self._suspicious = False
        self._held = 0
        self._left.clear()
        self.pool.withdraw()

    def adjust(self) -> None:
        """Consume or cancel, as the pool is paused or not, and no faster than it may."""
        if self._amqp_channel is None or not self._amqp_channel.is_open:
            return
        if self.pool.paused:
            self.cancel()
            self._settled()
        elif self._consumer_tag is None or self._prefetch != self.pool.prefetch:
            self._consume()
        else:
            self._on_in_order()

    def cancel(self) -> None:
        """Receive no more, and give back what no handler has begun and what handlers left."""
        if self._amqp_channel is None or not self._amqp_channel.is_open:
            return
        self._stop_consuming()  # before giving anything back, or the broker would offer it to this consumer again
        for ticket in sorted([*self.pool.withdraw(), *self._left], key=lambda t: t.tag):
            self._give_back(ticket)
        self._left.clear()

    def _consume(self) -> None:
        """Begin with a consumer of its own: a prefetch counts for those that begin after it."""
        self.in_order = False
        if self._consumer_tag is not None and self.pool.prefetch < self._prefetch:
            self.cancel()
        self._stop_consuming()
        self._prefetch = self.pool.prefetch
        self._amqp_channel.basic_qos(prefetch_count=self._prefetch)
        self._consumer_tag = self._amqp_channel.basic_consume(
            self.queue, self._on_message, callback=lambda _frame: self._settled()
        )

    def _stop_consuming(self) -> None:
        if self._consumer_tag is not None:
            self._amqp_channel.basic_cancel(self._consumer_tag, callback=lambda _frame: None)
            self._consumer_tag = None

    def _use(self, amqp_channel: Any) -> None:
        self._amqp_channel, self._opening = amqp_channel, False
        self._connection.later(LOOK_SECONDS, partial(self._look, amqp_channel))
        amqp_channel.add_on_cancel_callback(self._on_cancelled)
        self.adjust()

    def _settled(self) -> None:
        self.in_order = True
        self._on_in_order()

    def _on_cancelled(self, _frame: Any) -> None:
        log.warning("broker.consumer_cancelled", queue=self.queue)
        self._consumer_tag, self.in_order = None, False
        self._connection.redeclare()

    def _look(self, amqp_channel: Any) -> None:
        """Ask how many messages wait; that the queue is gone closes the AMQP channel, and everything is rebuilt."""
        if amqp_channel is self._amqp_channel and amqp_channel.is_open:
            amqp_channel.queue_declare(self.queue, passive=True, callback=self._on_looked)
            self._connection.later(LOOK_SECONDS, partial(self._look, amqp_channel))

    def _on_looked(self, frame: Any) -> None:
        nothing_came = self._consumer_tag is not None and not self._held and self._received == self._received_before
        suspicious = nothing_came and frame.method.message_count > 0
        if suspicious and self._suspicious:
            # Seen with RabbitMQ 3.10: a consumer that the queue lists and does not serve.
            self._connection.reconnect(f"messages wait in {self.queue} and do not come")
        self._received_before, self._suspicious = self._received, suspicious

    def _on_message(self, amqp_channel: Any, method: Any, properties: Any, body: bytes) -> None:
        received = Received(
            queue=self.queue,
            message_id=properties.message_id,
            type=properties.type,
            body=body,
            headers=properties.headers or {},
            redelivered=method.redelivered,
        )
        self._held += 1
        self._received += 1
        self.pool.submit(received, _Ticket(amqp_channel, method.delivery_tag))

    def _answer(self, ticket: _Ticket, answer: Answer) -> None:
        """Hand an answer over; called by a handler's thread."""
        self._connection.post(partial(self._settle, ticket, answer))

    def _settle(self, ticket: _Ticket, answer: Answer) -> None:
        if ticket.amqp_channel is not self._amqp_channel or not ticket.amqp_channel.is_open:
            log.info("broker.answer_dropped", queue=self.queue)
        elif answer is Answer.ACK:
            self._held -= 1
            ticket.amqp_channel.basic_ack(ticket.tag)
        elif answer is Answer.REJECT:
            self._held -= 1
            ticket.amqp_channel.basic_reject(ticket.tag, requeue=False)
        elif self.pool.paused:
            self._give_back(ticket)
        else:
            self._left.append(ticket)

    def _give_back(self, ticket: _Ticket) -> None:
        if ticket.amqp_channel is self._amqp_channel:
            self._held -= 1
            # A nack and not a reject: RabbitMQ 4.3 counts only the latter towards the delivery limit.
            ticket.amqp_channel.basic_nack(ticket.tag, requeue=True)


class RabbitSubscriber:
    """The receiving end; see the contract.

    Raises `SettingsError` when the URL is wrong.
    """

    def __init__(self, url: str, channels: Iterable[str]) -> None:
        self._streams: tuple[_Stream, ...] = ()
        self._paused: set[str] = set()
        self._trickles: dict[str, int] = {}
        self._connection = BrokerConnection(parse_url(url), topology_for(channels), "assistance-subscriber", self)

    @property
    def state(self) -> ConnectionState:
        """Where the connection stands now; not READY while a subscription has yet to consume."""
        state = self._connection.state
        if state is ConnectionState.READY and not all(stream.in_order for stream in self._streams):
            return ConnectionState.TOPOLOGY
        return state

    def start(self, subscriptions: Sequence[Subscription]) -> None:
        """Begin to receive."""
        self._streams = tuple(_Stream(each, self._connection, self._on_in_order) for each in subscriptions)
        for stream in self._streams:
            stream.pool.resume(self._trickles.get(stream.queue))
            if stream.queue in self._paused:
                stream.pool.pause()
        self._connection.start()

    def in_hand(self, queues: Collection[str]) -> int:
        """How many messages of these queues wait here or are being handled."""
        return sum(stream.pool.in_hand for stream in self._streams if stream.queue in queues)

    def pause(self, queue: str) -> None:
        """Stop consuming one queue."""
        self._paused.add(queue)
        for stream in self._streams_of(queue):
            stream.pool.pause()
            # Not `adjust`: a resume that follows at once must not keep what was left from being given back.
            self._connection.post(stream.cancel)

    def resume(self, queue: str, at_most: int | None = None) -> None:
        """Consume a paused queue again, perhaps as a trickle."""
        self._paused.discard(queue)
        self._trickles.pop(queue, None)
        if at_most is not None:
            self._trickles[queue] = at_most
        for stream in self._streams_of(queue):
            stream.pool.resume(at_most)
            self._connection.post(stream.adjust)

    def stop(self, timeout_seconds: float) -> bool:
        """Take no new messages, wait for the handlers in hand, then close."""
        deadline = Deadline.after(timeout_seconds)
        for stream in self._streams:
            stream.pool.stop_taking()
            self._connection.post(stream.cancel)
        in_time = all(stream.pool.wait_idle(deadline) for stream in self._streams)
        # The last answers were posted before this: they go out first.
        self._connection.close()
        return in_time

    def _streams_of(self, queue: str) -> list[_Stream]:
        return [stream for stream in self._streams if stream.queue == queue]

    # What follows runs in the I/O thread.

    def on_topology(self) -> None:
        """Let every subscription consume."""
        for stream in self._streams:
            stream.open()
        self._on_in_order()

    def on_lost(self) -> None:
        """Forget what was received; answers that come later are dropped."""
        for stream in self._streams:
            stream.lost()

    def _on_in_order(self) -> None:
        if all(stream.in_order for stream in self._streams):
            self._connection.become_ready()
